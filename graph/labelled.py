"""Labelled examples from a file of the user's own: user, item, label, and any further columns of numbers.

They are read as edges are: from any sort of edge file, ids exactly, faults with their place.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32

from bundle.errors import EdgeFileError
from bundle.progress import SilentStage
from graph import columns
from graph.edge_file import listed, near_name, quoted
from graph.edge_reader import Convert, converted
from graph.files import open_edge_file

NEEDED = ("user", "item", "label")
# How pandas writes a frame's index, unless told not to. It is no feature, and often knows the label: frames are put
# together label by label.
INDEX = re.compile(r"__index_level_\d+__")


class LabelledFile(NamedTuple):
    """What one file holds, in external ids; `names` are the columns of `others`."""

    users: tuple[str, ...]
    items: tuple[str, ...]
    labels: Bool[npt.NDArray[np.bool_], " n"]
    others: Float32[npt.NDArray[np.float32], "n f"]
    names: tuple[str, ...]


def read_labelled(path: Path) -> LabelledFile:
    """Read a file with the columns user, item, label (0 or 1) and others, all numbers.

    Raises EdgeFileError naming the file, the place and what was expected.
    """
    if not path.is_file():
        raise EdgeFileError(f"{path} {'is no file' if path.exists() else 'does not exist'}. Name a file of examples.")
    file = open_edge_file(path, None)
    names = file.names(NEEDED)
    for name in NEEDED:
        if names and name not in names:
            near = near_name(name, names)
            advice = f"Call {quoted(near)} so" if near else "Add it, or a header line"
            raise EdgeFileError(f"{path} lacks the column {name!r}; it has {listed(names)}. {advice}.")
    others = tuple(name for name in names if name not in NEEDED and INDEX.fullmatch(name) is None)
    converts: dict[str, Convert] = {"user": columns.string_ids, "item": columns.string_ids, "label": columns.labels}
    converts |= dict.fromkeys(others, columns.numbers)
    parts: dict[str, list[Any]] = {name: [] for name in converts}
    first = 0
    for batch in file.batches(list(converts), SilentStage()):
        for name, convert in converts.items():
            parts[name].append(converted(file, first, name, batch.column(name), convert))
        first += batch.num_rows
    if first == 0:
        raise EdgeFileError(f"{path} holds no examples. Write a row for each: user, item, label.")
    return LabelledFile(
        users=_texts(parts["user"]),
        items=_texts(parts["item"]),
        labels=np.concatenate(parts["label"]),
        others=np.stack([np.concatenate(parts[name]) for name in others], axis=1)
        if others
        else np.zeros((first, 0), dtype=np.float32),
        names=others,
    )


def _texts(parts: list[Any]) -> tuple[str, ...]:
    return tuple(value.decode() for part in parts for value in part.to_pylist())

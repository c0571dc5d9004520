"""Labelled examples from a file: user, item, label, and any further columns of numbers."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.errors import UsageError
from bundle.ids import IdTable
from evaluation.ranking import Labelled

NEEDED = ("user", "item", "label")


def read_labelled(path: Path, users: IdTable, items: IdTable) -> Labelled:
    """Read a CSV (or, by its name, TSV) file with a header. Labels are 0 or 1.

    A user or item without an embedding is row -1, the zero row of `with_absent`. Raises UsageError naming the line.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            others = _other_columns(path, reader.fieldnames or [])
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read: {error}. Expected CSV or TSV with a header.") from error
    if not rows:
        raise UsageError(f"{path} has a header and no examples.")
    return Labelled(
        users=users.rows([row["user"] for row in rows]),
        items=items.rows([row["item"] for row in rows]),
        labels=np.array([_label(path, line, row["label"]) for line, row in enumerate(rows, start=2)]),
        others=_numbers(path, rows, others),
    )


def with_absent(vectors: Float32[npt.NDArray[np.float32], "n d"]) -> Float32[npt.NDArray[np.float32], "n_plus_1 d"]:
    """The vectors and a row of zeros at the end, which row -1 finds."""
    return np.concatenate([vectors, np.zeros((1, vectors.shape[1]), dtype=np.float32)])


def split_by_user(examples: Labelled, share: float, rng: np.random.Generator) -> tuple[Labelled, Labelled]:
    """Two parts without a user in common: the second has about `share` of the users."""
    known = np.unique(examples.users)
    second = np.isin(examples.users, known[rng.random(len(known)) < share])
    return _part(examples, ~second), _part(examples, second)


def _part(examples: Labelled, chosen: npt.NDArray[np.bool_]) -> Labelled:
    return Labelled(examples.users[chosen], examples.items[chosen], examples.labels[chosen], examples.others[chosen])


def _other_columns(path: Path, columns: Sequence[str]) -> list[str]:
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        found = ", ".join(columns) or "none"
        raise UsageError(
            f"{path} lacks the column {missing[0]!r}; its columns are: {found}. Expected user, item, label."
        )
    return [name for name in columns if name not in NEEDED]


def _label(path: Path, line: int, text: str) -> bool:
    if text not in ("0", "1"):
        raise UsageError(f"{path}, line {line}: label is {text!a:.20}; expected 0 or 1.")
    return text == "1"


def _numbers(
    path: Path, rows: Sequence[dict[str, str]], columns: Sequence[str]
) -> Float32[npt.NDArray[np.float32], "n f"]:
    values = np.zeros((len(rows), len(columns)), dtype=np.float32)
    for line, row in enumerate(rows):
        for position, column in enumerate(columns):
            try:
                values[line, position] = float(row[column])
            except (TypeError, ValueError):
                found = f"{row[column]!a:.20}"
                raise UsageError(f"{path}, line {line + 2}: {column} is {found}; expected a number.") from None
    return values

"""What Spark's executors run of ours: the reader of edge files, one file a task.

Spark's own readers of text take other lines for edges than ours does (quotes, escapes, blank lines, nulls), know no
place of a row and no line of a fault. So files are read here as everywhere, and Spark gets columns of numbers and text.
"""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bundle import errors
from bundle.errors import TwhinError
from bundle.progress import SilentStage
from graph.edge_reader import EdgeBatch, EdgeReader
from graph.files import InputFile, called, local, open_edge_file
from storage.address import is_url

# A position in the order of files: the number of the file, and of the row in it.
ROW_BITS = 40
_REFUSAL = re.compile(r"twhin-refused:([A-Za-z0-9_=-]+):")


class Refused(Exception):
    """An error of ours on its way through Spark, which passes on nothing but text."""

    def __init__(self, kind: type[TwhinError], message: str) -> None:
        said = json.dumps([kind.__name__, message]).encode()
        super().__init__(f"twhin-refused:{base64.urlsafe_b64encode(said).decode()}:")


def refusal(text: str) -> TwhinError | None:
    """The error of ours that Spark's message carries, if any."""
    found = _REFUSAL.search(text)
    if found is None:
        return None
    name, message = json.loads(base64.urlsafe_b64decode(found[1]))
    kind = getattr(errors, name, TwhinError)
    return kind(message) if issubclass(kind, TwhinError) else TwhinError(message)


@dataclass(frozen=True, slots=True)
class FileReader:
    """Reads the files whose numbers come in: columns pos, src, dst, and what else the relation has.

    `names` are URLs and paths, those perhaps relative to the folder `base`.
    """

    reader: EdgeReader
    base: Path
    names: tuple[str, ...]

    @property
    def schema(self) -> str:
        """The columns, as Spark declares them."""
        kinds = {"int64": "long", "string": "string"}
        columns = {"pos": "long", "src": kinds[self.reader.source], "dst": kinds[self.reader.target]}
        spec, held_out = self.reader.spec, self.reader.held_out
        if spec.relation_column is not None:
            columns["name"] = "string"
        if spec.weight is not None and not held_out:
            columns["weight"] = "double"
        if spec.time is not None and not held_out:
            columns["time"] = "long"
        return ", ".join(f"{name} {kind}" for name, kind in columns.items())

    def __call__(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The edges of each file, as Arrow record batches."""
        for batch in batches:
            for number in batch.column(0).to_pylist():
                name = self.names[number]
                try:
                    yield from self._edges(number, _input(self.base, name))
                except TwhinError as error:
                    raise Refused(type(error), str(error).replace(str(self.base / name), name)) from error

    def _edges(self, number: int, source: InputFile) -> Iterator[Any]:
        row = number << ROW_BITS
        with local(source) as path, called(source, path):
            file = open_edge_file(path, self.reader.spec.columns)
            for edges in self.reader.file_batches(file, SilentStage()):
                yield _arrow(row, edges)
                row += len(edges)


def _input(base: Path, name: str) -> InputFile:
    if not is_url(name):
        return base / name
    from storage.files import find_file

    return find_file(name)


def _arrow(first: int, edges: EdgeBatch) -> Any:
    columns = {"pos": pa.array(np.arange(first, first + len(edges), dtype=np.int64))}
    given = {"src": edges.src, "dst": edges.dst, "name": edges.relation, "weight": edges.weight, "time": edges.time}
    for name, values in given.items():
        if values is not None:
            numbers = isinstance(values, np.ndarray)
            columns[name] = pa.array(values) if numbers else values.cast(pa.large_string()).cast(pa.string())
    return pa.record_batch(list(columns.values()), names=list(columns))

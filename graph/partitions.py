"""Columns that stand in the names of folders: the files of `likes/dt=2026-01-31/` have a column `dt`."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import pyarrow as pa

from bundle.progress import Stage
from graph.edge_file import EdgeFile

# What Hive and Spark write in place of null.
_NULL = "__HIVE_DEFAULT_PARTITION__"


def partition_values(path: Path) -> dict[str, bytes | None]:
    """What the folders above `path`, and above what it links to, say that are called `name=value`.

    The innermost counts, and that of the path before that of the link's target.
    """
    folders = (*path.resolve().parent.parts, *path.parent.parts)
    pairs = [folder.split("=", 1) for folder in folders if "=" in folder]
    return {
        unquote(name): None if value == _NULL else unquote_to_bytes(os.fsencode(value)) for name, value in pairs if name
    }


@dataclass(frozen=True, slots=True)
class PartitionedEdgeFile:
    """An edge file in folders that hold further columns. Where the file has a column of that name, that one counts."""

    file: EdgeFile
    values: Mapping[str, bytes | None]  # which may be no UTF-8

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.file.path

    def names(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """The columns of the file, then those of the folders."""
        names = self.file.names([name for name in wanted if name not in self.values])
        return (*names, *(name for name in self.values if name not in names)) if names else ()

    def batches(self, columns: Sequence[str], stage: Stage) -> Iterator[Any]:
        """The file's batches, with the columns of the folders added as text."""
        added = [name for name in columns if name in self.values]
        if added:
            own = self.file.names([name for name in columns if name not in self.values])
            added = [name for name in added if name not in own]
        for batch in self.file.batches([name for name in columns if name not in added], stage):
            arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
            for name in added:
                value = pa.scalar(self.values[name], type=pa.large_binary())
                arrays[name] = pa.repeat(value, batch.num_rows)
            yield pa.record_batch([arrays[name] for name in columns], names=list(columns))

    def places(self, rows: Sequence[int]) -> list[str]:
        """As the file says."""
        return self.file.places(rows)

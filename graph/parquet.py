"""Edge files in Parquet, read in batches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from bundle.disk import has_remedy
from bundle.errors import EdgeFileError
from bundle.progress import Stage
from graph.edge_file import check_columns, one_line

# What pyarrow raises over a damaged file; names of columns may be no UTF-8.
_UNREADABLE = (pa.ArrowException, OSError, UnicodeError)
# How its words begin over one whose footer or columns are encrypted.
_ENCRYPTED = ("Could not read encrypted metadata", "Cannot decrypt ", "Column is noted as encrypted")
# Rows of a batch, which is worth its overhead: fewer gained nothing, four times as many cost more CPU time
# (docs/benchmarks-log.md). Perhaps since a column of them is less than what the allocator gives back to the system
# at once (bundle/allocator.py).
BATCH_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class ParquetEdgeFile:
    """A Parquet file."""

    path: Path

    def names(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """The columns of the file, nested ones by the name of the whole."""
        with self._opened() as file:
            return tuple(file.schema_arrow.names)

    def batches(self, columns: Sequence[str], stage: Stage) -> Iterator[Any]:
        """Read the named columns, BATCH_ROWS rows at a time."""
        with self._opened() as file:
            check_columns(self.path, columns, file.schema_arrow.names)
            size, rows, done = self.path.stat().st_size, file.metadata.num_rows, 0
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns)):
                stage.advance(size * batch.num_rows // max(rows, 1))
                done += batch.num_rows
                yield batch
            if done != rows:
                raise pa.ArrowInvalid(f"it holds {done} rows, its footer says {rows}")

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            with pa.parquet.ParquetFile(
                self.path,
                pre_buffer=False,  # it would hold the whole file in memory
                page_checksum_verification=True,
                # In nanoseconds, as pyarrow has it, times before 1678 and from 2262 on are others: Spark writes such.
                coerce_int96_timestamp_unit="us",
            ) as file:
                yield file
        except _UNREADABLE as error:
            if has_remedy(error):
                raise
            encrypted = str(error).startswith(_ENCRYPTED)
            advice = (
                "It is encrypted, which is not read: write it without encryption." if encrypted else "Write it again."
            )
            raise EdgeFileError(f"{self.path} is not a readable Parquet file: {one_line(error)}. {advice}") from error

    def places(self, rows: Sequence[int]) -> list[str]:
        """Rows are counted from 1."""
        return [f"row {row + 1}" for row in rows]

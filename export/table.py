"""What is exported of one entity type: columns of arrays, a few thousand rows at a time, so that memory is bounded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64

from bundle.arrays import forget_pages
from bundle.csr import Csr
from bundle.errors import UsageError
from bundle.ids import IntIds
from bundle.space import Bundle, EntityTable, Space

Column = Literal["vector", "decoded", "codes", "cluster", "mixture"]
COLUMNS: tuple[Column, ...] = get_args(Column)
ROWS_AT_ONCE = 16_384

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a type: `ids` int64 [n] or strings, and the columns; mixtures as a Csr of their rows."""

    ids: Int64[npt.NDArray[np.int64], " n"] | list[str]
    columns: dict[str, Array | Csr]

    def __len__(self) -> int:
        return len(self.ids)

    def texts(self) -> list[str]:
        """The ids as strings."""
        return self.ids if isinstance(self.ids, list) else list(map(str, self.ids.tolist()))


@dataclass(frozen=True, slots=True)
class ExportedTable:
    """The chosen columns of one type of a version. Of `mixtures` each is a column: `mixture`, and where users have
    interests in several types of targets `mixture_<type>` for each but the first."""

    bundle: Bundle
    space: Space
    table: EntityTable
    columns: tuple[str, ...]
    mixtures: Mapping[str, Csr] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The entity type."""
        return self.table.name

    def __len__(self) -> int:
        return len(self.table)

    @property
    def integers(self) -> bool:
        """Whether ids are integers."""
        return isinstance(self.table.ids, IntIds)

    def width(self, column: str) -> int:
        """Numbers a row."""
        if column == "codes":
            return 0 if self.table.codes is None else int(self.table.codes.shape[1])
        return self.table.dim

    def about(self) -> dict[str, str]:
        """What says in a file where it is from."""
        return {
            "twhin.version": self.bundle.version,
            "twhin.space": self.space.name,
            "twhin.type": self.name,
            "twhin.created": self.bundle.manifest.created.isoformat(),
        }

    def parts(self) -> Iterator[Part]:
        """All rows in their order, some at a time."""
        for start in range(0, len(self), ROWS_AT_ONCE):
            yield self.part(np.arange(start, min(start + ROWS_AT_ONCE, len(self)), dtype=np.int64))
            for array in (self.table.vectors, self.table.codes):
                forget_pages(array)

    def part(self, rows: Int64[npt.NDArray[np.int64], " n"]) -> Part:
        """Some rows."""
        ids = self.table.ids
        named = ids.values[rows] if isinstance(ids, IntIds) else ids.externals(rows)
        return Part(named, {column: self._column(column, rows) for column in self.columns})

    def _column(self, column: str, rows: Int64[npt.NDArray[np.int64], " n"]) -> Array | Csr:
        table, clusters = self.table, self.space.clusters
        if column == "vector":
            return np.ascontiguousarray(_rows(table.embeddings, rows))
        if column == "cluster":
            return np.asarray(clusters.assignment[self.name][rows])
        if column in self.mixtures:
            return _modes(self.mixtures[column], rows)
        if table.codes is None or table.quantizer is None:
            raise UsageError(f"{self.bundle.version} has no {column} of {self.name}.")
        codes = np.ascontiguousarray(_rows(table.codes, rows))
        return codes if column == "codes" else table.quantizer.decode(codes)


def _rows(array: Array, rows: Int64[npt.NDArray[np.int64], " n"]) -> Array:
    """Rows of a mapped array; those that follow one another are a view, which costs no copy."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
        return array[rows[0] : rows[-1] + 1]
    return array[rows]


def _modes(mixtures: Csr, rows: Int64[npt.NDArray[np.int64], " n"]) -> Csr:
    weights = [mixtures.row_weights(row) for row in rows.tolist()]
    taken = mixtures.take(rows)
    return Csr(taken.indptr, taken.indices, np.concatenate([np.empty(0, np.float32), *weights]))


def chosen(bundle: Bundle, space: str | None, types: Sequence[str], columns: Sequence[str]) -> list[ExportedTable]:
    """The types to export, all by default, with those of `columns` that each has. Raises UsageError when one has none
    of them, QueryError for a type or a space that is not there.
    """
    for column in columns:
        if column not in COLUMNS:
            raise UsageError(f"{column!a:.40} is no column. There are: {', '.join(COLUMNS)}.")
    opened = bundle.space(space)
    tables = [opened.table(name) for name in dict.fromkeys(types or opened.entities)]
    chosen = []
    for table in tables:
        mixtures = _mixtures(opened, table) if "mixture" in columns else {}
        had = tuple(column for column in COLUMNS if column in columns and _has(opened, table, column))
        if not had and not mixtures:
            raise UsageError(
                f"{bundle.version} has no {' and no '.join(columns)} of {table.name}. Name other --columns, or with "
                "--type the types that have them."
            )
        chosen.append(ExportedTable(bundle, opened, table, (*had, *mixtures), mixtures))
    return chosen


def _has(space: Space, table: EntityTable, column: Column) -> bool:
    if column in ("decoded", "codes"):
        return table.codes is not None
    if column == "cluster":
        return table.name in space.clusters.assignment
    return column == "vector"


def _mixtures(space: Space, table: EntityTable) -> dict[str, Csr]:
    own = [one for one in space.clusters.interests if one.entry.user_type == table.name]
    return {f"mixture_{one.entry.types[0]}" if n else "mixture": one.mixtures for n, one in enumerate(own)}

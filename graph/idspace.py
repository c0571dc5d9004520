"""The distinct ids of an entity type, collected batch by batch; memory grows with entities, never with edges."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

import engine
from bundle.ids import IdKind, IdTable, IntIds, StringIds
from bundle.scratch import RawColumn
from graph.interned import InternedNumbers, InternedTexts
from graph.spool import IdSpool, IntSpool, StringSpool, distinct, string_buffers

# Ids that wait before they are merged, at least.
MERGE_IDS = 1 << 21


@runtime_checkable
class IdSpace(Protocol):
    """Ids being collected."""

    def spool(self, directory: Path, name: str) -> IdSpool:
        """A column of ids of this type, in files of `directory` that begin with `name`."""
        ...

    def table(self) -> IdTable:
        """All ids, ascending; none is added after."""
        ...


def id_space(kind: IdKind) -> IdSpace:
    """An empty space for ids of `kind`."""
    if engine.available():
        return InternedNumbers() if kind == "int64" else InternedTexts()
    return IntSpace() if kind == "int64" else StringSpace()


@dataclass(slots=True)
class _Pending:
    """Batches not yet merged: they are merged when they outweigh what is merged, so the work stays n log n."""

    batches: list[Any] = field(default_factory=list)
    count: int = 0

    def add(self, ids: Any, merged: int) -> bool:
        self.batches.append(ids)
        self.count += len(ids)
        return self.count >= max(MERGE_IDS, merged)

    def take(self) -> list[Any]:
        batches, self.batches, self.count = self.batches, [], 0
        return batches


@dataclass(slots=True)
class IntSpace:
    """Distinct integer ids."""

    merged: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    pending: _Pending = field(default_factory=_Pending)

    def spool(self, directory: Path, name: str) -> IdSpool:
        """A column of ids."""
        return IntSpool(self, RawColumn(directory / f"{name}.ids", np.int64))

    def add(self, ids: Any) -> None:
        """Take in the ids of one batch."""
        if self.pending.add(ids, len(self.merged)):
            self._merge()

    def table(self) -> IdTable:
        """All ids, ascending."""
        if self.pending.batches:
            self._merge()
        return IntIds(self.merged)

    def _merge(self) -> None:
        self.merged = distinct(np.concatenate([self.merged, *self.pending.take()]))


@dataclass(slots=True)
class StringSpace:
    """Distinct string ids."""

    merged: Any = field(default_factory=lambda: pa.array([], type=pa.large_binary()))
    pending: _Pending = field(default_factory=_Pending)
    sorted: StringIds | None = None

    def spool(self, directory: Path, name: str) -> IdSpool:
        """A column of ids."""
        return StringSpool(
            self,
            RawColumn(directory / f"{name}.codes", np.int32),
            RawColumn(directory / f"{name}.lengths", np.int32),
            RawColumn(directory / f"{name}.utf8", np.uint8),
        )

    def add(self, ids: Any) -> None:
        """Take in the ids of one batch."""
        if self.pending.add(ids, len(self.merged)):
            self._merge()

    def table(self) -> IdTable:
        """All ids, ascending by bytes."""
        if self.sorted is None:
            self._merge()
            self.sorted = StringIds(*string_buffers(self.merged.take(pc.array_sort_indices(self.merged))))
            self.merged = self.merged[:0]
        return self.sorted

    def _merge(self) -> None:
        self.merged = pc.unique(pa.chunked_array([self.merged, *self.pending.take()]))

"""The distinct ids of an entity type, collected batch by batch; memory grows with entities, never with edges."""

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bundle.ids import IdKind, IdTable, IntIds, StringIds
from graph.spool import distinct, string_buffers

# Ids that wait before they are merged, at least.
MERGE_IDS = 1 << 21


@runtime_checkable
class IdSpace(Protocol):
    """Ids being collected."""

    def add(self, ids: Any) -> None:
        """Take in the distinct ids of one batch."""
        ...

    def table(self, name: str) -> IdTable:
        """All ids, ascending."""
        ...


def id_space(kind: IdKind) -> IdSpace:
    """An empty space for ids of `kind`."""
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

    def add(self, ids: Any) -> None:
        """Take in the ids of one batch."""
        if self.pending.add(ids, len(self.merged)):
            self._merge()

    def table(self, name: str) -> IdTable:
        """All ids, ascending."""
        self._merge()
        return IntIds(self.merged)

    def _merge(self) -> None:
        self.merged = distinct(np.concatenate([self.merged, *self.pending.take()]))


@dataclass(slots=True)
class StringSpace:
    """Distinct string ids."""

    merged: Any = field(default_factory=lambda: pa.array([], type=pa.large_binary()))
    pending: _Pending = field(default_factory=_Pending)

    def add(self, ids: Any) -> None:
        """Take in the ids of one batch."""
        if self.pending.add(ids, len(self.merged)):
            self._merge()

    def table(self, name: str) -> IdTable:
        """All ids, ascending by bytes."""
        self._merge()
        return StringIds(*string_buffers(self.merged.take(pc.array_sort_indices(self.merged))))

    def _merge(self) -> None:
        self.merged = pc.unique(pa.chunked_array([self.merged, *self.pending.take()]))

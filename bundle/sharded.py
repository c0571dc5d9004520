"""The part of a prepared graph that training reads: edges by cell, as places in shards, and the rows of every shard.

shards/<type>.npy                      int64: the rows of the type shard after shard, ascending in each
edges/<iii>.src_place.npy .dst_place   uint16, or int32 where a shard is large: places, in the order of cells
edges/<iii>.cell.npy                   int32: source shard · Q + target shard, for each cell that has edges, ascending
edges/<iii>.cell_start.npy             int64: the first edge of each of them
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64, Integer

from bundle.arrays import AnyArray, forget_pages
from bundle.cells import SortedEdges, TypeShards
from bundle.growing import ArrayFiles
from bundle.ids import IdTable
from bundle.shards import MOST_IN_SHARD, ShardRows, by_shard, places, shard_of

# Edges, or rows, that are looked at together.
BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class CellEdges:
    """One relation's training edges: those of cell `cell[i]` begin at edge `start[i]`."""

    cell: Int32[npt.NDArray[np.int32], " c"]
    start: Int64[npt.NDArray[np.int64], " c"]
    src_place: Integer[npt.NDArray[np.integer], " e"]
    dst_place: Integer[npt.NDArray[np.integer], " e"]
    weight: Float32[npt.NDArray[np.float32], " e"] | None

    def __len__(self) -> int:
        return len(self.src_place)


@dataclass(frozen=True, slots=True)
class ShardedGraph:
    """All edges by cell; `types` and `relations` are in the order of the prepared graph."""

    shards: int
    types: tuple[ShardRows, ...]
    relations: tuple[CellEdges, ...]

    def faults(self, ends: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, str]]:
        """What in it cannot be: a file and what is wrong there. `ends` are the types of each relation, by number."""
        for kind, rows in enumerate(self.types):
            seen = np.zeros(len(rows.rows), dtype=np.bool_)
            sound = int(rows.rows.min(initial=0)) >= 0 and int(rows.rows.max(initial=-1)) < len(seen)
            if sound:
                seen[rows.rows] = True
            forget_pages(rows.rows)
            if not sound or not seen.all():
                yield f"shards/{kind}", "does not hold every row once"
        for number, (edges, (source, target)) in enumerate(zip(self.relations, ends, strict=True)):
            yield from self._relation_faults(f"edges/{number:03d}", edges, self.types[source], self.types[target])

    def _relation_faults(
        self, name: str, edges: CellEdges, source: ShardRows, target: ShardRows
    ) -> Iterator[tuple[str, str]]:
        stops = np.append(edges.start[1:], len(edges))
        ascending = np.all(edges.cell[1:] > edges.cell[:-1]) and np.all(stops > edges.start)
        if len(edges.cell) == 0:
            if len(edges):
                yield f"{name}.cell.npy", "has no cell"
            return
        if not ascending or edges.start[0] or edges.cell[0] < 0 or edges.cell[-1] >= self.shards**2:
            yield f"{name}.cell.npy", "has cells out of order"
            return
        for column, sizes in (
            ("src_place", source.counts[edges.cell // self.shards]),
            ("dst_place", target.counts[edges.cell % self.shards]),
        ):
            placed: npt.NDArray[np.integer] = getattr(edges, column)
            for start in range(0, len(edges), BLOCK):
                here = placed[start : start + BLOCK]
                stop = start + len(here)
                first, last = np.searchsorted(edges.start, (start, stop - 1), side="right") - 1
                cells = slice(first, last + 1)  # the first and the last perhaps in part
                counts = np.minimum(stops[cells], stop) - np.maximum(edges.start[cells], start)
                if np.any(here < 0) or np.any(here >= np.repeat(sizes[cells], counts)):
                    yield f"{name}.{column}.npy", "holds a place that its shard does not have"
                    break
                forget_pages(placed)


def deal(ids: IdTable, shards: int) -> TypeShards:
    """Shard and place of every entity of a type, and the rows of every shard: 14 bytes an entity. Raises ValueError."""
    shard = shard_of(ids, shards)
    rows = by_shard(shard, shards)
    if int(rows.counts.max(initial=0)) > MOST_IN_SHARD:
        raise ValueError(f"a shard has more than {MOST_IN_SHARD} entities")
    return TypeShards(rows, places(shard, rows))


def shard_file(path: Path, entity: str) -> Path:
    """The file with the rows of one type by shard."""
    return path / "shards" / f"{entity}.npy"


@dataclass(slots=True)
class CellFiles:
    """Writes edges as they come out of a `CellSorter`: columns, and where each cell begins."""

    files: ArrayFiles
    columns: tuple[str, ...]
    _edges: dict[int, int] = field(default_factory=dict)

    def append(self, relation: int, edges: SortedEdges) -> None:
        """Write the next edges of the relation with this number in the graph."""
        before = self._edges.get(relation, 0)
        written: dict[str, AnyArray] = {name: edges.columns[name] for name in self.columns if name in edges.columns}
        written["cell"] = edges.cell.astype(np.int32)
        written["cell_start"] = edges.start + before
        for name, values in written.items():
            self.files.append(self.files.directory / "edges" / f"{relation:03d}.{name}.npy", values)
        self._edges[relation] = before + len(edges)

"""The shards of a prepared graph: its own, or, for a graph of format 1, dealt once before it is trained."""

import tempfile
from pathlib import Path

import numpy as np

from bundle.arrays import AnyArray, forget_pages, map_array
from bundle.cells import CellSorter, TypeShards
from bundle.growing import ArrayFiles
from bundle.prepared import PreparedGraph, PreparedRelation
from bundle.progress import Progress, Stage
from bundle.sharded import CellEdges, CellFiles, ShardedGraph, deal, shard_file
from bundle.shards import ShardRows, shard_count

# Edges read, and sorted, at a time: `memory` counts them.
BLOCK = 1 << 17
BUCKET_EDGES = 1 << 17
_COLUMNS = ("src_place", "dst_place", "weight")


def shards_of(prepared: PreparedGraph) -> int:
    """Q."""
    if prepared.sharded is not None:
        return prepared.sharded.shards
    return shard_count(max((entity.count for entity in prepared.entities), default=0))


def deal_edges(prepared: PreparedGraph, path: Path, progress: Progress) -> None:
    """Write the shards of a graph that has none below `path`, edges by cell as in format 2."""
    types = {entity.name: deal(entity.ids, shards_of(prepared)) for entity in prepared.entities}
    path.mkdir(parents=True, exist_ok=True)
    files = ArrayFiles(path)
    for name, shards in types.items():
        files.append(shard_file(path, name), shards.rows.rows)
        files.append(_starts_file(path, name), shards.rows.starts)
    cells = CellFiles(files, _COLUMNS)
    with progress.stage("dealing edges", sum(len(relation.train) for relation in prepared.relations), "edges") as stage:
        for relation in prepared.relations:
            with tempfile.TemporaryDirectory(prefix="cells-", dir=path) as work:
                _deal_relation(relation, types, cells, Path(work), stage)
    files.finish()


def open_dealt(prepared: PreparedGraph, path: Path) -> ShardedGraph:
    """What `deal_edges` wrote below `path`, mapped."""

    def column(relation: PreparedRelation, name: str) -> AnyArray:
        return map_array(path / "edges" / f"{relation.index:03d}.{name}.npy")

    names = [entity.name for entity in prepared.entities]
    types = [ShardRows(map_array(shard_file(path, name)), map_array(_starts_file(path, name))) for name in names]
    relations = tuple(
        CellEdges(
            column(relation, "cell"),
            column(relation, "cell_start"),
            column(relation, "src_place"),
            column(relation, "dst_place"),
            None if relation.train.weight is None else column(relation, "weight"),
        )
        for relation in prepared.relations
    )
    return ShardedGraph(shards_of(prepared), tuple(types), relations)


def _starts_file(path: Path, entity: str) -> Path:
    return path / "shards" / "starts" / f"{entity}.npy"


def _deal_relation(
    relation: PreparedRelation, types: dict[str, TypeShards], cells: CellFiles, work: Path, stage: Stage
) -> None:
    train = relation.train
    extra = {} if train.weight is None else {"weight": np.float32}
    sorter = CellSorter(
        work, types[relation.source], types[relation.target], 1, len(train), extra, BUCKET_EDGES, cores=1
    )
    for start in range(0, len(train), BLOCK):
        piece = slice(start, start + BLOCK)
        weight = {} if train.weight is None else {"weight": train.weight[piece]}
        src, dst = train.src[piece], train.dst[piece]
        sorter.add(sorter.dealt(src, dst, np.zeros(len(src), dtype=np.int32), **weight))
        for column in (train.src, train.dst, train.weight):
            forget_pages(column)
    for edges in sorter.sorted():
        cells.append(relation.index, edges)
        stage.advance(len(edges))
    cells.append(relation.index, sorter.nothing())

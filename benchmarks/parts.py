"""Smaller graphs cut from a prepared one, and runs trained on them, for benchmarks that leave something out."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle.arrays import AnyArray, save_array
from bundle.disk import write_text
from bundle.graph_record import COMMIT_FILE, EntityRecord, GraphRecord, read_record
from bundle.ids import IntIds
from bundle.prepared import Edges, Part, PreparedGraph, PreparedRelation, id_files, load_prepared, part_file
from training.config import TrainConfig
from training.train import train

I64 = npt.NDArray[np.int64]
PARTS: tuple[Part, ...] = ("edges", "valid", "test")
Kept = Mapping[tuple[Part, int], I64]


def write_smaller(whole: PreparedGraph, path: Path, rows: Mapping[str, I64], kept: Kept, digest: str) -> PreparedGraph:
    """Write the graph of the entities `rows` (by type, ascending) and of the edges `kept` (by part and relation).

    Both are positions in `whole`; every kept edge must join kept entities. A part that `kept` does not name is empty.
    """
    for entity in whole.entities:
        assert isinstance(entity.ids, IntIds), "ids are expected to be integers"
        _save(id_files(path, entity.name, "int64")[0], entity.ids.values[rows[entity.name]])
    for relation in whole.relations:
        for part in PARTS:
            if (part, relation.index) in kept:
                _write_edges(relation, part, path, rows, kept[part, relation.index])
    write_text(path / COMMIT_FILE, _record(whole, rows, kept, digest).model_dump_json(indent=1))
    return load_prepared(path)


def _write_edges(relation: PreparedRelation, part: Part, path: Path, rows: Mapping[str, I64], kept: I64) -> None:
    edges: Edges = relation.part(part)
    ends = {"src": (relation.source, edges.src), "dst": (relation.target, edges.dst)}
    columns: dict[str, AnyArray] = {
        name: np.searchsorted(rows[kind], end[kept]).astype(np.int32) for name, (kind, end) in ends.items()
    }
    if edges.weight is not None:
        columns["weight"] = edges.weight[kept]
    if edges.time is not None:
        columns["time"] = edges.time[kept]
    for name, column in columns.items():
        _save(part_file(path, part, relation.index, name), column)


def _record(whole: PreparedGraph, rows: Mapping[str, I64], kept: Kept, digest: str) -> GraphRecord:
    old = read_record(whole.path)
    relations = [
        relation.model_copy(update={"cells": None, **{part: len(kept.get((part, index), ())) for part in PARTS}})
        for index, relation in enumerate(old.relations)
    ]
    entities = [EntityRecord(name=one.name, id=one.id, count=len(rows[one.name])) for one in old.entities]
    first = {"format_version": 1, "shards": None, "hash": None, "files": None}  # edges in any order
    split = old.split if any(relation.test for relation in relations) else None
    return old.model_copy(
        update=first
        | {"digest": f"{whole.digest}-{digest}", "entities": entities, "relations": relations, "split": split}
    )


def _save(path: Path, array: AnyArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_array(path, np.ascontiguousarray(array))


def trained(name: str, graph: PreparedGraph, work: Path, config: TrainConfig, start: Path | None = None) -> Path:
    """Train a run in `work`, or take the one that is there."""
    began = time.process_time()
    summary = train(graph, work / name, config, warm_start=start, resume=True)
    seconds = time.process_time() - began
    print(f"{name}: {summary.epochs} epochs, loss {summary.final_loss:.4f}, {seconds:.0f} CPU-seconds", flush=True)
    return work / name

"""`graph.json` of a graph that was just prepared, whoever wrote its arrays: counts, digests, the digest of all."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64

from bundle.graph_record import FORMAT_VERSION, EntityRecord, GraphRecord, RelationRecord, SplitRecord
from bundle.growing import ArrayFiles
from bundle.ids import IdTable
from bundle.prepared import open_prepared, part_file
from bundle.shards import HASH
from graph.attributes import ReadAttributes
from graph.entries import Entry
from graph.held_out import held_out_counts
from graph.schema import GraphFile, SplitSpec


@dataclass(frozen=True, slots=True)
class DropCounts:
    """How many edges were left out, for each relation of an entry."""

    duplicates: Int64[npt.NDArray[np.int64], " r"]
    self_loops: Int64[npt.NDArray[np.int64], " r"]


def entity_record(name: str, table: IdTable, read: ReadAttributes | None, counts: list[int]) -> EntityRecord:
    """What `graph.json` says of a type with so many entities in each shard."""
    if read is None:
        return EntityRecord(name=name, id=table.kind, count=len(table), shards=counts)
    return EntityRecord(
        name=name,
        id=table.kind,
        count=len(table),
        shards=counts,
        attributes=read.entries,
        described=read.described,
        attributes_of_others=read.unknown,
    )


def graph_record(
    graph: GraphFile,
    entities: list[EntityRecord],
    entries: list[Entry],
    drops: list[DropCounts],
    files: ArrayFiles,
    shards: int,
) -> GraphRecord:
    """What `graph.json` says of the arrays in `files`, which are finished here."""
    relations = [
        _relation(entry, i, counts, files)
        for entry, counts in zip(entries, drops, strict=True)
        for i in range(len(entry.names))
    ]
    record = GraphRecord(
        format_version=FORMAT_VERSION,
        digest="",
        shards=shards,
        hash=HASH,
        entities=entities,
        relations=relations,
        split=_split(graph.split, graph),
    )
    # Counts of held-out edges follow from the arrays, and earlier releases had none: the digest is without them. Nor
    # had they attributes, and of a graph without these it must be as it was.
    countable: Any = {"files": True, "relations": {"__all__": {"held_out_trained", "held_out_unseen"}}}
    fields = record.model_dump(exclude=countable)
    for entity in fields["entities"]:
        if not entity["attributes"]:
            for key in ("attributes", "described", "attributes_of_others"):
                del entity[key]
    digests = files.finish()
    content = json.dumps([fields, digests], sort_keys=True, ensure_ascii=False)
    counts = held_out_counts(open_prepared(files.directory, record))
    relations = [
        relation.model_copy(update={"held_out_trained": count.trained, "held_out_unseen": count.unseen})
        for relation, count in zip(relations, counts, strict=True)
    ]
    digest = hashlib.sha256(content.encode()).hexdigest()
    return record.model_copy(update={"digest": digest, "relations": relations, "files": digests})


def _relation(entry: Entry, i: int, drops: DropCounts, files: ArrayFiles) -> RelationRecord:
    spec, index = entry.spec, entry.first + i
    return RelationRecord(
        name=entry.names[i],
        source=spec.source,
        target=spec.target,
        symmetric=spec.symmetric,
        coverage=spec.coverage,
        weight=spec.weight is not None,
        time=spec.time is not None,
        edges=files.count(part_file(files.directory, "edges", index, "src")),
        cells=files.count(part_file(files.directory, "edges", index, "cell")),
        valid=files.count(part_file(files.directory, "valid", index, "src")),
        test=files.count(part_file(files.directory, "test", index, "src")),
        duplicates=int(drops.duplicates[i]),
        self_loops=int(drops.self_loops[i]),
    )


def _split(split: SplitSpec | None, graph: GraphFile) -> SplitRecord | None:
    if split is None:
        return None
    names = [graph.relations[position].name for position in graph.split_relations]
    return SplitRecord(
        relation=names[0] if len(names) == 1 else names,
        by=split.by,
        fraction=None if split.by == "files" else split.fraction,
        seed=split.seed if split.by == "random" else None,
    )

"""First pass: every edge file is read once, checked and set aside, and the ids of each type are collected."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bundle.progress import Progress
from bundle.scratch import RawColumn
from graph.ahead import mapped
from graph.edge_reader import EdgeBatch, EdgeReader, RawBatch
from graph.idspace import IdSpace, id_space
from graph.schema import GraphFile, RelationSpec
from graph.source import EdgeInput
from graph.spool import IdSpool


@dataclass(slots=True)
class SpooledEdges:
    """The edges of one input, set aside on disk in file order."""

    input: EdgeInput
    src: IdSpool
    dst: IdSpool
    relation: IdSpool | None
    weight: RawColumn | None
    time: RawColumn | None
    count: int = 0


@dataclass(slots=True)
class Reading:
    """What the first pass yields: edges on disk, and the ids of each type."""

    spooled: list[SpooledEdges]
    spaces: dict[str, IdSpace]
    names: IdSpace  # the values of a relation_column, if there is one


def read_inputs(graph: GraphFile, inputs: list[EdgeInput], directory: Path, progress: Progress) -> Reading:
    """Read all inputs into spools under `directory`. Raises EdgeFileError."""
    spaces = {name: id_space(entity.id) for name, entity in graph.entities.items()}
    reading = Reading([], spaces, id_space("string"))
    for number, edge_input in enumerate(inputs):
        spec = graph.relations[edge_input.position]
        spooled = _empty(reading, spec, edge_input, directory, f"{number}")
        reader = EdgeReader(
            spec, graph.entities[spec.source].id, graph.entities[spec.target].id, held_out=edge_input.part != "edges"
        )
        label = spec.name if edge_input.part == "edges" else f"{spec.name} ({edge_input.part})"
        with progress.stage(f"reading {label}", edge_input.size, "B") as stage, ExitStack() as held:
            if edge_input.repeats:
                stage.note(f"further names of the same files left out: {len(edge_input.repeats)}")
            encode = _Encoder(reader, spooled)
            for edges in mapped(encode, reader.raw_batches(edge_input.paths, stage, held)):
                _set_aside(edges, spooled)
        reading.spooled.append(spooled)
        pa.default_memory_pool().release_unused()  # what threads that have ended keep of their batches
    return reading


def _empty(reading: Reading, spec: RelationSpec, edge_input: EdgeInput, directory: Path, name: str) -> SpooledEdges:
    train = edge_input.part == "edges"
    return SpooledEdges(
        edge_input,
        src=reading.spaces[spec.source].spool(directory, f"{name}.src"),
        dst=reading.spaces[spec.target].spool(directory, f"{name}.dst"),
        relation=reading.names.spool(directory, f"{name}.relation") if spec.relation_column else None,
        weight=RawColumn(directory / f"{name}.weight", np.float64) if spec.weight and train else None,
        time=RawColumn(directory / f"{name}.time", np.int64) if spec.time and train else None,
    )


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Edges of a file, their ids as they are set aside."""

    edges: EdgeBatch
    src: Any
    dst: Any
    relation: Any | None


@dataclass(frozen=True, slots=True)
class _Encoder:
    """From rows of a file to edges with encoded ids; any thread may do this."""

    reader: EdgeReader
    spooled: SpooledEdges

    def __call__(self, rows: RawBatch) -> _Encoded:
        edges, spooled = self.reader.read(rows), self.spooled
        relation = None if spooled.relation is None else spooled.relation.encoded(edges.relation)
        return _Encoded(edges, spooled.src.encoded(edges.src), spooled.dst.encoded(edges.dst), relation)


def _set_aside(batch: _Encoded, spooled: SpooledEdges) -> None:
    spooled.src.append(batch.src)
    spooled.dst.append(batch.dst)
    if spooled.relation is not None:
        spooled.relation.append(batch.relation)
    if spooled.weight is not None and batch.edges.weight is not None:
        spooled.weight.append(batch.edges.weight)
    if spooled.time is not None and batch.edges.time is not None:
        spooled.time.append(batch.edges.time)
    spooled.count += len(batch.edges)

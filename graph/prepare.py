"""From `graph.toml` to a prepared graph on disk: read, map ids to rows, drop repeats, split, commit.

All work happens in `<out_dir>.twhin-partial`; it takes the place of `<out_dir>` in one rename when its `graph.json` is
written, so a process killed at any moment leaves the last good graph or none.
"""

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

from bundle.allocator import give_back_freed_memory
from bundle.arrays import AnyArray
from bundle.attributes import arrays_of
from bundle.cells import TypeShards
from bundle.disk import beside, full_disk_named, locked, write_text
from bundle.errors import EdgeFileError, GraphError, RunError
from bundle.graph_place import placed, require_replaceable
from bundle.graph_record import COMMIT_FILE, GraphRecord
from bundle.growing import ArrayFiles
from bundle.ids import IdTable, IntIds, StringIds
from bundle.prepared import PreparedGraph, attribute_file, id_files, load_prepared
from bundle.progress import SILENT, Progress
from bundle.sharded import deal, shard_file
from bundle.shards import MOST_IN_SHARD, shard_count
from graph.assemble import Assembler
from graph.attributes import ReadAttributes, read_attributes
from graph.entries import Entry, find_entries
from graph.files import local
from graph.reading import Reading, read_inputs
from graph.record import DropCounts, entity_record, graph_record
from graph.schema import GraphFile, read_graph_file
from graph.source import (
    AttributeInput,
    EdgeInput,
    SourceRecord,
    find_attributes,
    find_inputs,
    is_made_from,
    source_of,
    write_source,
)

# Reads the inputs of a graph and writes its arrays into a directory.
Engine: TypeAlias = Callable[[GraphFile, list[EdgeInput], list[AttributeInput], Path, Progress], GraphRecord]
# Ids are written this many at a time.
_CHUNK = 1 << 20


def prepare(
    graph_toml: Path,
    out_dir: Path,
    progress: Progress = SILENT,
    *,
    may_replace: bool = True,
    engine: "Engine | None" = None,
) -> PreparedGraph:
    """Prepare the graph that `graph_toml` describes in `out_dir`, or open what is there when its input is unchanged.

    `engine` reads the inputs and writes the arrays, whichever it is the same; without one that is this process.

    Takes disk space of about 40 bytes an edge while it works and memory for the ids, not for the edges. Where
    something was made from the graph in `out_dir`, `may_replace` must be False.

    Raises GraphFileError, EdgeFileError for bad input, DiskFull, and RunError when `out_dir` holds something else, when
    it must not be replaced, or when another process prepares it.
    """
    graph, inputs, attributes, source = found(graph_toml)
    if is_made_from(out_dir, source):
        return load_prepared(out_dir)
    if not may_replace and (out_dir / COMMIT_FILE).exists():
        raise RunError(
            f"{graph_toml} or an edge file changed since {out_dir} was made, and a finished run stands on that. "
            "Train in another directory."
        )
    give_back_freed_memory()
    busy = RunError(f"Another process prepares {out_dir}. Wait for it, or name another directory.")
    require_replaceable(out_dir)
    full = full_disk_named(beside(out_dir, "partial"), "Free some space and run it again.")
    with locked(beside(out_dir, "lock"), busy, remove=True), full:
        if is_made_from(out_dir, source):  # another process has just done it
            return load_prepared(out_dir)
        with placed(out_dir) as partial:
            record = (engine or write_here)(graph, inputs, attributes, partial, progress)
            _require_unchanged(graph_toml, [*inputs, *attributes], source)
            write_source(partial, source)
            write_text(partial / COMMIT_FILE, record.model_dump_json(indent=1) + "\n")
    return load_prepared(out_dir)


def _require_unchanged(graph_toml: Path, inputs: list[EdgeInput | AttributeInput], before: SourceRecord) -> None:
    """Raise EdgeFileError where a file was written while it was read: what was read of it may be of neither state."""
    try:
        now = source_of(graph_toml, inputs)
    except FileNotFoundError as error:
        raise EdgeFileError(
            f"{error.filename} was removed while it was read. Put it there, and run it again."
        ) from error
    changed = [new.path for old, new in zip(before.inputs, now.inputs, strict=True) if new != old]
    if changed:
        raise EdgeFileError(
            f"{graph_toml.parent / changed[0]} was changed while it was read. Run it again when it is written."
        )


def found(graph_toml: Path) -> tuple[GraphFile, list[EdgeInput], list[AttributeInput], SourceRecord]:
    """The graph file, its inputs, and what these are now. Raises GraphFileError, EdgeFileError."""
    graph = read_graph_file(graph_toml)
    inputs, attributes = find_inputs(graph, graph_toml), find_attributes(graph, graph_toml)
    return graph, inputs, attributes, source_of(graph_toml, [*inputs, *attributes])


def write_here(
    graph: GraphFile,
    inputs: list[EdgeInput],
    attributes: list[AttributeInput],
    directory: Path,
    progress: Progress,
    *,
    durable: bool = True,
) -> GraphRecord:
    """Read all inputs and write the arrays of the graph into `directory`, on the cores of this machine.

    A graph for passing use need not be `durable`: of thousands of relations that takes most of the time.
    """
    work = directory / "work"
    work.mkdir()
    files = ArrayFiles(directory, durable=durable)
    reading = read_inputs(graph, inputs, work, progress)
    tables = {name: space.table() for name, space in reading.spaces.items()}
    count = shard_count(max((len(table) for table in tables.values()), default=0))
    shards = {name: _deal(name, table, count) for name, table in tables.items()}
    for name, table in tables.items():
        _write_ids(files, name, table)
        _append(files, shard_file(directory, name), shards[name].rows.rows)
    read = {one.entity: write_attributes(graph, one, tables[one.entity], files, progress) for one in attributes}
    entities = [
        entity_record(name, table, read.get(name), shards[name].rows.counts.tolist()) for name, table in tables.items()
    ]
    entries = find_entries(graph, reading.names.table())
    drops = _write_edges(graph, reading, entries, Assembler(tables, shards, files, work, progress))
    shutil.rmtree(work)
    return graph_record(graph, entities, entries, drops, files, count)


def _deal(name: str, table: IdTable, shards: int) -> TypeShards:
    try:
        return deal(table, shards)
    except ValueError as error:
        raise too_many(name, len(table)) from error


def too_many(name: str, entities: int) -> GraphError:
    """Of a type that fills shards beyond what they may hold."""
    return GraphError(
        f"Type {name!r} has {entities} entities: a shard has more than {MOST_IN_SHARD} entities. "
        "Split it into several types."
    )


def write_attributes(
    graph: GraphFile, given: AttributeInput, table: IdTable, files: ArrayFiles, progress: Progress
) -> ReadAttributes:
    """Read the attributes of a type and write their arrays."""
    with ExitStack() as held, progress.stage(f"reading attributes of {given.entity}", given.size, "B") as stage:
        paths = [held.enter_context(local(file)) for file in given.paths]
        read = read_attributes(graph.entities[given.entity], paths, table, stage)
        stage.note(f"{read.described} of {len(table)} described")
    for number, attribute in enumerate(read.attributes):
        for part, array in arrays_of(attribute).items():
            _append(files, attribute_file(files.directory, given.entity, number, part), array)
    return read


def _append(files: ArrayFiles, path: Path, array: AnyArray) -> None:
    """Write a whole array, some of it at a time."""
    for start in range(0, max(len(array), 1), _CHUNK):
        files.append(path, array[start : start + _CHUNK])


def _write_ids(files: ArrayFiles, name: str, table: IdTable) -> None:
    arrays: list[AnyArray] = []
    if isinstance(table, StringIds):
        arrays = [table.offsets, table.utf8]
    elif isinstance(table, IntIds):
        arrays = [table.values]
    for path, array in zip(id_files(files.directory, name, table.kind), arrays, strict=True):
        _append(files, path, array)


def _write_edges(graph: GraphFile, reading: Reading, entries: list[Entry], assembler: Assembler) -> list[DropCounts]:
    drops: list[DropCounts] = []
    for spooled in reading.spooled:
        position = spooled.input.position
        if spooled.input.part == "edges":
            split = graph.split if graph.split is not None and position in graph.split_relations else graph.validation
            drops.append(assembler.training(entries[position], spooled, split))
        else:
            assembler.held_out(entries[position], spooled)
    return drops

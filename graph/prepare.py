"""From `graph.toml` to a prepared graph on disk: read, map ids to rows, drop repeats, split, commit.

All work happens in `<out_dir>.partial`; it takes the place of `<out_dir>` in one rename when its `graph.json` is
written, so a process killed at any moment leaves the last good graph or none.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bundle.allocator import give_back_freed_memory
from bundle.arrays import AnyArray
from bundle.attributes import arrays_of
from bundle.cells import TypeShards
from bundle.disk import full_disk_named, locked, make_durable, write_text
from bundle.errors import GraphError, GraphFileError, RunError
from bundle.graph_record import COMMIT_FILE, FORMAT_VERSION, EntityRecord, GraphRecord, RelationRecord, SplitRecord
from bundle.growing import ArrayFiles
from bundle.ids import IdTable, IntIds, StringIds, parse_int_id
from bundle.prepared import PreparedGraph, attribute_file, id_files, load_prepared, open_prepared, part_file
from bundle.progress import SILENT, Progress
from bundle.sharded import deal, shard_file
from bundle.shards import HASH, shard_count
from graph.assemble import Assembler, DropCounts, Entry
from graph.attributes import ReadAttributes, read_attributes
from graph.files import local
from graph.held_out import held_out_counts
from graph.reading import Reading, read_inputs
from graph.schema import ANY_RELATION, GraphFile, RelationSpec, SplitSpec, read_graph_file
from graph.source import AttributeInput, EdgeInput, find_attributes, find_inputs, is_made_from, source_of, write_source

# A column with more values than this holds no relations but, say, ids: the wrong one was named.
MAX_RELATIONS = 10_000
# Ids are written this many at a time.
_CHUNK = 1 << 20


def prepare(graph_toml: Path, out_dir: Path, progress: Progress = SILENT, *, may_replace: bool = True) -> PreparedGraph:
    """Prepare the graph that `graph_toml` describes in `out_dir`, or open what is there when its input is unchanged.

    Takes disk space of about 40 bytes an edge while it works and memory for the ids, not for the edges. Where
    something was made from the graph in `out_dir`, `may_replace` must be False.

    Raises GraphFileError, EdgeFileError for bad input, DiskFull, and RunError when `out_dir` holds something else, when
    it must not be replaced, or when another process prepares it.
    """
    graph = read_graph_file(graph_toml)
    inputs, attributes = find_inputs(graph, graph_toml), find_attributes(graph, graph_toml)
    source = source_of(graph_toml, [*inputs, *attributes])
    if is_made_from(out_dir, source):
        return load_prepared(out_dir)
    if not may_replace and (out_dir / COMMIT_FILE).exists():
        raise RunError(
            f"{graph_toml} or an edge file changed since {out_dir} was made, and a finished run stands on that. "
            "Train in another directory."
        )
    give_back_freed_memory()
    busy = RunError(f"Another process prepares {out_dir}. Wait for it, or name another directory.")
    lock = out_dir.with_name(out_dir.name + ".lock")
    with locked(lock, busy, remove=True), _partial(out_dir) as partial:
        record = _write(graph, inputs, attributes, partial, progress)
        write_source(partial, source)
        write_text(partial / COMMIT_FILE, record.model_dump_json(indent=1) + "\n")
    return load_prepared(out_dir)


@contextmanager
def _partial(out_dir: Path) -> Iterator[Path]:
    """A directory to work in, which replaces `out_dir` at the end and is removed after an error."""
    if out_dir.exists() and not (out_dir / COMMIT_FILE).exists() and any(out_dir.iterdir()):
        raise RunError(f"{out_dir} is not empty and holds no prepared graph. Give a directory of its own.")
    partial = out_dir.with_name(out_dir.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with full_disk_named(partial, "Free some space and run it again."):
            yield partial
            _replace(partial, out_dir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(partial: Path, out_dir: Path) -> None:
    old = out_dir.with_name(out_dir.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out_dir.exists():
        out_dir.rename(old)
    partial.rename(out_dir)
    make_durable(out_dir.parent)
    shutil.rmtree(old, ignore_errors=True)


def _write(
    graph: GraphFile,
    inputs: list[EdgeInput],
    attributes: list[AttributeInput],
    directory: Path,
    progress: Progress,
) -> GraphRecord:
    work = directory / "work"
    work.mkdir()
    files = ArrayFiles(directory)
    reading = read_inputs(graph, inputs, work, progress)
    tables = {name: space.table(name) for name, space in reading.spaces.items()}
    count = shard_count(max((len(table) for table in tables.values()), default=0))
    shards = {name: _deal(name, table, count) for name, table in tables.items()}
    for name, table in tables.items():
        _write_ids(files, name, table)
        _append(files, shard_file(directory, name), shards[name].rows.rows)
    read = {one.entity: _write_attributes(graph, one, tables[one.entity], files, progress) for one in attributes}
    entities = [_entity(name, table, read.get(name), shards[name]) for name, table in tables.items()]
    entries = _entries(graph, reading)
    drops = _write_edges(graph, reading, entries, Assembler(tables, shards, files, work, progress))
    shutil.rmtree(work)
    return _record(graph, entities, entries, drops, files, count)


def _deal(name: str, table: IdTable, shards: int) -> TypeShards:
    try:
        return deal(table, shards)
    except ValueError as error:
        raise GraphError(f"Type {name!r} has {len(table)} entities: {error}. Split it into several types.") from error


def _write_attributes(
    graph: GraphFile, given: AttributeInput, table: IdTable, files: ArrayFiles, progress: Progress
) -> ReadAttributes:
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


def _entity(name: str, table: IdTable, read: ReadAttributes | None, shards: TypeShards) -> EntityRecord:
    counts = shards.rows.counts.tolist()
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


def _write_ids(files: ArrayFiles, name: str, table: IdTable) -> None:
    arrays: list[AnyArray] = []
    if isinstance(table, StringIds):
        arrays = [table.offsets, table.utf8]
    elif isinstance(table, IntIds):
        arrays = [table.values]
    for path, array in zip(id_files(files.directory, name, table.kind), arrays, strict=True):
        _append(files, path, array)


def _entries(graph: GraphFile, reading: Reading) -> list[Entry]:
    """The relations that each entry of the graph file stands for, in the order of their indices."""
    table = reading.names.table(ANY_RELATION)
    names = table.externals(np.arange(len(table)))
    entries: list[Entry] = []
    first = 0
    for spec in graph.relations:
        if spec.relation_column:
            entry = _column_entry(spec, first, names, table)
        else:
            entry = Entry(spec, first, (spec.name,), np.zeros(1, dtype=np.int32), table)
        first += len(entry.names)
        entries.append(entry)
    _check_names(entries)
    return entries


def _column_entry(spec: RelationSpec, first: int, names: list[str], table: IdTable) -> Entry:
    """Relations named by a column: in numeric order when all names are numbers, else in the order of their bytes."""
    numbers = [number for name in names if (number := parse_int_id(name)) is not None]
    ranks = np.argsort(np.array(numbers, dtype=np.int64)) if len(numbers) == len(names) else np.arange(len(names))
    order = np.empty(len(names), dtype=np.int32)
    order[ranks] = np.arange(len(names), dtype=np.int32)
    return Entry(spec, first, tuple(names[rank] for rank in ranks.tolist()), order, table)


def _check_names(entries: list[Entry]) -> None:
    names = [name for entry in entries for name in entry.names]
    if len(names) > MAX_RELATIONS:
        raise GraphFileError(
            f"relation_column has {len(names)} different values, at most {MAX_RELATIONS} are taken. "
            "Name the column that holds the relation."
        )
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise GraphFileError(
            f"relation_column has the value {twice[0]!r}, and a relation of that name is listed too. Rename that one."
        )


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


def _record(
    graph: GraphFile,
    entities: list[EntityRecord],
    entries: list[Entry],
    drops: list[DropCounts],
    files: ArrayFiles,
    shards: int,
) -> GraphRecord:
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

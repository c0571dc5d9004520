"""Stored engagements as edge files, for the next training."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from bundle.ids import IdKind

EVENTS = pa.schema(
    [(name, pa.string()) for name in ("id", "user_type", "user", "action", "relation", "target_type", "target")]
    + [("at", pa.float64()), ("received", pa.float64())]
)
ROWS_AT_ONCE = 65_536
# Of the name of a relation in the name of its file, which may have 255 bytes.
NAME_MOST = 80


@runtime_checkable
class StoredEvent(Protocol):
    """An event as the store has it: see `service.state.events.Event`."""

    @property
    def id(self) -> str: ...
    @property
    def user_type(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def relation(self) -> str: ...
    @property
    def target_type(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def at(self) -> float: ...
    @property
    def received(self) -> float: ...


@dataclass
class Counts:
    """What was written: events, edges by relation, and edges that were taken back, which no file of edges can say."""

    events: int = 0
    edges: dict[str, int] = field(default_factory=dict)
    removed: int = 0
    blocked: int = 0


@dataclass
class _File:
    """A Parquet file that grows."""

    writer: pq.ParquetWriter
    rows: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, row: tuple[Any, ...]) -> None:
        self.rows.append(row)
        if len(self.rows) >= ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.writer.schema)
        arrays = [pa.array(column, kind.type) for column, kind in zip(columns, self.writer.schema, strict=True)]
        self.writer.write_batch(pa.record_batch(arrays, schema=self.writer.schema))
        self.rows.clear()


def write_engagements(
    events: Iterable[StoredEvent],
    kinds: Mapping[str, IdKind],
    directory: Path,
    advance: Callable[[int], None],
) -> Counts:
    """Write `events.parquet`, all as they are stored, and for each relation `<relation>.parquet`: `src`, `dst`, `time`
    (seconds since 1970) of the edges that are there in the end.

    The events of one user must come together; `kinds` is the kind of id of each entity type; strings by default.
    """
    counts = Counts()
    with ExitStack() as stack:
        files: dict[str, _File] = {}

        def opened(name: str, schema: pa.Schema) -> _File:
            if name not in files:
                files[name] = _File(stack.enter_context(pq.ParquetWriter(directory / f"{name}.parquet", schema)))
            return files[name]

        raw = opened("events", EVENTS)
        for _, of_user in groupby(events, key=attrgetter("user_type", "user")):
            mine = list(of_user)
            for event in mine:
                raw.add(tuple(getattr(event, name) for name in EVENTS.names))
            counts.events += len(mine)
            for event in _latest(mine):
                if event.action == "add":
                    edges = opened(file_name(event.relation), _edges(kinds, event))
                    edges.add(
                        (
                            _id(kinds, event.user_type, event.user),
                            _id(kinds, event.target_type, event.target),
                            int(event.at),
                        )
                    )
                    counts.edges[event.relation] = counts.edges.get(event.relation, 0) + 1
                counts.removed += event.action == "remove"
                counts.blocked += event.action == "block"
            advance(len(mine))
        for file in files.values():
            file.flush()
    return counts


def _latest(events: Iterable[StoredEvent]) -> Iterator[StoredEvent]:
    """Of one user's events about the same edge, or the same block, the one that counts."""
    latest: dict[tuple[bool, str, str], StoredEvent] = {}
    for event in events:
        is_edge = event.action in ("add", "remove")
        key = (is_edge, event.relation if is_edge else event.target_type, event.target)
        before = latest.get(key)
        if before is None or (before.at, before.received, before.id) < (event.at, event.received, event.id):
            latest[key] = event
    yield from latest.values()


def file_name(relation: str) -> str:
    """A file's name for a relation, whatever signs it has; never that of the file of all events."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", relation)[:NAME_MOST]
    return name if name == relation and name != "events" else f"{name}-{sha256(relation.encode()).hexdigest()[:16]}"


def _edges(kinds: Mapping[str, IdKind], event: StoredEvent) -> pa.Schema:
    ends = (("src", event.user_type), ("dst", event.target_type))
    types = [(name, pa.int64() if kinds.get(kind) == "int64" else pa.string()) for name, kind in ends]
    return pa.schema([*types, ("time", pa.int64())])


def _id(kinds: Mapping[str, IdKind], entity_type: str, external: str) -> Any:
    return int(external) if kinds.get(entity_type) == "int64" else external

"""The embedded store: one SQLite file in WAL mode, shared by the workers of one machine.

Reads are one or two indexed look-ups on the event loop, microseconds long, and never wait for a writer. What users with
many events have done is added up in a thread and kept until it changes. Writes go through a thread of their own.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import ClassVar

from bundle.errors import StateError
from recommend.types import NO_LIVE_EDGES, LiveEdges
from service.problems import overloaded
from service.state import sqlite_schema as schema
from service.state.edge_cache import EdgeCache, Owner
from service.state.events import Event, Followers, Outcome, live_edges
from service.state.feedback import Count, Seen
from service.state.open_files import OpenFiles
from service.state.sqlite_writer import Erasure, Feedback, SqliteWriter
from service.state.trouble import Trouble
from service.state.write_queue import Append, QueueFull

# So many events are read and added up on the event loop.
FEW_EVENTS = 64
# Of a batch so many are stored before somebody else's may come in between.
EVENTS_OF_A_PORTION = 128
LATE = "a write has taken more than a second: another process holds the file, or the disk is slow"


class SqliteStore:
    """Events in the SQLite file at `path`. Made inside a running event loop; `close` it there."""

    local: ClassVar[bool] = True

    def __init__(self, path: Path, events_per_user_max: int, shed: Callable[[str], None] = lambda reason: None) -> None:
        """`shed` counts what is refused. Raises StateError when the file cannot be opened or is no database."""
        self._shed = shed
        self._reader = schema.connect(path)
        self._trouble = Trouble()
        self._files = files = OpenFiles(path)
        if files.fault() is not None:  # it is no file: SQLite keeps `:memory:` in memory, for each connection its own
            raise StateError(
                f"{path} cannot be opened as the store of live engagements: it makes no file of that name."
            )
        self._writer = SqliteWriter(path, files, events_per_user_max, self._trouble)
        self._cache = EdgeCache()
        self._adder_connection = schema.connect(path)
        self._adder = ThreadPoolExecutor(1, thread_name_prefix="twhin-state-reader")

    async def edges_of(self, user_type: str, user: str) -> LiveEdges:
        owner = user_type, user
        try:
            self._require_memory()
            live = await self._edges_of(owner, *schema.size_and_stamp(self._reader, owner))
        except Exception as error:
            raise self._failed(error) from error
        self._trouble.end("read")
        return live

    async def followers_of(self, user_type: str, user: str, relation: str) -> Followers:
        try:
            self._require_memory()
            found = schema.since(self._reader, (user_type, user), relation)[2]
        except Exception as error:
            raise self._failed(error) from error
        self._trouble.end("read")
        return found

    async def since(self, user_type: str, user: str, relation: str) -> tuple[LiveEdges, Followers | None]:
        owner = user_type, user
        try:
            self._require_memory()
            size, stamp, found = schema.since(self._reader, owner, relation)
            live = await self._edges_of(owner, size, stamp) if size else NO_LIVE_EDGES
        except Exception as error:
            raise self._failed(error) from error
        self._trouble.end("read")
        return live, found

    async def _edges_of(self, owner: Owner, size: int, stamp: int) -> LiveEdges:
        if size <= FEW_EVENTS:
            return live_edges(schema.events_of(self._reader, owner)) if size else NO_LIVE_EDGES
        kept = self._cache.get(owner)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        return await self._cache.added_up(owner, stamp, self._add_up)

    async def _add_up(self, owner: Owner) -> tuple[int, LiveEdges]:
        def read() -> tuple[int, LiveEdges]:
            self._require_memory()
            # One transaction, so that the stamp is that of the events.
            with schema.transaction(self._adder_connection, "BEGIN"):
                _, stamp = schema.size_and_stamp(self._adder_connection, owner)
                return stamp, schema.net_effect(self._adder_connection, owner)

        return await asyncio.get_running_loop().run_in_executor(self._adder, read)

    async def append(self, events: Sequence[Event]) -> list[Outcome]:
        if not events:
            return []
        loop, owner = asyncio.get_running_loop(), events[0].owner
        starts = range(0, len(events), EVENTS_OF_A_PORTION)
        # One batch after the other: if all went on in turns, all of many would be done too late.
        parts = [
            Append(events[at : at + EVENTS_OF_A_PORTION], loop.create_future(), owner, goes_on=at != starts[-1])
            for at in starts
        ]
        self._put(*parts)
        answers = asyncio.gather(*(part.future for part in parts), return_exceptions=True)
        try:
            outcomes: list[Outcome] = []
            for answer in await answers:
                if isinstance(answer, BaseException):
                    raise answer
                outcomes += answer
            return outcomes
        finally:
            answers.cancel()  # what has not begun is dropped

    async def forget(self, user_type: str, user: str) -> int:
        erasure = Erasure((user_type, user), asyncio.get_running_loop().create_future())
        self._put(erasure)
        try:
            return await erasure.future
        finally:
            self._cache.clear()  # others may have had the user as their target

    async def count(self, experiment: str, seen: Sequence[Seen]) -> list[bool]:
        if not seen:
            return []
        feedback = Feedback(experiment, seen, asyncio.get_running_loop().create_future())
        self._put(feedback)
        return await feedback.future

    async def counted(self, experiment: str) -> dict[str, Count]:
        try:
            self._require_memory()
            return schema.counted(self._reader, experiment)
        except Exception as error:
            raise self._failed(error) from error

    def _require_memory(self) -> None:
        """Raises StateError where reading would end the process; the writer mends it, and says so."""
        if not self._files.may_be_read():
            raise StateError("a file of the store of live engagements was cut")

    def _failed(self, error: Exception) -> StateError:
        """What a read that failed is told: a damaged file may hold anything, and so raise anything."""
        return error if isinstance(error, StateError) else schema.failed(self._trouble, "read", error)

    def _put(self, *writes: Append | Erasure | Feedback) -> None:
        try:
            self._writer.put(*writes)
        except QueueFull:
            self._shed("state_queue")
            raise overloaded("too many engagements wait to be stored") from None

    async def close(self) -> None:
        async with AsyncExitStack() as parts:  # the last one first, and each whatever befalls another
            parts.callback(self._files.close)
            parts.callback(self._reader.close)
            parts.callback(self._adder_connection.close)
            parts.push_async_callback(asyncio.to_thread, self._adder.shutdown)
            parts.push_async_callback(self._writer.close)

    @property
    def ended(self) -> list[str]:
        return [] if self._writer.alive else ["the thread that writes engagements"]

    def describe(self) -> dict[str, str | bool]:
        reason = self._trouble.reason or (LATE if self._writer.late else None)
        if not self._writer.alive:
            reason = "the thread that writes has ended"
        known: dict[str, str | bool] = {"kind": "sqlite", "healthy": reason is None, "shared": False}
        return known if reason is None else {**known, "reason": reason}

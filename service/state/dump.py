"""Everything that a store of live engagements holds, as a stream: for the next training, and for whoever moves a store.

It reads beside a running service: SQLite in one snapshot, Redis user by user, some events at a time, a cluster node by
node.
"""

import asyncio
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import hiredis
import msgspec

from bundle.errors import StateError
from service.settings import Settings
from service.state.events import Event
from service.state.redis_address import RedisAddress, redis_addresses
from service.state.redis_cluster import slot_map
from service.state.redis_connection import PasswordRefused, Unfit, connect, tls_context
from service.state.redis_scripts import Word

EVERY_EVENT = """
SELECT id, user_type, user, action, relation, target_type, target, at, received FROM events
"""
KEYS_SCANNED = 512
EVENTS_SCANNED = 256
FAULTS = (OSError, hiredis.HiredisError, PasswordRefused, Unfit, msgspec.DecodeError)
REPLY_SECONDS = 30.0
_decode = msgspec.json.Decoder(Event).decode


def stored_events(settings: Settings) -> Iterator[Event]:
    """Every event of the store that `settings` name, the events of one user together.

    Raises StateError when it cannot be read, or where there is none.
    """
    url = settings.shared_store_url()
    if url is None:
        return _of_sqlite(settings.state_path)
    first, *others = redis_addresses(url)
    if first.clustered:
        return _of_cluster([first, *others], settings.redis_prefix)
    return _of_redis(first, settings.redis_prefix)


def _of_sqlite(path: Path) -> Iterator[Event]:
    if not path.is_file():
        raise StateError(f"{path} is not there: no engagements were stored. Name the store: TWHIN_STATE, --state.")
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            for row in connection.execute(EVERY_EVENT):
                yield Event(*row)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StateError(f"{path} cannot be read as the store of live engagements: {error}.") from error


def _of_redis(address: RedisAddress, prefix: str) -> Iterator[Event]:
    try:
        yield from _of_node(address, prefix, set())
    except FAULTS as error:
        raise StateError(f"the Redis of live engagements cannot be read: {type(error).__name__}.") from error


def _of_node(address: RedisAddress, prefix: str, seen: set[bytes]) -> Iterator[Event]:
    """The events of the users that one Redis has and that are not `seen`: a scan may give a key twice."""
    pattern = re.sub(r"([][*?\\])", r"\\\1", prefix) + ":events:*"
    with closing(_Node(address)) as node:
        for key in node.scanned("SCAN", "MATCH", pattern, "COUNT", KEYS_SCANNED):
            if key not in seen:
                seen.add(key)
                values = list(node.scanned("HSCAN", "COUNT", EVENTS_SCANNED, key=key))[1::2]
                yield from {event.id: event for event in map(_decode, values)}.values()


def _of_cluster(seeds: Sequence[RedisAddress], prefix: str) -> Iterator[Event]:
    """What all primaries hold. A user whose slot moves meanwhile could be missed at both of its nodes, so none may."""
    try:
        nodes = _primaries(seeds)
        before = [_own_slots(node) for node in nodes]
        seen = set[bytes]()
        for node in nodes:
            yield from _of_node(node, prefix, seen)
        after = [_own_slots(node) for node in nodes]
    except FAULTS as error:
        raise StateError(
            f"A node of the Redis Cluster of live engagements cannot be read: {type(error).__name__}."
        ) from error
    if before != after or any("[" in slots for slots in after):
        raise StateError(
            "The Redis Cluster moved slots meanwhile, and users may be missing: run it again when it is done."
        )


def _primaries(seeds: Sequence[RedisAddress]) -> list[RedisAddress]:
    """The nodes that have the slots, of the first seed that answers."""
    for seed in seeds:
        try:
            reply: object = _asked(seed, "SLOTS")
        except OSError:
            if seed is seeds[-1]:
                raise
            continue
        known = slot_map(reply, seed.host)
        if -1 in known.node_of:
            raise StateError("Some slots of the Redis Cluster have no node, and users may be missing: mend it first.")
        return [replace(seed, host=host, port=port) for host, port in known.nodes]
    raise AssertionError


def _own_slots(node: RedisAddress) -> str:
    """What a node says of itself: role, epoch, its slots, and in brackets those that are under way.

    Not when others heard of it last, which stands between these and is another time every few seconds.
    """
    lines = str(_asked(node, "NODES"), "utf-8").splitlines()
    words = next(line.split() for line in lines if "myself" in line)
    return " ".join([words[2], words[6], *words[8:]])


def _asked(address: RedisAddress, question: str) -> Any:
    with closing(_Node(address)) as node:
        return node.ask("CLUSTER", question)


class _Node:
    """One Redis, asked where no event loop runs. All raise one of FAULTS."""

    def __init__(self, address: RedisAddress) -> None:
        self._runner = asyncio.Runner()
        try:
            made = connect(address, REPLY_SECONDS, tls_context(address), lambda _: None)
            self._connection = self._runner.run(made)
        except BaseException:
            self._runner.close()
            raise

    def ask(self, *command: Word) -> Any:
        """The reply."""

        async def asked() -> list[object]:
            return await self._connection.ask([command], REPLY_SECONDS)

        (reply,) = self._runner.run(asked())
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def scanned(self, command: str, *options: Word, key: bytes | None = None) -> Iterator[bytes]:
        """What all replies of SCAN or its like have. A thing may come twice."""
        cursor = b"0"
        while True:
            match self.ask(command, *(() if key is None else (key,)), cursor, *options):
                case [bytes() as cursor, list() as found]:
                    yield from found
                case _:
                    raise Unfit
            if cursor == b"0":
                return

    def close(self) -> None:
        self._connection.close()
        self._runner.close()

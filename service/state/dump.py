"""Everything that a store of live engagements holds, as a stream: for the next training, and for whoever moves a store.

It reads beside a running service: SQLite in one snapshot, Redis user by user, some events at a time, a cluster node by
node.
"""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from bundle.errors import StateError
from service.settings import Settings
from service.state.events import Event
from service.state.redis_address import RedisAddress, redis_addresses
from service.state.redis_cluster import NoMap, slot_map
from service.state.redis_reasons import WRONG_TYPE, is_for_good, reason_for

EVERY_EVENT = """
SELECT id, user_type, user, action, relation, target_type, target, at, received FROM events
"""
KEYS_SCANNED = 512
EVENTS_SCANNED = 256
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
    except (redis.RedisError, msgspec.DecodeError) as error:
        raise StateError(f"the Redis of live engagements cannot be read: {_why(error, address)}.") from error


def _why(error: Exception, address: RedisAddress) -> str:
    if isinstance(error, NoMap):
        return str(error)
    return WRONG_TYPE if isinstance(error, msgspec.DecodeError) else reason_for(error, address)[0]


def _of_node(address: RedisAddress, prefix: str, seen: set[bytes]) -> Iterator[Event]:
    """The events of the users that one Redis has and that are not `seen`: a scan may give a key twice. Where another
    server has taken its place meanwhile, the cursors of the first one lead past some.
    """
    pattern = re.sub(r"([][*?\\])", r"\\\1", prefix) + ":events:*"
    client = _client(address)
    try:
        before = _identity(client)
        for key in client.scan_iter(match=pattern, count=KEYS_SCANNED):
            if key not in seen:
                seen.add(key)
                fields = client.hscan_iter(key, count=EVENTS_SCANNED)  # may give one twice
                yield from {event.id: event for event in (_decode(value) for _, value in fields)}.values()
        if _identity(client) != before:
            raise StateError(
                "Another Redis took the place of the first meanwhile, events may be missing: run it again."
            )
    finally:
        client.close()


def _identity(client: "redis.Redis") -> set[tuple[str, object]]:
    """Which process answers, and whether as a replica; nothing where it does not tell."""
    try:
        told: Any = client.info()
    except redis.ResponseError as error:
        if not is_for_good(error):
            raise
        return set()
    return {(name, told.get(name)) for name in ("run_id", "role")}


def _of_cluster(seeds: Sequence[RedisAddress], prefix: str) -> Iterator[Event]:
    """What all primaries hold. A user whose slot moves meanwhile could be missed at both of its nodes, so none may."""
    try:
        nodes = _primaries(seeds)
        before = [_own_slots(node) for node in nodes]
        seen = set[bytes]()
        for node in nodes:
            yield from _of_node(node, prefix, seen)
        after = [_own_slots(node) for node in nodes]
    except (redis.RedisError, msgspec.DecodeError, NoMap) as error:
        raise StateError(
            f"A node of the Redis Cluster of live engagements cannot be read: {_why(error, seeds[0])}."
        ) from error
    if before != after or any("[" in slots for slots in after):
        raise StateError(
            "The Redis Cluster moved slots meanwhile, and users may be missing: run it again when it is done."
        )


def _primaries(seeds: Sequence[RedisAddress]) -> list[RedisAddress]:
    """The nodes that have the slots, of the first seed that knows them."""
    for seed in seeds:
        try:
            known = slot_map(_asked(seed, "SLOTS"), seed.host)
        except (redis.RedisError, NoMap):
            if seed is seeds[-1]:
                raise
            continue
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


def _asked(node: RedisAddress, question: str) -> Any:
    client = _client(node)
    try:
        client.response_callbacks.clear()  # as Redis says it
        return client.execute_command("CLUSTER", question)  # type: ignore[no-untyped-call]
    finally:
        client.close()


def _client(address: RedisAddress) -> "redis.Redis":
    place: dict[str, object] = {"host": address.host, "port": address.port, "ssl": address.tls, **address.tls_options}
    if address.path is not None:
        place = {"unix_socket_path": address.path}
    return redis.Redis(
        **place,  # type: ignore[arg-type]
        db=address.database,
        username=address.user,
        password=address.password,
        socket_timeout=REPLY_SECONDS,
        socket_connect_timeout=REPLY_SECONDS,
        # What is lost is asked for again for some seconds, and what is late is not: eleven times that is minutes.
        retry=Retry(ExponentialWithJitterBackoff(base=0.01, cap=1), 10, supported_errors=(redis.ConnectionError,)),
    )

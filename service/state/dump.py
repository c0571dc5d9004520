"""Everything that a store of live engagements holds, as a stream: for the next training, and for whoever moves a store.

It reads beside a running service: SQLite in one snapshot, Redis user by user.
"""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import redis

from bundle.errors import StateError
from service.settings import Settings
from service.state.events import Event
from service.state.redis_address import RedisAddress, redis_addresses

EVERY_EVENT = """
SELECT id, user_type, user, action, relation, target_type, target, at, received FROM events
"""
KEYS_SCANNED = 512
REPLY_SECONDS = 30.0
_decode = msgspec.json.Decoder(Event).decode


def stored_events(settings: Settings) -> Iterator[Event]:
    """Every event of the store that `settings` name, the events of one user together.

    Raises StateError when it cannot be read, or where there is none.
    """
    url = settings.shared_store_url()
    if url is None:
        return _of_sqlite(settings.state_path)
    first, *_ = redis_addresses(url)
    if first.clustered:
        raise StateError(
            "The engagements of a Redis Cluster cannot be exported yet: only those of one Redis, or of SQLite."
        )
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
    pattern = re.sub(r"([][*?\\])", r"\\\1", prefix) + ":events:*"
    try:
        client = _client(address)
        try:
            seen = set[bytes]()  # a scan may give a key twice
            for key in client.scan_iter(match=pattern, count=KEYS_SCANNED):
                if key not in seen:
                    seen.add(key)
                    yield from map(_decode, client.hvals(key))
        finally:
            client.close()
    except (redis.RedisError, msgspec.DecodeError) as error:
        raise StateError(f"the Redis of live engagements cannot be read: {type(error).__name__}.") from error


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
    )

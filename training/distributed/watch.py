"""How trainers on several machines hear of one that ends: a connection from each to the first, which passes it on."""

import contextlib
import os
import secrets
import socket
import sys
import threading
from typing import Protocol, runtime_checkable

from pydantic import ValidationError

from bundle.errors import RunError, TwhinError
from bundle.records import Record
from training.distributed.messages import GRACE_SECONDS, LOST, RESUME, error_class

# A machine that went without a word is noticed when it has not answered for this long: first, between, how often.
SILENCE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
# What a trainer has, once another failed, to end by itself: it may wait for an answer that never comes.
STUCK_SECONDS = 30.0
# To connect, once all have come.
JOIN_SECONDS = 60.0
LONGEST_LINE, LONGEST_ERROR = 1 << 16, 4000
STORED = "watch"


@runtime_checkable
class Store(Protocol):
    """torch's store of the job: `get` waits."""

    def set(self, key: str, value: str) -> None:
        """Keep a value."""
        ...

    def get(self, key: str) -> bytes:
        """A value, once there is one."""
        ...


class Word(Record):
    """One line. The first of a connection has the `secret`; the last says `well`, or why the trainer `rank` failed."""

    rank: int
    secret: str | None = None
    well: bool = False
    error: str | None = None
    code: str | None = None


class Watch:
    """One trainer's part. What others told, or that they are gone, is there for whoever asks; nobody waits for it."""

    def __init__(self, rank: int, size: int, hosts: list[str], store: Store, address: str) -> None:
        """Connect to the first trainer, at `address`; it waits for all. Raises RunError."""
        self._rank, self._hosts = rank, hosts
        self._failed, self._ending = threading.Event(), threading.Event()
        self._failures: list[Word] = []
        try:
            joined = _welcome(size, store) if rank == 0 else {0: _join(rank, store, address)}
        except OSError as error:
            raise RunError(f"Trainer {rank} and the others cannot connect, at {address}: {error}.") from error
        self._connections = joined
        self._listening = [
            threading.Thread(target=self._listen, args=(other, connection), daemon=True, name=f"watch-{other}")
            for other, connection in joined.items()
        ]
        for thread in self._listening:
            thread.start()

    def failed(self, seconds: float = 0.0) -> bool:
        """True when one is known to have failed, perhaps within some seconds."""
        return self._failed.wait(seconds)

    def error(self) -> TwhinError:
        """Why another trainer is gone, in its own words where it had any."""
        self._failed.wait(GRACE_SECONDS)
        if not self._failures:
            return RunError(f"Trainer {self._rank} of {len(self._hosts)} {LOST}. {RESUME}")
        word = self._failures[0]
        who = f"Trainer {word.rank} of {len(self._hosts)} ({self._hosts[word.rank]})"
        if word.error is None:
            return RunError(f"{who} is gone: its process was ended, or its machine. {RESUME}")
        return error_class(word.code)(f"{who} failed: {word.error}")

    def tell(self, error: BaseException) -> None:
        """Let the others know why this one ends, unless it ends because one of them did."""
        code = error.code if isinstance(error, TwhinError) else None
        text = str(error) if code else f"{type(error).__name__}: {error}"
        word = self._failures[0] if self._failures else Word(rank=self._rank, error=text[:LONGEST_ERROR], code=code)
        self._close(word)

    def leave(self) -> None:
        """Say goodbye, and wait for that of the others. Raises what one of them says instead."""
        if self._rank > 0:
            self._say(Word(rank=self._rank, well=True))
        for thread in self._listening:
            thread.join()
        self._close(Word(rank=self._rank, well=True))
        if self._failed.is_set():
            raise self.error()

    def _close(self, word: Word) -> None:
        self._ending.set()
        self._say(word)
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._listening:
            thread.join()
        for connection in self._connections.values():
            connection.close()

    def _say(self, word: Word) -> None:
        line = word.model_dump_json(exclude_defaults=True).encode() + b"\n"
        for connection in self._connections.values():
            with contextlib.suppress(OSError):  # it is gone, and needs no word
                connection.sendall(line)

    def _listen(self, rank: int, connection: socket.socket) -> None:
        """Wait for the last word of another trainer; the first one passes on what it was not."""
        word = _read(connection)
        if self._ending.is_set() or (word is not None and word.well):
            return
        self._failures.append(word or Word(rank=rank))
        self._failed.set()
        if self._rank == 0:
            self._say(self._failures[0])
        if not self._ending.wait(STUCK_SECONDS):
            sys.stderr.write(f"twhin: {self.error()}\n")
            sys.stderr.flush()
            os._exit(RunError.exit_status)


def _welcome(size: int, store: Store) -> dict[int, socket.socket]:
    """The first trainer's connections from all others."""
    both = socket.has_dualstack_ipv6()
    secret = secrets.token_hex(16)
    joined: dict[int, socket.socket] = {}
    family = socket.AF_INET6 if both else socket.AF_INET
    with socket.create_server(("", 0), family=family, dualstack_ipv6=both, backlog=size) as server:
        server.settimeout(JOIN_SECONDS)
        store.set(STORED, f"{server.getsockname()[1]} {secret}")
        while len(joined) < size - 1:
            connection, _ = server.accept()
            connection.settimeout(JOIN_SECONDS)
            word = _read(_kept_alive(connection))
            connection.settimeout(None)
            if word is None or word.secret is None or not secrets.compare_digest(word.secret, secret):
                connection.close()  # somebody else
            else:
                joined[word.rank] = connection
    return joined


def _join(rank: int, store: Store, address: str) -> socket.socket:
    """A connection to the first trainer."""
    port, secret = store.get(STORED).decode().split()
    connection = _kept_alive(socket.create_connection((address, int(port)), JOIN_SECONDS))
    connection.settimeout(None)
    connection.sendall(Word(rank=rank, secret=secret).model_dump_json(exclude_defaults=True).encode() + b"\n")
    return connection


def _kept_alive(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in SILENCE.items():
        if hasattr(socket, name):  # Linux
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


def _read(connection: socket.socket) -> Word | None:
    """The next line, None at the end of the connection or for what is no word."""
    line = b""
    with contextlib.suppress(OSError, ValidationError):
        while not line.endswith(b"\n") and len(line) < LONGEST_LINE:
            piece = connection.recv(1)
            if not piece:
                return None
            line += piece
        return Word.model_validate_json(line)
    return None


def interface_towards(address: str, port: int, interfaces: dict[str, list[str]]) -> str | None:
    """The name of the interface by which this machine reaches `address`; None where that is the machine itself.

    `interfaces`: the addresses of each.
    """
    family, kind, protocol, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(place)  # sends nothing
        mine = probe.getsockname()[0]
    if mine.startswith("127.") or mine == "::1":
        return None
    return next((name for name, has in interfaces.items() if mine in has), None)

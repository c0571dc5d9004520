"""The sockets of the service: bound early, listening once somebody can answer, closed without resetting anyone."""

import array
import contextlib
import errno
import resource
import select
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bundle.errors import UsageError

# Linux's, from asm-generic/socket.h; Python has no name for it.
SO_ATTACH_FILTER = 26
# In its `struct tcp_info`: `tcpi_unacked`, which of a listening socket is the length of its queue.
QUEUE_LENGTH = slice(24, 28)
SYN, SYN_OR_ACK, FLAGS_OFFSET = 0x02, 0x12, 13
# Connections that are taken in one turn of the event loop: a millisecond's work at most.
TAKEN_IN_A_TURN = 8
# Of the files that a process may still open when it begins to serve, an eighth is not for connections, and no more than
# so many: a version, the store and a child process need some too.
FILES_KEPT = 256
# A classic BPF program over the TCP header of what arrives: (code, jump if true, jump if false, operand).
DROP_OPENING = (
    (0x30, 0, 0, FLAGS_OFFSET),  # load the byte of flags
    (0x54, 0, 0, SYN_OR_ACK),  # keep these two
    (0x15, 0, 1, SYN),  # only SYN: somebody opens a connection
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # let everything else through
)


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to every address of `host`, not listening yet. `::` is every address of IPv6 and IPv4.

    Raises UsageError when there is no such address or another service listens there.
    """
    bound: list[socket.socket] = []
    try:
        if not host:
            raise OSError(errno.EADDRNOTAVAIL, "an empty name is no address")
        for family, address in dict.fromkeys(_addresses(host, port)):
            with contextlib.ExitStack() as undo:
                sock = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
                # With port 0 the system chooses; the further addresses take the same.
                chosen = bound[0].getsockname()[1] if bound else port
                sock.bind((address, chosen))
                sock.set_inheritable(False)
                sock.setblocking(False)
                undo.pop_all()
            bound.append(sock)
    except (OSError, UnicodeError) as error:  # the latter of a name that is too long for one
        for sock in bound:
            sock.close()
        raise refused(host, port, error) from error
    return bound


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    """(family, address) of `host`, without the families that this machine does not have."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    every: list[tuple[socket.AddressFamily, str]] = [(family, str(address[0])) for family, _, _, _, address in found]
    here = [one for one in every if _is_here(*one)]
    return here or every


def _is_here(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


def refused(host: str, port: int, error: OSError | UnicodeError) -> UsageError:
    """The error to raise when nobody can listen on `host` and `port`."""
    why = error.strerror if isinstance(error, OSError) else "that is no name of a host"
    return UsageError(f"Nobody can listen on {host}:{port}: {why}. Stop what does, or choose another --port or --host.")


def doors(listeners: Sequence[socket.socket]) -> list[socket.socket]:
    """Each of `listeners` several times over, to be closed when they are not needed.

    In one turn of its loop uvloop takes one connection from each socket that it is given, and a busy loop's turn is
    long: of a thousand who come at once the last would wait for seconds, and a health check behind them.
    """
    return [listener.dup() for listener in listeners for _ in range(TAKEN_IN_A_TURN)]


def most_connections(open_files: Path = Path("/dev/fd")) -> int:
    """How many connections this process may hold beside the files that it has open now."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        left = most - sum(1 for _ in open_files.iterdir())
    except OSError:  # nothing tells here: a root directory of its own, without /proc
        left = most // 2
    # The last of them may come with others, taken in the same turn.
    return max(1, left - min(FILES_KEPT, left // 8) - TAKEN_IN_A_TURN)


def turn_away(listeners: Sequence[socket.socket]) -> None:
    """Let nobody begin to connect, while those who have begun still may.

    Closing a listening socket resets the connections that wait to be accepted, and some always may: the client's side
    of a handshake is complete before ours. So first the packets that would open a connection are dropped by a filter
    (a client repeats them after a second, and is refused by then), a round trip later nobody new can be in the queue,
    and it can be emptied and closed. Where the system knows no filters, closing is what it always was.
    """
    for listener in listeners:
        program = array.array("B", b"".join(struct.pack("HBBI", *step) for step in DROP_OPENING))
        with contextlib.suppress(OSError):
            listener.setsockopt(
                socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(DROP_OPENING), program.buffer_info()[0])
            )


def queued(listener: socket.socket) -> int:
    """How many connections wait in the queue of `listener`; 1 for any number where the system does not count them."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    if not poll.poll(0):
        return 0
    try:
        told = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, QUEUE_LENGTH.stop)
    except (OSError, AttributeError):  # not on Linux
        return 1
    return max(1, int.from_bytes(told[QUEUE_LENGTH], sys.byteorder))


def waiting(listener: socket.socket) -> Iterator[socket.socket]:
    """The connections that wait in the queue of `listener`, accepted."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # nobody waits (BlockingIOError), or the one who did has gone
            return
        connection.setblocking(False)
        yield connection

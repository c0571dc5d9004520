"""The sockets of the service: which addresses a name is, what is refused, and who is let in at the end."""

import socket

import pytest

from bundle.errors import UsageError
from service.listener import bind, turn_away, waiting


def test_two_colons_are_every_address_and_a_name_all_that_it_has() -> None:
    named = {str(found[4][0]) for found in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    for host, addresses in (("::", {"127.0.0.1", "::1"}), ("localhost", named)):
        listeners = bind(host, 0)
        port = listeners[0].getsockname()[1]
        for listener in listeners:
            listener.listen()
        for address in addresses:
            socket.create_connection((address, port), timeout=5).close()
        for listener in listeners:
            listener.close()


def test_nobody_can_connect_before_it_listens() -> None:
    [listener] = bind("127.0.0.1", 0)
    with listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname(), timeout=5)


@pytest.mark.parametrize("host", ["", "no.such.host", "203.0.113.1", "h" * 64, "a..b"])
def test_what_is_no_address_here_is_refused_in_one_line(host: str) -> None:
    with pytest.raises(UsageError, match=r"^Nobody can listen on [^\n]*--host\.$"):
        bind(host, 0)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_whoever_has_connected_is_let_in_and_nobody_else(address: str) -> None:
    [listener] = bind(address, 0)
    listener.listen()
    clients = [socket.create_connection(listener.getsockname()[:2], timeout=5) for _ in range(5)]
    turn_away([listener])
    with pytest.raises(TimeoutError):
        socket.create_connection(listener.getsockname()[:2], timeout=0.2)
    accepted = list(waiting(listener))
    listener.close()
    assert len(accepted) == 5
    for connection, client in zip(accepted, clients, strict=True):
        connection.sendall(b"answer")
        assert client.recv(10) == b"answer"
        connection.close()
        client.close()

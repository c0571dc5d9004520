"""The sockets of the service: which addresses a name is, what is refused, and who is let in at the end."""

import asyncio
import resource
import socket
from pathlib import Path

import pytest
import uvloop

from bundle.errors import UsageError
from service.listener import TAKEN_IN_A_TURN, bind, doors, most_connections, queued, turn_away, waiting


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
    assert queued(listener) == 0
    clients = [socket.create_connection(listener.getsockname()[:2], timeout=5) for _ in range(5)]
    assert queued(listener) == 5
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


def test_a_loop_takes_several_of_those_who_wait_in_one_turn() -> None:
    waiting_clients, made, turns = 64, 0, 0

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            nonlocal made
            made += 1
            transport.close()

    async def turns_until_all_are_taken() -> None:
        nonlocal turns
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(Accepted, sock=door) for door in doors([listener])]
        while made < waiting_clients and turns < 10 * waiting_clients:
            await asyncio.sleep(0)
            turns += 1
        for server in servers:
            server.close()

    [listener] = bind("127.0.0.1", 0)
    with listener:
        listener.listen(waiting_clients)
        clients = [socket.create_connection(listener.getsockname(), timeout=5) for _ in range(waiting_clients)]
        uvloop.run(turns_until_all_are_taken())
        for client in clients:
            client.close()
    assert made == waiting_clients
    assert turns <= waiting_clients / TAKEN_IN_A_TURN + 5


def test_connections_leave_some_files_also_where_nothing_tells_how_many_are_open(tmp_path: Path) -> None:
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, usual[1]))
        assert most_connections(tmp_path) == 1000 - 125 - TAKEN_IN_A_TURN
        assert most_connections(tmp_path / "nothing") == 500 - 62 - TAKEN_IN_A_TURN
        assert most_connections() < most_connections(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)

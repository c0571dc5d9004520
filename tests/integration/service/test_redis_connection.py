"""One connection to a real Redis: who gives up, who is late, what nobody asked for, TLS, socket files, passwords."""

import asyncio
import contextlib
import gc
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from redis.exceptions import AuthenticationError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from service.state.redis_address import RedisAddress, redis_address
from service.state.redis_connection import RedisConnection, Unfit, connect
from tests.support.certificate import write_certificate
from tests.support.fault_proxy import FaultProxy
from tests.support.servers import RedisServer

SECRET = "p4ss-of-nobody"


@pytest.fixture
def over() -> list[RedisConnection]:
    """Of whom it was told that an exchange is over, as often as it was."""
    return []


async def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not done():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def connected(
    address: RedisAddress, over: list[RedisConnection], seconds: float = 5.0
) -> AsyncIterator[RedisConnection]:
    connection = await connect(address, seconds, over.append)
    try:
        yield connection
    finally:
        connection.close()
        await asyncio.sleep(0.01)  # a socket is closed at the loop's next turn


async def test_who_gives_up_leaves_a_connection_that_is_in_order(
    redis_server: RedisServer, over: list[RedisConnection]
) -> None:
    async with connected(redis_address(redis_server.url), over) as connection:
        connection.ask([("SET", "key", "of the first")], 5.0).cancel()
        await until(lambda: len(over) == 1)
        found, refused, pong = await connection.ask([("GET", "key"), ("NO_SUCH_COMMAND",), ("PING",)], 5.0)
        assert (found, pong) == (b"of the first", b"PONG")
        assert isinstance(refused, ResponseError)
        assert over == [connection, connection]


async def test_what_nobody_waits_for_may_fail_in_silence(
    redis_server: RedisServer, over: list[RedisConnection]
) -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: reported.append(told["message"]))
    with contextlib.closing(FaultProxy(redis_server.port)) as proxy:
        async with connected(RedisAddress("127.0.0.1", proxy.port), over) as connection:
            proxy.mode = "hang"
            asked = connection.ask([("PING",)], 5.0)
            await asyncio.sleep(0.05)
            asked.cancel()
            await asyncio.sleep(0)
            connection.close()
            await until(lambda: len(over) == 1)
    connection._work = None
    del asked
    gc.collect()
    await asyncio.sleep(0)
    assert reported == []


async def test_what_has_come_while_the_loop_was_busy_is_not_late(
    redis_server: RedisServer, over: list[RedisConnection]
) -> None:
    async with connected(redis_address(redis_server.url), over, seconds=0.05) as connection:
        asked = connection.ask([("PING",)], 0.05)
        time.sleep(0.2)  # noqa: ASYNC251 - whatever keeps the event loop
        assert await asked == [b"PONG"]


async def test_what_is_late_closes_the_connection(redis_server: RedisServer, over: list[RedisConnection]) -> None:
    proxy = FaultProxy(redis_server.port)
    async with connected(RedisAddress("127.0.0.1", proxy.port), over, seconds=0.05) as connection:
        proxy.mode = "hang"
        with pytest.raises(TimeoutError):
            await connection.ask([("PING",)], 0.05)
        assert connection.closed
        with pytest.raises(ConnectionError):
            await connection.ask([("PING",)], 0.05)
        assert over == [connection, connection]
    proxy.close()


async def test_who_asks_in_the_turn_of_its_closing_is_told(
    redis_server: RedisServer, over: list[RedisConnection]
) -> None:
    async with connected(redis_address(redis_server.url), over) as connection:
        asked = connection.ask([("PING",)], 5.0)
        connection.close()
        with pytest.raises(ConnectionError):
            await asked
        assert over == [connection]


@pytest.mark.parametrize("extra", [b"+MORE\r\n", b"+half of mo"])
async def test_one_reply_too_many_is_nobodys(over: list[RedisConnection], extra: bytes) -> None:
    """A proxy that mixes up connections: the reply to the command may be the wrong one as well."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        async with connected(RedisAddress("127.0.0.1", listener.getsockname()[1]), over) as connection:
            server, _ = listener.accept()
            with contextlib.closing(server):
                asked = connection.ask([("PING",)], 5.0)
                server.sendall(b"+PONG\r\n" + extra)
                with pytest.raises(Unfit):
                    await asked
                assert connection.closed


async def test_what_nobody_asked_for_makes_a_connection_unfit(over: list[RedisConnection]) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        async with connected(RedisAddress("127.0.0.1", listener.getsockname()[1]), over) as connection:
            server, _ = listener.accept()
            with contextlib.closing(server):
                assert await connection.is_fit()
                server.sendall(b"-ERR max number of clients reached\r\n")
                await asyncio.sleep(0.1)
                assert not await connection.is_fit()
                assert connection.closed


async def test_a_connection_that_the_other_side_has_closed_is_not_fit(over: list[RedisConnection]) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        async with connected(RedisAddress("127.0.0.1", listener.getsockname()[1]), over) as connection:
            server, _ = listener.accept()
            server.close()
            await asyncio.sleep(0.1)
            assert not await connection.is_fit()


async def test_a_password_a_user_and_a_database(redis_server: RedisServer, over: list[RedisConnection]) -> None:
    redis_server.command("ACL", "SETUSER", "least", "on", f">{SECRET}", "~*", "+@all")
    address = replace(redis_address(redis_server.url), user="least", password=SECRET, database=3)
    async with connected(address, over) as connection:
        assert await connection.ask([("SET", "key", "é"), ("ACL", "WHOAMI")], 5.0) == [b"OK", b"least"]
    assert redis_server.command("-n", "3", "GET", "key") == "é"
    with pytest.raises(AuthenticationError):
        await connect(replace(address, password="wrong"), 5.0, over.append)
    with pytest.raises(ResponseError, match="out of range"):
        await connect(replace(address, database=99), 5.0, over.append)


async def test_a_socket_file(tmp_path: Path, over: list[RedisConnection]) -> None:
    (tmp_path / "redis").mkdir()
    redis = RedisServer(tmp_path / "redis", ("--unixsocket", str(tmp_path / "redis.sock")))
    try:
        async with connected(redis_address(f"unix://{tmp_path / 'redis.sock'}?db=2"), over) as connection:
            assert await connection.ask([("PING",)], 5.0) == [b"PONG"]
    finally:
        redis.kill()


async def test_tls_with_the_authority_that_is_named_and_none_without(
    redis_server: RedisServer, tmp_path: Path, over: list[RedisConnection]
) -> None:
    certificate = write_certificate(tmp_path / "certificate.pem")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate)
    with contextlib.closing(FaultProxy(redis_server.port, served)) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}/0"
        for good in (f"?ssl_ca_certs={certificate}", "?ssl_cert_reqs=none"):
            async with connected(redis_address(url + good), over) as connection:
                assert await connection.ask([("PING",)], 5.0) == [b"PONG"]
        for bad in (url, url.replace("127.0.0.1", "localhost") + f"?ssl_ca_certs={certificate}"):
            address = redis_address(bad)
            with pytest.raises(RedisConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
                await connect(address, 5.0, over.append)
        unchecked = redis_address(bad + "&ssl_check_hostname=false")
        async with connected(unchecked, over) as connection:
            assert await connection.ask([("PING",)], 5.0) == [b"PONG"]

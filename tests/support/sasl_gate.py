"""What a broker with SASL has before it: a gate that lets a client of Kafka through once it has proved who it is.

The server's side of PLAIN (RFC 4616) and SCRAM (RFC 5802, RFC 7677) within Kafka's SaslHandshake and SaslAuthenticate.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import secrets
import struct
import threading
from collections.abc import Callable

HANDSHAKE, API_VERSIONS, AUTHENTICATE = 17, 18, 36
FAILED, UNSUPPORTED = 58, 33
HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
ITERATIONS = 4096
Step = Callable[[bytes], tuple[bytes, bool]]


class Refused(Exception):
    """The client is not who it says."""


class SaslGate:
    """Forwards a free local port to the broker at `target_port`, for those who prove by `mechanism` to be `user`."""

    def __init__(self, target_port: int, mechanism: str, user: str, password: str) -> None:
        self._target_port, self._mechanism = target_port, mechanism
        self._user, self._password = user, password
        self._server: asyncio.Server
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(5)

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """End every connection."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, started: threading.Event) -> None:
        async def listen() -> None:
            self._server = await asyncio.start_server(self._client, "127.0.0.1", 0)
            started.set()

        async def leave() -> None:
            self._server.close()
            clients = asyncio.all_tasks() - {asyncio.current_task()}
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
            await asyncio.sleep(0.01)  # transports close their sockets at the loop's next turn

        listening = self._loop.create_task(listen())
        self._loop.run_forever()
        self._loop.run_until_complete(leave())
        assert listening.done()
        self._loop.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        beyond, to_broker = await asyncio.open_connection("127.0.0.1", self._target_port)
        quietly = contextlib.suppress(OSError, asyncio.IncompleteReadError, Refused)
        with contextlib.closing(writer), contextlib.closing(to_broker), quietly:
            await self._let_in(reader, writer, beyond, to_broker)
            await asyncio.gather(_pour(reader, to_broker), _pour(beyond, writer))

    async def _let_in(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        beyond: asyncio.StreamReader,
        to_broker: asyncio.StreamWriter,
    ) -> None:
        step, through = self._steps(), False
        while not through:
            frame = await _frame(reader)
            key, version, correlation, length = struct.unpack(">hhih", frame[:10])
            body = frame[10 + max(0, length) :]
            if key == API_VERSIONS:  # which everybody may ask
                to_broker.write(struct.pack(">i", len(frame)) + frame)
                answer = await _frame(beyond)
            elif key == HANDSHAKE:
                asked, known = body[2:].decode(), self._mechanism.encode()
                code = 0 if asked == self._mechanism else UNSUPPORTED
                answer = struct.pack(">ihih", correlation, code, 1, len(known)) + known
            elif key == AUTHENTICATE and version < 2:
                session = struct.pack(">q", 0) if version else b""
                try:
                    said, through = step(body[4:])
                    answer = struct.pack(">ihhi", correlation, 0, -1, len(said)) + said + session
                except Refused as error:
                    why = str(error).encode()
                    answer = struct.pack(">ihh", correlation, FAILED, len(why)) + why + struct.pack(">i", 0) + session
            else:
                raise Refused("nothing else before the proof")
            writer.write(struct.pack(">i", len(answer)) + answer)
            await writer.drain()

    def _steps(self) -> Step:
        return self._plain if self._mechanism == "PLAIN" else Scram(HASHES[self._mechanism], self._user, self._password)

    def _plain(self, said: bytes) -> tuple[bytes, bool]:
        _, user, password = said.split(b"\0")
        if (user.decode(), password.decode()) != (self._user, self._password):
            raise Refused("wrong user or password")
        return b"", True


class Scram:
    """One conversation: the client proves that it has the password, then so does the server."""

    def __init__(self, algorithm: str, user: str, password: str) -> None:
        self._algorithm, self._user, self._password = algorithm, user, password
        self._begun: tuple[str, str, str] | None = None
        self._salt = secrets.token_bytes(16)

    def __call__(self, said: bytes) -> tuple[bytes, bool]:
        return self._first(said.decode()) if self._begun is None else self._last(said.decode(), *self._begun)

    def _first(self, said: str) -> tuple[bytes, bool]:
        bare = said.removeprefix("n,,")
        fields = _fields(bare)
        if fields["n"] != self._user:
            raise Refused("unknown user")
        nonce = fields["r"] + secrets.token_hex(12)
        answer = f"r={nonce},s={base64.b64encode(self._salt).decode()},i={ITERATIONS}"
        self._begun = bare, answer, nonce
        return answer.encode(), False

    def _last(self, said: str, first: str, answered: str, nonce: str) -> tuple[bytes, bool]:
        fields = _fields(said)
        without_proof = said.rpartition(",p=")[0]
        if fields["r"] != nonce:
            raise Refused("another conversation's nonce")
        salted = hashlib.pbkdf2_hmac(self._algorithm, self._password.encode(), self._salt, ITERATIONS)
        whole = f"{first},{answered},{without_proof}".encode()
        key = self._hmac(salted, b"Client Key")
        signature = self._hmac(hashlib.new(self._algorithm, key).digest(), whole)
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        if not hmac.compare_digest(proof, base64.b64decode(fields["p"])):
            raise Refused("wrong password")
        verifier = self._hmac(self._hmac(salted, b"Server Key"), whole)
        return b"v=" + base64.b64encode(verifier), True

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.new(key, message, self._algorithm).digest()


def _fields(text: str) -> dict[str, str]:
    return {part[0]: part[2:] for part in text.split(",")}


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(length)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()

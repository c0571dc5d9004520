"""uvicorn's protocol, amended twice: an answer's head and body leave in one write, a request's head is bounded.

The server sends head and body apart, and each is a system call and wakes the client. It reads a head of any size, for
as long as the client likes to send it.
"""

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class JoinedWrites:
    """A transport whose writes of one turn of the event loop leave together."""

    __slots__ = ("_loop", "_parts", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send `data`, together with what else is written before the loop turns."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts:
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        """Send what is left, then close."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._flush()
        self._transport.set_protocol(protocol)


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol over `JoinedWrites`. A head that is too long gets 400, one that is too slow no answer."""

    HEAD_BYTES: ClassVar[int] = 64 << 10
    HEAD_SECONDS: ClassVar[float] = 10.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = JoinedWrites(transport, self.loop)  # type: ignore[assignment]
        self._head_since: float | None = self.loop.time()
        self._head_bytes = 0
        self._watch = self.loop.call_later(self.HEAD_SECONDS, self._close_if_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_since is None:
            return
        self._head_bytes += len(data)
        if self._head_bytes > self.HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_since, self._head_bytes = self.loop.time(), 0

    def on_headers_complete(self) -> None:
        self._head_since = None
        super().on_headers_complete()

    def _close_if_slow(self) -> None:
        since = self._head_since
        if since is not None and self.loop.time() - since >= self.HEAD_SECONDS:
            self.transport.close()
        else:
            self._watch = self.loop.call_later(self.HEAD_SECONDS, self._close_if_slow)

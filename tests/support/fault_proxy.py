"""A TCP proxy that misbehaves on request: slow, silent, cutting off, talking garbage."""

import asyncio
import contextlib
import ssl
import threading


class FaultProxy:
    """Forwards a free local port to `target_port`, where new connections go. Set `mode` at any time; it counts for
    bytes from then on.

    Modes: "pass", "delay" (of `delay_seconds`), "hang" (nothing comes back), "reset" (cut off in mid-reply),
    "garbage" (replies replaced by noise), "refuse" (new connections are closed at once). With `tls` the clients speak
    TLS with it, and it does not with the target.
    """

    def __init__(self, target_port: int, tls: ssl.SSLContext | None = None) -> None:
        self.mode = "pass"
        self.delay_seconds = 0.1
        self.target_port = target_port
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._forgotten: set[asyncio.StreamWriter] = set()
        self._swallows = False
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait(5)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)

        async def listen() -> None:
            self._server = await asyncio.start_server(self._client, "127.0.0.1", 0, ssl=self._tls)
            started.set()

        self._loop.create_task(listen())
        self._loop.run_forever()
        self._loop.run_until_complete(self._leave_nothing_open())
        self._loop.close()

    async def _leave_nothing_open(self) -> None:
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0.01)  # a connection that was being accepted becomes a client, whose writer is known
        clients = asyncio.all_tasks() - {asyncio.current_task()}
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)  # transports close their sockets at the loop's next turn

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self.mode == "refuse":
            writer.close()
            return
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.close()
            return
        self._writers.add(upstream_writer)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(
                self._pump(reader, upstream_writer, replies=False), self._pump(upstream_reader, writer, replies=True)
            )
        self._writers -= {writer, upstream_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool) -> None:
        try:
            while data := await reader.read(65536):
                if writer in self._forgotten and self._swallows:
                    continue
                if writer in self._forgotten:
                    return
                if replies:
                    data = await self._spoil(data, writer)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def _spoil(self, data: bytes, writer: asyncio.StreamWriter) -> bytes:
        if self.mode == "delay":
            await asyncio.sleep(self.delay_seconds)
        elif self.mode == "hang":
            await asyncio.sleep(3600)
        elif self.mode == "reset":
            writer.write(data[: len(data) // 2])
            writer.transport.abort()
        elif self.mode == "garbage":
            return b"\x00\xff?!\r\n" * 3
        return data

    def forget(self, *, swallow: bool = False) -> None:
        """Forget all connections that are open, as a firewall does with idle ones: what comes next on one ends it, or
        with `swallow` gets no answer. New ones are forwarded.
        """

        def forget() -> None:
            self._forgotten, self._swallows = set(self._writers), swallow

        self._loop.call_soon_threadsafe(forget)

    def close(self) -> None:
        """Stop forwarding."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

"""Servers that the service's tests start: the application under uvicorn in a thread, a redis-server of their own."""

import contextlib
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import httpx
import psutil
import uvicorn

from service.call import ASGIApp
from service.http_protocol import HttpProtocol
from service.main import create_app
from service.settings import Settings


@contextlib.contextmanager
def running(settings: Settings, app: ASGIApp | None = None) -> Iterator[str]:
    """The application, or that which is given, under uvicorn in a thread; gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app or create_app(settings),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=settings.keep_alive_seconds,
        loop="asyncio",
        http=HttpProtocol,
        ws="none",
        server_header=False,
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the server did not start")
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """A real redis-server on a free port, which a test may stop, hang and start again."""

    def __init__(self, directory: Path, options: Sequence[str] = ()) -> None:
        self.port = free_port()
        self.directory = directory
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, with its data of before, and wait until it answers."""
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
            + ["--appendonly", "yes", "--appendfsync", "always", "--save", "", *self._options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2) as ask:
                ask.sendall(b"PING\r\n")
                if ask.recv(16).startswith(b"+PONG"):
                    return
            time.sleep(0.02)
        self.kill()
        raise RuntimeError("redis-server did not start")

    def command(self, *words: str) -> str:
        """What redis-cli prints for one command."""
        done = subprocess.run(
            ["redis-cli", "-p", str(self.port), *words], capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """While a script of another program runs, and everything else is refused for it."""
        self.command("CONFIG", "SET", "lua-time-limit", "1")
        runs = ["redis-cli", "-p", str(self.port), "EVAL", "while true do end", "0"]
        with subprocess.Popen(runs, stdout=subprocess.DEVNULL) as script:
            while not self.command("PING").startswith("BUSY"):
                if script.poll() is not None:
                    raise RuntimeError("the script has ended")
                time.sleep(0.02)
            try:
                yield
            finally:
                self.command("SCRIPT", "KILL")

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def replica_of(redis: RedisServer, directory: Path) -> Iterator[RedisServer]:
    """Another redis-server, in a new `directory`, that has all that the first one has; killed in the end."""
    directory.mkdir()
    other = RedisServer(directory)
    try:
        other.command("REPLICAOF", "127.0.0.1", str(redis.port))
        deadline = time.monotonic() + 60
        while "master_link_status:up" not in other.command("INFO", "replication"):
            if time.monotonic() > deadline:
                raise RuntimeError("the replica does not get what the other one has")
            time.sleep(0.01)
        yield other
    finally:
        other.kill()


class ServiceProcess:
    """`twhin serve` in a process of its own, as an operator would start it, with so many `files` at most."""

    def __init__(self, bundles: Path, *arguments: str, files: str = "", **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = bundles.parent / f"service-{self.port}.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TWHIN_")}
        limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (int(files), int(files))) if files else None
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from cli.main import main; main()", "serve", "--bundles", str(bundles)]
                + ["--port", str(self.port), *arguments],
                env={**clean, "OMP_NUM_THREADS": "1", **environment},
                stderr=log,
                stdout=log,
                preexec_fn=limit,
            )

    def wait_until_ready(self, seconds: float = 60) -> "ServiceProcess":
        """Wait until /readyz says so."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz", timeout=1).status_code == 200:
                    return self
            time.sleep(0.05)
        raise RuntimeError(self.log.read_text())

    def worker_pids(self) -> list[int]:
        """The processes that answer, where there are several."""
        children = psutil.Process(self.process.pid).children()
        alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
        return [child.pid for child in alive if "spawn_main" in str(child.cmdline())]

    def wait_for_workers(self, n: int, seconds: float = 60) -> "ServiceProcess":
        """Wait until `n` of several workers serve; /readyz speaks for one."""
        deadline = time.monotonic() + seconds
        while sum(f'"worker":{pid}}}' in self.log.read_text() for pid in self.worker_pids()) < n:
            if time.monotonic() > deadline:
                raise RuntimeError(self.log.read_text())
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """End it, gently first."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

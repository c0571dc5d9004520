"""A headless Chromium, driven over its debugging protocol: what a reader sees and does, and what a page may do."""

import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


class Page:
    """The one page of a browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self.command("Page.enable")
        self.command("Runtime.enable")
        self.command("Log.enable")
        self.log: list[str] = []

    def command(self, method: str, **parameters: object) -> dict[str, Any]:
        """The result of one command of the protocol; what the page logs meanwhile is kept."""
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv(30))
            if message.get("method") == "Log.entryAdded":
                self.log.append(message["params"]["entry"]["text"])
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(message["error"])
                result: dict[str, Any] = message["result"]
                return result

    def open(self, url: str, until: str = "document.readyState === 'complete'") -> "Page":
        """Go to `url` and wait until it has loaded and the expression is true there."""
        self.command("Page.navigate", url=url)
        # Before a page has loaded, what it adds to its history takes the place of what was there.
        loaded = "performance.getEntriesByType('navigation')[0]?.loadEventEnd > 0"
        return self.wait(f"location.href !== 'about:blank' && {loaded} && ({until})")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of the page's own language; a promise is waited for."""
        result = self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"])[:500])
        return result["result"].get("value")

    def wait(self, expression: str, seconds: float = 20) -> "Page":
        """Wait until the expression is true."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(RuntimeError):  # the page may be on its way from one document to the next
                if self.evaluate(expression):
                    return self
            if time.monotonic() > deadline:
                raise TimeoutError(f"{expression}: {self.evaluate('document.body.innerText')!r}")
            time.sleep(0.05)


@contextlib.contextmanager
def browser(profile: Path, *options: str) -> Iterator[Page]:
    """A page of a new browser whose data are in `profile`."""
    if CHROMIUM is None:
        raise RuntimeError("no Chromium on this machine: `make test` installs it")
    command = [CHROMIUM, *QUIET, *options, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = _debugging_port(profile / "DevToolsActivePort", process)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=20) as answer:
            target = next(one for one in json.load(answer) if one["type"] == "page")
        with connect(target["webSocketDebuggerUrl"], max_size=None) as connection:
            yield Page(connection)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _debugging_port(file: Path, process: "subprocess.Popen[bytes]") -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(file.read_text().splitlines()[0])
        time.sleep(0.05)
    raise RuntimeError("Chromium did not start")

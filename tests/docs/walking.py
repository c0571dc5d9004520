"""Walking a page as a reader does: its files are saved, its commands run, its Python executed, from top to bottom."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from cli.main import app
from tests.docs.pages import Block, blocks

DOWNLOADS = ("curl -O ", "unzip ")  # the walk begins with what they would bring


class Walk:
    """One walk: the directory that the reader is in, what stands for the page's addresses, what was printed."""

    def __init__(self, directory: Path, instead: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self.directory, self.instead = directory, instead
        self.printed = ""
        self.names: dict[str, Any] = {}
        bin_folder = Path(sys.executable).parent
        self.environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", **environment}
        self._running: list[subprocess.Popen[bytes]] = []

    def block(self, block: Block) -> None:
        """Do what a reader does with a block; one without a language is only looked at."""
        text = block.text.replace("\\\n", " ")
        for theirs, ours in self.instead.items():
            text = text.replace(theirs, ours)
        if block.language == "toml":
            (self.directory / "graph.toml").write_text(text)
        elif block.language == "sh":
            for line in text.splitlines():
                self._command(line.split(" #")[0].strip())
        elif block.language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(text, f"{block.page.name}:{block.line}", "exec"), self.names)  # noqa: S102 - the page is ours
            self.printed += printed.getvalue()

    def _command(self, line: str) -> None:
        if line.startswith(DOWNLOADS):
            return
        words = shlex.split(line)
        if words[:2] == ["twhin", "serve"] or "--follow" in words:
            self._in_the_background(words)
        elif words[-1] == "&":
            self._in_the_background(words[:-1])
        elif words[0] == "twhin" and "$(" not in line:  # in this process: it has the libraries loaded
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                app(words[1:], standalone_mode=False)
            self.printed += printed.getvalue()
        else:
            done = subprocess.run(
                ["bash", "-c", line], env=self.environment, capture_output=True, text=True, timeout=120, check=True
            )
            self.printed += f"{done.stdout}\n"

    def _in_the_background(self, words: list[str]) -> None:
        process = subprocess.Popen(
            words, cwd=self.directory, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._running.append(process)
        if words[:2] == ["twhin", "serve"]:
            transport = httpx.HTTPTransport(retries=100)
            with httpx.Client(transport=transport, timeout=60) as client:
                port = words[words.index("--port") + 1]
                assert client.get(f"http://127.0.0.1:{port}/readyz").status_code == 200, words

    def close(self) -> None:
        """End what runs in the background, and the page's connections to it."""
        if "client" in self.names:
            self.names["client"].close()
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait(60)


@contextlib.contextmanager
def walked(
    page: Path, directory: Path, instead: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Walk]:
    """`page`, walked in `directory`; its servers run until the end of the `with`.

    `instead`: what is written for an address of the page. A `twhin serve` without a port must be given one there.
    """
    walk = Walk(directory, instead or {}, environment or {})
    try:
        with contextlib.chdir(directory):
            for block in blocks(pages=[page]):
                walk.block(block)
            yield walk
    finally:
        walk.close()


def figures(printed: str, pattern: str) -> list[float]:
    """The numbers that the groups of `pattern` have in what was printed."""
    found = re.search(pattern, printed)
    assert found, printed
    return [float(group) for group in found.groups()]

"""The command as a user calls it, and one small published pipeline for every test that only reads."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundle.versions import current_version
from cli.main import main
from tests.support.once import made_once

TRAINING = ["--set", "dim=16", "--set", "epochs=2", "--set", "threads=1", "--set", "negatives_uniform=64"]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def twhin() -> Command:
    """Runs the command to its end in this process, which has the libraries loaded; `status` is the exit status it must
    have."""

    def run(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        words, end = ["twhin", *map(str, arguments)], 0
        with (
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(io.StringIO()) as errors,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, "argv", words)
            try:
                main()
            except SystemExit as ended:
                end = ended.code or 0
        assert end == status, out.getvalue() + errors.getvalue()
        return subprocess.CompletedProcess(words, end, out.getvalue(), errors.getvalue())

    return run


def installed(*arguments: object) -> str:
    """What the installed command prints, in a process of its own; it must succeed."""
    command = [str(Path(sys.executable).with_name("twhin")), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Pipeline:
    """A generated graph, its run and its published version."""

    def __init__(self, root: Path) -> None:
        self.graph = root / "graph" / "graph.toml"
        self.run = root / "run"
        self.bundles = root / "bundles"
        self.version = current_version(self.bundles) or ""

    @property
    def path(self) -> Path:
        return self.bundles / self.version


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """generate → train → build → publish, once, by the installed command."""

    def make(root: Path) -> None:
        graph, run, bundles = root / "graph", root / "run", root / "bundles"
        installed("data", "generate", graph, "--users", 1500)
        installed("train", graph / "graph.toml", "--run", run, *TRAINING)
        built = json.loads(installed("build", run, "--bundles", bundles, "--json"))
        installed("publish", built["version"], "--bundles", bundles)

    return Pipeline(made_once(tmp_path_factory, "pipeline", make))


def json_of(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)

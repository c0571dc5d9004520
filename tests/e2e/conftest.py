"""The command as a user calls it, and one small published pipeline for every test that only reads."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TRAINING = ["--set", "dim=16", "--set", "epochs=2", "--set", "threads=1", "--set", "negatives_uniform=64"]
Command = Callable[..., subprocess.CompletedProcess[str]]


def twhin_argv(*arguments: object) -> list[str]:
    return [str(Path(sys.executable).with_name("twhin")), *map(str, arguments)]


@pytest.fixture(scope="session")
def twhin() -> Command:
    """Runs the installed command to its end; `status` is the exit status it must have."""

    def run(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            twhin_argv(*arguments), capture_output=True, text=True, timeout=240, env=environment, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


class Pipeline:
    """A generated graph, its run and its published version."""

    def __init__(self, root: Path) -> None:
        self.graph = root / "graph" / "graph.toml"
        self.run = root / "run"
        self.bundles = root / "bundles"
        self.version = ""

    @property
    def path(self) -> Path:
        return self.bundles / self.version


@pytest.fixture(scope="session")
def pipeline(twhin: Command, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """generate → train → build → publish, once."""
    made = Pipeline(tmp_path_factory.mktemp("pipeline"))
    twhin("data", "generate", made.graph.parent, "--users", 1500)
    twhin("train", made.graph, "--run", made.run, *TRAINING)
    built = json_of(twhin("build", made.run, "--bundles", made.bundles, "--json"))
    made.version = built["version"]
    twhin("publish", made.version, "--bundles", made.bundles)
    return made


def json_of(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)

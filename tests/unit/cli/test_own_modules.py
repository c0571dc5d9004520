"""The command notices when another module stands in the place of one of its packages."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from twhin_command import PACKAGES, foreign_module

ROOT = Path(__file__).resolve().parents[3]


def run(path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command with `path` first on the path of modules, this checkout after it."""
    environment = {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}"}
    program = [sys.executable, "-m", "twhin_command", *arguments]
    return subprocess.run(program, cwd=path, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", ["service.py", "index/__init__.py", "cli.py"])
def test_a_module_on_the_path_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("raise SystemExit('ran')\n")
    done = run(tmp_path, "bundle", "show", "--bundles", "b")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert str(tmp_path / name) in line
    assert "environment of its own" in line


def test_a_distribution_installed_over_it_is_named(tmp_path: Path) -> None:
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "kernel", "ui"))
    shutil.copy(ROOT / "twhin_command.py", tmp_path)
    ours = tmp_path / "evaluation" / "__init__.py"
    digest = base64.urlsafe_b64encode(hashlib.sha256(ours.read_bytes()).digest()).decode().rstrip("=")
    information = tmp_path / "twhin-9.dist-info"  # as a wheel leaves it
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: twhin\nVersion: 9\n")
    (information / "RECORD").write_text(f"evaluation/__init__.py,sha256={digest},1\n")
    assert run(tmp_path, "--help").returncode == 0
    ours.write_text("# evaluate, another one\n")
    done = run(tmp_path, "--help")
    assert done.returncode == 2
    assert str(ours) in done.stderr


def test_this_checkout_is_its_own() -> None:
    assert foreign_module() is None

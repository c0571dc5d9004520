"""`kill -9` at any moment of train, build or publish: the last good version stays served, no half one is listed."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bundle.reader import open_bundle
from bundle.verify import check_digests
from bundle.versions import current_path, current_version, list_versions, prune, publish
from bundle.writer import STAGING_PREFIX

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

BUILD_FOR_EVER = """
import sys
from pathlib import Path
from index.builder.version import build_version
from index.builder.config import BuildConfig
print("ready", flush=True)
number = 0
while True:
    build_version(Path(sys.argv[1]), Path(sys.argv[2]), BuildConfig(threads=1), version=f"{sys.argv[3]}-{number}")
    number += 1
"""

PUBLISH_FOR_EVER = """
import sys
from pathlib import Path
from bundle.versions import list_versions, prune, publish, rollback
bundles = Path(sys.argv[1])
print("ready", flush=True)
while True:
    for version in list_versions(bundles):
        publish(bundles, version)
    rollback(bundles)
    prune(bundles, keep=2)
"""


def kill_after(program: str, arguments: list[str], seconds: float) -> None:
    """Start `program`, wait until it is at work, let it work for `seconds`, kill it."""
    child = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    with child:
        assert child.stdout is not None
        assert child.stderr is not None
        started = child.stdout.readline() == b"ready\n"
        time.sleep(seconds)
        alive = child.poll() is None
        child.kill()
        assert started, child.stderr.read().decode()
        assert alive, child.stderr.read().decode()


def assert_sound(bundles: Path) -> None:
    """Whatever is current opens, and every version that is listed is whole."""
    open_bundle(current_path(bundles))
    for name in list_versions(bundles):
        check_digests(bundles / name, open_bundle(bundles / name).manifest)


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_build_leaves_no_version(pipeline, tmp_path: Path, seed: int) -> None:  # type: ignore[no-untyped-def]
    bundles = shutil.copytree(pipeline.bundles, tmp_path / "bundles")  # others count the versions of theirs
    before = list_versions(bundles)
    kill_after(BUILD_FOR_EVER, [str(pipeline.run), str(bundles), f"killed{seed}"], random.Random(seed).uniform(0, 4))
    assert current_version(bundles) == pipeline.version
    assert set(before) <= set(list_versions(bundles))
    assert_sound(bundles)
    prune(bundles, keep=1)
    assert not [path for path in bundles.iterdir() if path.name.startswith(STAGING_PREFIX)]


@pytest.mark.parametrize("seed", range(12))
def test_a_killed_publication_changes_all_or_nothing(pipeline, tmp_path: Path, seed: int) -> None:  # type: ignore[no-untyped-def]
    bundles = tmp_path / "bundles"
    for name in ("one", "two", "three"):
        _copy_version(pipeline.path, bundles / name, name)
    publish(bundles, "one")
    kill_after(PUBLISH_FOR_EVER, [str(bundles)], random.Random(seed).uniform(0.1, 0.5))
    assert_sound(bundles)


def _copy_version(source: Path, target: Path, name: str) -> None:
    """Another version with the same content: the files are linked, the manifest is renamed."""
    for file in source.rglob("*"):
        if file.is_file():
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if file.name == "manifest.json":
                copy.write_text(file.read_text().replace(source.name, name))
            else:
                copy.hardlink_to(file)


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_training_leaves_no_finished_run(pipeline, tmp_path: Path, seed: int) -> None:  # type: ignore[no-untyped-def]
    run = tmp_path / "run"
    training = f"""
import sys
from pathlib import Path
from training.config import parse_config
from graph.prepare import prepare
from training.train import train
config = parse_config({{"dim": 16, "epochs": 500, "threads": 1, "negatives_uniform": 64}}, "test")
print("ready", flush=True)
train(prepare(Path({str(pipeline.graph)!r}), Path({str(run)!r}) / "graph"), Path({str(run)!r}), config)
"""
    kill_after(training, [], random.Random(seed).uniform(0, 3))
    assert not (run / "run.json").exists()

"""Damage that digests alone do not tell: in a checkpoint that is gone on from, and in runs of before there were any."""

import contextlib
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bundle.errors import DiskFull, TwhinError
from bundle.prepared import PreparedGraph, load_prepared
from faults.outcome import Outcome
from index.builder.version import build_version
from tests.integration.training.conftest import write_circles
from tests.support.full_disk import files_end_at
from tests.support.toy import TOY_CONFIG, write_toy_run
from training.config import TrainConfig
from training.train import train

FLIPS, BUILDS = 20, 2
CONFIG = TrainConfig.model_validate(
    {"dim": 16, "epochs": 2, "negatives_uniform": 64, "threads": 1, "checkpoint_seconds": 1e-6}
)


@dataclass
class Counts:
    """What was tried, and what must not happen."""

    tried: int = 0
    silent: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)


def run(scratch: Path, seed: int, long: bool) -> Iterator[Outcome]:
    """Yields the promises of a run's damage. `long` flips a hundred times as many bits."""
    rng, flips = random.Random(seed), FLIPS * 100 if long else FLIPS
    graph = write_circles(scratch / "graph")
    counts = _checkpoint(graph, scratch / "half", rng, flips)
    bad = [*counts.silent, *counts.tracebacks]
    figure = f"{len(counts.silent)} silent and {len(counts.tracebacks)} tracebacks of {counts.tried}"
    yield Outcome("a damaged checkpoint is not gone on from", "; ".join([figure, *bad[:5]]), not bad)
    counts = _without_digests(scratch, rng, BUILDS * 100 if long else BUILDS)
    figure = f"{len(counts.tracebacks)} tracebacks, {len(counts.silent)} built of {counts.tried}"
    yield Outcome(
        "a damaged run of an earlier release, without digests, is no traceback", figure, not counts.tracebacks
    )


def _checkpoint(graph: PreparedGraph, run_dir: Path, rng: random.Random, flips: int) -> Counts:
    """In a run that found no room for its end."""
    tables = run_dir / "checkpoint" / "tables"
    shutil.copytree(graph.path, run_dir / "graph")
    tables.mkdir(parents=True)
    (tables / "000.0000.g3.vectors.npy.partial").symlink_to("/dev/full")
    counts = Counts()
    with contextlib.suppress(DiskFull):
        train(load_prepared(run_dir / "graph"), run_dir, CONFIG)
    for name in _damages(tables, rng, flips):
        if name == "state.json, gone":  # then there is no checkpoint, and training begins anew
            continue
        with files_end_at(0):  # what is not refused goes on, and finds no room at once
            try:
                train(load_prepared(run_dir / "graph"), run_dir, CONFIG, resume=True)
            except DiskFull:
                counts.silent.append(name)
            except TwhinError:
                pass
            except Exception as error:
                counts.tracebacks.append(f"{name}: {error!r}")
        counts.tried += 1
    return counts


def _without_digests(scratch: Path, rng: random.Random, flips: int) -> Counts:
    counts, run_dir = Counts(), write_toy_run(scratch / "toy")
    for name in _damages(run_dir, rng, flips):
        counts.tried += 1
        try:
            build_version(run_dir, scratch / "built", TOY_CONFIG, version=f"v{counts.tried}")
            counts.silent.append(name)
        except TwhinError:
            continue
        except Exception as error:
            counts.tracebacks.append(f"{name}: {error!r}")
    return counts


def _damages(directory: Path, rng: random.Random, flips: int) -> Iterator[str]:
    """Does one damage after another to the files of `directory`, and undoes it when the next is asked for."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.stat().st_size)
    for file in files:
        intact, name = file.read_bytes(), str(file.relative_to(directory))
        kinds: list[tuple[str, bytes | None]] = [("cut", intact[: rng.randrange(len(intact))]), ("gone", None)]
        other = rng.choice([one for one in files if one.read_bytes() != intact])
        kinds.append((f"swapped with {other.name}", other.read_bytes()))
        for _ in range(flips):
            place = rng.randrange(8 * len(intact.rstrip()))
            content = bytearray(intact)
            content[place // 8] ^= 1 << place % 8
            kinds.append((f"bit {place}", bytes(content)))
        for kind, content_now in kinds:
            if content_now is None:
                file.unlink()
            else:
                file.write_bytes(content_now)
            yield f"{name}, {kind}"
            file.write_bytes(intact)

"""What a plan says of the disk holds for the edges, whatever comes with them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from index.builder.config import BuildConfig, parse_config
from index.builder.version import build_version, plan_build
from tests.support.graphs import Links, distinct_pairs, ids, write_run

N, E = 260, 15_000
SETTINGS: dict[str, object] = {
    "threads": 1,
    "index": {"kind": "exact", "queries": 20},
    "map": {"points": 0},
    "clusters": {"count": 4},
}


def config(**mixtures: object) -> BuildConfig:
    return parse_config({**SETTINGS, "mixtures": mixtures}, "here")


def planned(run: Path, built: BuildConfig) -> int:
    return plan_build(run, built, learns=False).disk_bytes


def test_a_symmetric_relation_with_weights_and_times_takes_no_more_than_the_plan_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pairs = distinct_pairs(N, N, 2 * E, rng)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]][:E]
    times, weights = rng.integers(1_600_000_000, 1_700_000_000, len(pairs)), rng.random(len(pairs), dtype=np.float32)
    friends = Links("friends", "user", "user", pairs, weight=weights, time=times, symmetric=True)
    run, built = write_run(tmp_path / "run", {"user": ids(N)}, [friends]), config(half_life=1e6)
    version = build_version(run, tmp_path / "bundles", built, version="v").path
    assert sum(file.stat().st_size for file in version.rglob("*") if file.is_file()) < planned(run, built)


def test_times_count_where_a_version_may_need_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    viewed, bought, liked = (
        Links(name, "user", kind, distinct_pairs(N, N, E, rng), time=np.arange(E))
        for name, kind in (("viewed", "item"), ("bought", "item"), ("liked", "song"))
    )
    entities = {"user": ids(N), "item": ids(N), "song": ids(N)}
    run = write_run(tmp_path / "run", entities, [viewed, bought, liked])
    bare = write_run(tmp_path / "bare", entities, [replace(one, time=None) for one in (viewed, bought, liked)])
    assert planned(run, config()) - planned(bare, config()) == 16 * 2 * E
    assert planned(run, config(half_life=1e6)) - planned(bare, config(half_life=1e6)) == 16 * 3 * E

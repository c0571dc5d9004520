"""What rescoring costs without the engine: CPU time of its inputs and the network for one request, step by step.

    python -m benchmarks.rescoring VERSION_DIR [--candidates 300] [--users 300] [--seed 1]

Users are drawn at random among those with an edge of the default relation; the candidates are the best by θu + θr.
Run it alone on a core: OMP_NUM_THREADS=1.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import engine
from bundle.manifest import Rescoring
from bundle.reader import open_bundle
from bundle.space import Relation, Space
from recommend.handles import SpaceHandles
from recommend.paths import path_features
from recommend.profile import profile_of_row
from recommend.rescoring import FEATURES, features_of, fill_products, network_scores
from recommend.types import NO_LIVE_EDGES

REPEATS = 5
Rows = npt.NDArray[np.int64]


class Request(NamedTuple):
    """One user's question, ready to be rescored."""

    user: int
    candidates: Rows


def requests(space: Space, relation: Relation, n_users: int, n_candidates: int, seed: int) -> list[Request]:
    """Users drawn by seed, each with the best candidates by θu + θr."""
    rng = np.random.default_rng(seed)
    active = np.flatnonzero(relation.targets.degrees() > 0)
    users = rng.permutation(active)[:n_users]
    vectors, own = space.table(relation.entry.target).embeddings, space.table(relation.entry.source).embeddings
    asked = []
    for user in users.tolist():
        scores = vectors @ (own[user] + relation.forward)
        candidates = np.argpartition(-scores, n_candidates)[:n_candidates].astype(np.int64)
        asked.append(Request(user, candidates))
    return asked


def cpu_us(steps: Mapping[str, Callable[[int], object]], n: int) -> dict[str, npt.NDArray[np.float64]]:
    """CPU µs of each step for every i < n: the least of some rounds, in which the steps take turns, so that a busy
    neighbour counts for little and alike.
    """
    least = {name: np.full(n, np.inf) for name in steps}
    for _ in range(REPEATS):
        for name, step in steps.items():
            for i in range(n):
                began = time.thread_time_ns()
                step(i)
                least[name][i] = min(least[name][i], (time.thread_time_ns() - began) / 1000)
    return least


def measure(
    space: Space, relation: Relation, rescoring: Rescoring, asked: Sequence[Request]
) -> dict[str, npt.NDArray[np.float64]]:
    """CPU µs of each step for each request in NumPy, together, and of all but the network by the engine."""
    profiles = [profile_of_row(space, relation, one.user, NO_LIVE_EDGES, n_modes=0) for one in asked]

    def inputs(i: int) -> npt.NDArray[np.float32]:
        return features_of(space, relation, profiles[i], asked[i].candidates)

    def products(i: int) -> None:
        one, out = profiles[i], np.zeros((len(FEATURES), len(asked[i].candidates)), dtype=np.float32)
        fill_products(out, space, relation, one.vector, one.targets, one.followers(relation), asked[i].candidates)

    made = [inputs(i) for i in range(len(asked))]
    steps: dict[str, Callable[[int], object]] = {
        "products": products,
        "paths": lambda i: path_features(space, relation, profiles[i], asked[i].candidates),
        "network": lambda i: network_scores(rescoring, made[i]),
        "together": lambda i: network_scores(rescoring, inputs(i)),
    }
    if engine.available():
        handles = SpaceHandles(engine.native(), space)
        steps["inputs by the engine"] = lambda i: handles.features(relation, profiles[i], asked[i].candidates)
    return cpu_us(steps, len(asked))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("version", type=Path)
    parser.add_argument("--candidates", type=int, default=300)
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    space = open_bundle(told.version).space()
    relation = space.relation(space.entry.default.relation)
    rescoring = next(one.rescoring for one in space.entry.strategies.values() if one.rescoring is not None)
    asked = requests(space, relation, told.users, told.candidates, told.seed)
    print(f"{told.candidates} candidates, {len(asked)} users, dimension {space.entry.dim}: CPU µs a request")
    print("\n| | mean | median |\n|---|---|---|")
    for name, values in measure(space, relation, rescoring, asked).items():
        print(f"| {name} | {values.mean():.0f} | {np.median(values):.0f} |")


if __name__ == "__main__":
    main()

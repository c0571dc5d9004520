"""What rescoring costs: CPU time of the features and the network for one request, step by step.

    python -m benchmarks.rescoring VERSION_DIR [--candidates 500] [--users 1000] [--seed 1]

Users are drawn at random among those with an edge of the default relation; the candidates are the best by θu + θr.
Run it alone on a core: OMP_NUM_THREADS=1.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bundle.manifest import Rescoring
from bundle.reader import open_bundle
from bundle.space import Relation, Space
from recommend.rescoring import Subject, candidate_features, make_subject, network_scores

REPEATS = 5
Rows = npt.NDArray[np.int64]


class Request(NamedTuple):
    """One user's question, ready to be rescored."""

    user: int
    candidates: Rows
    reciprocal: npt.NDArray[np.bool_]


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
        asked.append(Request(user, candidates, np.isin(candidates, relation.sources.row(user))))
    return asked


def cpu_us(work: Callable[[int], object], n: int) -> npt.NDArray[np.float64]:
    """CPU µs of `work(i)` for every i < n: the least of some rounds, so that a busy neighbour counts for little."""
    rounds = np.zeros((REPEATS, n))
    for microseconds in rounds:
        for i in range(n):
            began = time.thread_time_ns()
            work(i)
            microseconds[i] = (time.thread_time_ns() - began) / 1000
    least: npt.NDArray[np.float64] = rounds.min(axis=0)
    return least


def measure(
    space: Space, relation: Relation, rescoring: Rescoring, asked: Sequence[Request]
) -> dict[str, npt.NDArray[np.float64]]:
    """CPU µs of each step for each request."""
    own = space.table(relation.entry.source).embeddings

    def subject(i: int) -> Subject:
        user = asked[i].user
        return make_subject(space, relation, own[user], relation.targets.row(user), relation.sources.row(user))

    subjects = [subject(i) for i in range(len(asked))]

    def features(i: int) -> npt.NDArray[np.float32]:
        return candidate_features(space, relation, subjects[i], asked[i].candidates, asked[i].reciprocal)

    inputs = [features(i) for i in range(len(asked))]
    steps = {
        "the user's side": subject,
        "features": features,
        "network": lambda i: network_scores(rescoring, inputs[i]),
    }
    return {name: cpu_us(work, len(asked)) for name, work in steps.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("version", type=Path)
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    space = open_bundle(told.version).space()
    relation = space.relation(space.entry.default.relation)
    rescoring = next(one.rescoring for one in space.entry.strategies.values() if one.rescoring is not None)
    asked = requests(space, relation, told.users, told.candidates, told.seed)
    print(f"{told.candidates} candidates, {len(asked)} users, dimension {space.entry.dim}: CPU µs a request")
    print("\n| | mean | median |\n|---|---|---|")
    steps = measure(space, relation, rescoring, asked)
    for name, values in (steps | {"together": np.sum(list(steps.values()), axis=0)}).items():
        print(f"| {name} | {values.mean():.0f} | {np.median(values):.0f} |")


if __name__ == "__main__":
    main()

"""What a second training thread brings by the clock, in turns of one second so that other load shows as spread.

    python benchmarks/train_threads.py [--nodes 1000000 --edges 2000000] [--rounds 12]

Each round trains a second on one thread and a second on two; the best and the median round of each are printed. On a
machine that others use the best rounds are those in which both cores were free.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from training.backends.base import BucketSession, BucketWork
from training.backends.choose import make_backend
from training.chunks import Schedule, make_schedule
from training.config import TrainConfig
from training.edges import BucketEdges, index_edges
from training.model import random_table, zero_relations

NEGATIVES = {
    100: {"chunk": 64, "negatives_in_batch": 50, "negatives_uniform": 50},
    1000: {"chunk": 256, "negatives_in_batch": 200, "negatives_uniform": 800},
}
TURN_SECONDS = 1.0
SPAN_EDGES = 2**17  # at 100 negatives: about as long as the spans between two looks at the clock in training


def power_law(nodes: int, edges: int) -> BucketEdges:
    """Edges of one relation among `nodes` entities, whose degrees follow a power law."""
    rng = np.random.default_rng(1)
    label = rng.permutation(nodes).astype(np.int32)
    src, dst = (label[(nodes * rng.random(edges) ** 2).astype(np.int64)] for _ in range(2))
    return index_edges((0, 0), (nodes, nodes), (src, dst, np.zeros(edges, dtype=np.int32)), None)


class Turns:
    """Trains on one bucket, a turn at a time, round and round."""

    def __init__(self, session: BucketSession, schedule: Schedule, span: int) -> None:
        self._session, self._chunks, self._at, self._span = session, len(schedule), 0, span
        self.rates: list[float] = []

    def turn(self) -> None:
        """Train for about a second and keep the rate (edges a second by the clock)."""
        began, edges = time.perf_counter(), 0
        while time.perf_counter() - began < TURN_SECONDS:
            end = min(self._at + self._span, self._chunks)
            edges += self._session.run(self._at, end).edges
            self._at = 0 if end == self._chunks else end
        self.rates.append(edges / (time.perf_counter() - began))


def measure(edges: BucketEdges, negatives: int, rounds: int) -> None:
    """Print one row."""
    turns = []
    for threads in (1, 2):
        config = TrainConfig.model_validate({"threads": threads, **NEGATIVES[negatives]})
        table = random_table(edges.n_source, config.dim, config.init_scale, np.random.default_rng(1))
        schedule = make_schedule((edges,), config.chunk, config.seed)
        work = BucketWork(
            (edges,), (table,), (table,), zero_relations(1, config.dim), np.ones(1, dtype=np.float32), schedule
        )
        turns.append(Turns(make_backend(config).open(work), schedule, SPAN_EDGES // config.chunk * 100 // negatives))
    for _ in range(rounds):
        for one in turns:
            one.turn()
    best, middle = ([float(f(one.rates[1:])) for one in turns] for f in (np.max, np.median))
    print(
        f"| {negatives} | {best[0]:,.0f} | {best[1]:,.0f} | {best[1] / best[0]:.2f} | {middle[0]:,.0f} | "
        f"{middle[1]:,.0f} | {middle[1] / middle[0]:.2f} |",
        flush=True,
    )


def main() -> None:
    """Measure at 100 and at 1000 negatives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=12)
    asked = parser.parse_args()
    edges = power_law(asked.nodes, asked.edges)
    print("| negatives | best: 1 thread | 2 threads | times | median: 1 thread | 2 threads | times |")
    print("|---|---|---|---|---|---|---|")
    for negatives in NEGATIVES:
        measure(edges, negatives, asked.rounds)


if __name__ == "__main__":
    main()

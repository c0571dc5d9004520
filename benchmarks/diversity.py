"""What an answer that repeats itself less costs and gives: recall lost against diversity won, on validation edges.

    python -m benchmarks.diversity --run RUN --bundle BUNDLES/VERSION

For every strength and cap: recall@10 and @20 of `auto`, how alike two candidates are (the mean cosine of their
embeddings), how many clusters ten candidates are of, how many different candidates all users get, CPU time.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bundle.run import open_run
from bundle.space import Space
from cli.compose import open_recommender
from evaluation.task import FollowTask, follow_task
from recommend.recommender import Recommender
from recommend.types import RecommendRequest

K = 20
STRENGTHS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
CAPS = (1, 2, 4)


class Figures(NamedTuple):
    """Means over the users."""

    recall_10: float
    recall_20: float
    cosine_10: float
    clusters_10: float
    different: int
    cpu_ms: float


def measure(recommender: Recommender, task: FollowTask, diversity: float, max_per_cluster: int | None) -> Figures:
    """Ask for each user of the task."""
    space = recommender.bundle.space()
    relation = space.relation(task.relation)
    table = space.entities[relation.entry.source]
    recalls, cosines, clusters, given = [], [], [], set[int]()
    started = time.process_time()
    for user in task.users.tolist():
        request = RecommendRequest(
            user=table.ids.external(user),
            k=K,
            relation=task.relation,
            diversity=diversity,
            max_per_cluster=max_per_cluster,
        )
        rows = recommender.recommend(request).rows
        relevant = task.relevant(user)
        recalls.append([np.isin(rows[:k], relevant).sum() / len(relevant) for k in (10, 20)])
        cosines.append(_cosine(space, relation.entry.target, rows[:10]))
        clusters.append(len(np.unique(space.clusters.assignment[relation.entry.target][rows[:10]])))
        given.update(rows[:10].tolist())
    spent = time.process_time() - started
    recall_10, recall_20 = np.mean(recalls, axis=0).tolist()
    return Figures(
        recall_10,
        recall_20,
        float(np.mean(cosines)),
        float(np.mean(clusters)),
        len(given),
        1e3 * spent / len(task.users),
    )


def _cosine(space: Space, entity_type: str, rows: "np.ndarray") -> float:
    vectors = space.entities[entity_type].embeddings[rows]
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    products = vectors @ vectors.T
    return float((products.sum() - np.trace(products)) / max(1, len(rows) * (len(rows) - 1)))


def main() -> None:
    """Print a table, or with --json one line a setting."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True, help="a version's directory")
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    task = follow_task(open_run(asked.run).graph, "valid", np.random.default_rng(asked.seed), n_users=asked.users)
    recommender = open_recommender(asked.bundle)
    if not asked.json:
        sys.stdout.write(
            "| setting | R@10 | R@20 | cosine | clusters@10 | different | CPU ms |\n|---|---|---|---|---|---|---|\n"
        )
    settings = [(0.0, None), *((share, None) for share in STRENGTHS), *((0.0, cap) for cap in CAPS)]
    for diversity, cap in settings:
        figures = measure(recommender, task, diversity, cap)
        if asked.json:
            sys.stdout.write(json.dumps({"diversity": diversity, "max_per_cluster": cap, **figures._asdict()}) + "\n")
        else:
            name = f"diversity {diversity:g}" if cap is None else f"max_per_cluster {cap}"
            sys.stdout.write(
                f"| {name} | {figures.recall_10:.4f} | {figures.recall_20:.4f} | {figures.cosine_10:.3f} | "
                f"{figures.clusters_10:.2f} | {figures.different:,} | {figures.cpu_ms:.2f} |\n"
            )
        sys.stdout.flush()


if __name__ == "__main__":
    main()

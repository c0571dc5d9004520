"""Vectors of a generated graph of many users, trained shortly, and what its users ask: learnt vectors."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.train import write_prepared
from bundle.prepared import load_prepared
from bundle.run import open_run
from graph.synthetic import catalogue, follows, plant_interests
from training.config import TrainConfig
from training.train import train

Array = npt.NDArray[np.float32]
EDGES_A_USER = 10
SETTINGS: dict[str, object] = {"dim": 128, "epochs": 4, "negatives_uniform": 64}


def trained(users: int, queries: int, directory: Path) -> tuple[Array, Array]:
    """Their vectors with the popularity column, and blended queries of users who follow three or more.

    Follows have planted interests, and degrees by a power law. What `directory` holds already is not made again.
    """
    graph, run = directory / "graph", directory / "run"
    if not graph.exists():
        rng = np.random.default_rng(1)
        interests = plant_interests(rng, users)
        pairs = follows(rng, interests, catalogue(rng, interests.communities[:, 0]))[: EDGES_A_USER * users]
        write_prepared(graph, users, *pairs.astype(np.int32).T)
    if not (run / "run.json").exists():
        run.mkdir(exist_ok=True)
        (run / "graph").symlink_to(graph.resolve())
        train(load_prepared(run / "graph"), run, TrainConfig.model_validate(SETTINGS))
    return _vectors_and_queries(run, queries)


def _vectors_and_queries(path: Path, count: int) -> tuple[Array, Array]:
    run = open_run(path)
    edges, embeddings = run.graph.relations[0].part("edges"), np.array(run.vectors["node"])
    src, dst = np.asarray(edges.src), np.asarray(edges.dst)
    popularity = np.log1p(np.bincount(dst, minlength=len(embeddings))).astype(np.float32)
    degrees = np.bincount(src, minlength=len(embeddings))
    chosen = np.random.default_rng(1).choice(np.flatnonzero(degrees >= 3), count, replace=False)
    order = np.argsort(src, kind="stable")
    starts = np.cumsum(degrees) - degrees
    folded = np.stack([embeddings[dst[order[starts[u] : starts[u] + degrees[u]]]].mean(axis=0) for u in chosen])
    asked = 0.3 * embeddings[chosen] + 0.7 * folded + run.relation_vectors[0, 0]
    with_popularity = np.column_stack([asked, np.full(count, 0.3)]).astype(np.float32)
    return np.column_stack([embeddings, popularity]), with_popularity

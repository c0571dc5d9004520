"""The paper's claim where the truth is known: planted interests show as modes, and the mixture of them wins.

Slow: trains embeddings of a generated graph whose users have two to four of 64 interests.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bundle.manifest import QueryWeights, Strategy
from bundle.run import open_graph
from cli.compose import open_recommender
from evaluation.rows import Row, strategy_row
from evaluation.task import FollowTask, follow_task
from graph.prepare import prepare
from graph.synthetic import generate
from index.builder.config import parse_config as build_config
from index.builder.recluster import recluster
from index.builder.version import build_version
from recommend.recommender import Recommender
from training.config import parse_config
from training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
USERS, CLUSTERS, MODES = 8000, 128, 10
TRAINING = {"dim": 64, "epochs": 6, "threads": 1}
BUILDING = {"index": {"kind": "exact"}, "clusters": {"list_length": 0, "count": CLUSTERS}, "threads": 1}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated graph, the run trained on it, and a version."""
    root = tmp_path_factory.mktemp("planted")
    graph = generate(root / "graph", n_users=USERS, seed=1)
    train(prepare(graph, root / "run" / "graph"), root / "run", parse_config(dict(TRAINING), "the test"))
    build_version(root / "run", root / "bundles", build_config(dict(BUILDING), "the test"), version="v1")
    return root


@pytest.fixture(scope="module")
def task(world: Path) -> FollowTask:
    return follow_task(open_graph(world / "run"), "test", np.random.default_rng(1), n_users=800)


@pytest.fixture(scope="module")
def clustered(world: Path) -> Recommender:
    recommender = open_recommender(world / "bundles" / "v1")
    space = recommender.bundle.space()
    return recommender.with_space(recluster(space, space.relation("follows"), CLUSTERS, 1, modes=MODES))


def measured(task: FollowTask, recommender: Recommender, strategy: Strategy) -> Row:
    vectors = recommender.bundle.space().table("user").embeddings
    return strategy_row(task, recommender, "asked", vectors, None, strategy=strategy)


def single(**weights: float) -> Strategy:
    return Strategy(merge="single", weights=QueryWeights(relation=1.0, **weights))


def test_a_mixture_finds_clearly_more_than_one_vector(task: FollowTask, clustered: Recommender) -> None:
    personal = Strategy(
        merge="proportional", mode_vector="personal", modes=MODES, weights=QueryWeights(mode=1.0, relation=1.0)
    )
    mixture = measured(task, clustered, personal)
    singles = [measured(task, clustered, single(**{name: 1.0})) for name in ("user", "fold_in")]
    for metric in ("one_way_recall@10", "one_way_recall@50", "diversity@10"):
        assert mixture.mean(metric) > 1.1 * max(row.mean(metric) for row in singles), metric


def test_every_planted_interest_of_a_user_is_among_the_modes(
    world: Path, task: FollowTask, clustered: Recommender
) -> None:
    interests = np.load(world / "graph" / "interests.npy")
    home = home_of(world)
    clusters = clustered.bundle.space().clusters
    means = community_of(clusters.assignment["user"], home, interests.shape[1])
    present, all_there = [], []
    for user in task.users.tolist():
        modes = set(means[clusters.interests[0].mixtures.row(user)].tolist())
        followed = np.bincount(home[task.train.row(user)], minlength=interests.shape[1])
        planted = [community for community in np.flatnonzero(interests[user]) if followed[community] >= 2]
        hits = [community in modes for community in planted]
        present += hits
        all_there.append(all(hits))
    assert np.mean(present) > 0.98
    assert np.mean(all_there) > 0.95


def home_of(world: Path) -> npt.NDArray[np.int64]:
    """The planted community of every user, by row."""
    import pyarrow.parquet as pq

    table = pq.read_table(world / "graph" / "planted.parquet").to_pylist()
    homes = {int(row["id"]): row["community"] for row in table if row["type"] == "user"}
    return np.array([homes[user] for user in range(USERS)])


def community_of(
    assignment: npt.NDArray[np.int32], home: npt.NDArray[np.int64], communities: int
) -> npt.NDArray[np.int64]:
    """The planted community that most members of each cluster have."""
    members = np.zeros((CLUSTERS, communities), dtype=np.int64)
    np.add.at(members, (assignment, home), 1)
    return members.argmax(axis=1)

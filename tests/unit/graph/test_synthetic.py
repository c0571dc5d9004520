"""The generated graph: several unequal interests a user, power laws, reciprocity, and a truth that the edges show."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bundle.errors import UsageError
from graph.describe import describe
from graph.prepare import prepare
from graph.synthetic import COMMUNITIES, generate

USERS = 3000


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of one generated graph of 3,000 users."""
    return generate(tmp_path_factory.mktemp("generated"), n_users=USERS, seed=3).parent


def test_interests_are_two_to_four_of_unequal_weight(generated: Path) -> None:
    interests = np.load(generated / "interests.npy")
    assert interests.shape == (USERS, COMMUNITIES)
    assert interests.dtype == np.float32
    np.testing.assert_allclose(interests.sum(axis=1), 1, atol=1e-5)
    counts = (interests > 0).sum(axis=1)
    assert set(counts.tolist()) == {2, 3, 4}
    ordered = -np.sort(-interests, axis=1)
    assert np.median(ordered[:, 1] / ordered[:, 0]) < 0.7
    assert len(np.unique(interests.argmax(axis=1))) == COMMUNITIES


def test_edges_follow_the_planted_interests(generated: Path) -> None:
    interests = np.load(generated / "interests.npy")
    planted = pq.read_table(generated / "planted.parquet").to_pylist()
    community = {(row["type"], row["id"]): row["community"] for row in planted}
    for name, target in (("follows", "user"), ("likes", "item"), ("clicks_ad", "ad")):
        edges = pq.read_table(generated / f"{name}.parquet").to_pylist()
        inside = [interests[edge["src"], community[target, str(edge["dst"])]] > 0 for edge in edges]
        assert np.mean(inside) > 0.75, name
    assert all(community["user", str(i)] == interests[i].argmax() for i in range(USERS))


def test_shape_of_the_graph(generated: Path) -> None:
    graph = describe(generated / "graph.toml")
    follows, likes, clicks = graph.relations
    assert graph.entities["user"] == USERS
    assert (follows.duplicates, follows.self_loops) == (0, 0)
    assert follows.test == int(0.1 * follows.edges)
    assert follows.reciprocity is not None
    assert 0.2 < follows.reciprocity < 0.6
    assert follows.sources.max > 8 * follows.sources.median
    assert follows.targets.max > 20 * follows.targets.median
    assert likes.sources.coverage > 0.99
    assert 0.05 < clicks.sources.coverage < 0.2
    assert clicks.coverage == "low"


def test_equal_seeds_make_equal_graphs_and_others_do_not(tmp_path: Path) -> None:
    digests = [
        prepare(generate(tmp_path / name, n_users=300, seed=seed), tmp_path / name / "prepared").digest
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_string_ids(tmp_path: Path) -> None:
    graph = prepare(generate(tmp_path / "g", n_users=300, seed=1, ids="string"), tmp_path / "out")
    numbers = prepare(generate(tmp_path / "n", n_users=300, seed=1), tmp_path / "numbers")
    assert graph.entity("user").ids.external(17) == "user-000017"
    ends = [one.relation("follows").train for one in (graph, numbers)]
    assert len({tuple(sorted(zip(end.src.tolist(), end.dst.tolist(), strict=True))) for end in ends}) == 1


def test_too_few_users(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Ask for 100 or more"):
        generate(tmp_path, n_users=10)


def test_a_graph_is_not_written_over(tmp_path: Path) -> None:
    generate(tmp_path, n_users=100)
    with pytest.raises(UsageError, match="holds a graph already"):
        generate(tmp_path, n_users=200)

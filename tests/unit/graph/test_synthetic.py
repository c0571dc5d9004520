"""The generated graph: several unequal interests a user, power laws, reciprocity, and a truth that the edges show."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bundle.errors import UsageError
from bundle.prepared import PARTS
from graph.describe import describe
from graph.invented import FIELDS, TOPICS
from graph.prepare import prepare
from graph.synthetic import COMMUNITIES, generate
from tests.docs.pages import ROOT, table

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
    assert follows.test == pytest.approx(0.1 * follows.edges, rel=0.1)
    assert follows.reciprocity is not None
    assert 0.2 < follows.reciprocity < 0.6
    assert follows.sources.max > 8 * follows.sources.median
    assert follows.targets.max > 20 * follows.targets.median
    assert likes.sources.coverage > 0.99
    assert 0.05 < clicks.sources.coverage < 0.2
    assert clicks.coverage == "low"


def test_users_are_called_by_their_interests_and_joined_before_they_liked(generated: Path) -> None:
    interests = np.load(generated / "interests.npy")
    users = pq.read_table(generated / "users.parquet").to_pylist()
    liked = first_likes(generated, "src")
    assert [user["id"] for user in users] == list(range(USERS))
    for user in users:
        row = interests[user["id"]]
        assert set(user["interests"]) == {TOPICS[community] for community in np.flatnonzero(row)}
        assert user["community"] == TOPICS[row.argmax()]
        assert user["community"] in FIELDS[user["field"]].split()
        assert user["joined"].timestamp() < liked[user["id"]]
    assert len({user["name"] for user in users}) > 0.95 * USERS
    followers = np.bincount(pq.read_table(generated / "follows.parquet")["dst"].to_numpy(), minlength=USERS)
    verified = np.array([user["verified"] for user in users])
    assert np.median(followers[verified]) > 3 * np.median(followers[~verified])


def test_items_and_ads_are_of_their_topic_and_items_published_before_anybody_liked_them(generated: Path) -> None:
    rows = pq.read_table(generated / "planted.parquet").to_pylist()
    planted = {(row["type"], row["id"]): row["community"] for row in rows}
    liked = first_likes(generated, "dst")
    items = pq.read_table(generated / "items.parquet").to_pylist()
    assert {item["id"] for item in items} == liked.keys()
    assert all(item["published"].timestamp() < liked[item["id"]] for item in items)
    prices = [item["price"] for item in items if item["price"] is not None]
    assert min(prices) >= 0
    assert 0.9 * len(items) < len(prices) < len(items)
    for kind, rows in (("item", items), ("ad", pq.read_table(generated / "ads.parquet").to_pylist())):
        for row in rows:
            assert row["topic"] == TOPICS[planted[kind, str(row["id"])]]
            assert row["topic"] in row["title"].lower()
            assert row["topic"] in FIELDS[row["field"]].split()


def test_all_that_is_known_is_of_an_entity_with_an_edge_and_stands_on_the_page(generated: Path, tmp_path: Path) -> None:
    graph = prepare(generated / "graph.toml", tmp_path / "prepared")
    assert {(entity.described, entity.attributes_of_others) for entity in graph.entities} == {
        (entity.count, 0) for entity in graph.entities
    }
    known = [(entity.name, entry.name, entry.kind) for entity in graph.entities for entry, _ in entity.attributes]
    rows = table(ROOT / "docs" / "data-model.md", "entity")
    assert known == [tuple(cell.strip("`") for cell in row[:3]) for row in rows]


def first_likes(generated: Path, end: str) -> dict[int, int]:
    """When each user (`src`) or item (`dst`) first stands in a like, in Unix seconds."""
    likes = pq.read_table(generated / "likes.parquet").group_by(end).aggregate([("time", "min")]).to_pylist()
    return {row[end]: row["time_min"] for row in likes}


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
    follows = [one.relation("follows") for one in (graph, numbers)]
    edges = [
        {pair for part in PARTS for pair in zip(one.part(part).src.tolist(), one.part(part).dst.tolist(), strict=True)}
        for one in follows
    ]
    assert edges[0] == edges[1]  # if not those held out: other ids draw otherwise


def test_too_few_users(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Ask for 100 or more"):
        generate(tmp_path, n_users=10)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "likes.parquet").write_text("mine")
    with pytest.raises(UsageError, match="is there already. Name a new directory"):
        generate(tmp_path, n_users=100)
    assert (tmp_path / "likes.parquet").read_text() == "mine"

"""The features of rescoring against their definitions, on the toy; the network; the service that uses it."""

from typing import Any

import numpy as np
import pytest

from bundle.manifest import Feature, QueryWeights, Rescoring, Strategy
from bundle.space import Relation, Space
from recommend.profile import profile_of_row
from recommend.recommender import Recommender
from recommend.rescoring import FEATURES, FIRST_PATH, features_of, fill_products, network_scores
from recommend.types import NO_LIVE_EDGES
from tests.support.toy import item_row, user_row

USER, FOLLOWEE, FOLLOWER, STRANGER = (user_row(user) for user in ("105", "106", "104", "205"))
CANDIDATES = np.array([FOLLOWER, STRANGER], dtype=np.int64)


def column(features: np.ndarray, name: str) -> np.ndarray:
    return features[:, FEATURES.index(name)]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def products(space: Space, relation: Relation, vector: Any, targets: Any, followers: Any, rows: Any) -> np.ndarray:
    out = np.zeros((len(FEATURES), len(rows)), dtype=np.float32)
    fill_products(out, space, relation, vector, targets, followers, rows)
    return out.T


@pytest.fixture
def features(space: Space) -> np.ndarray:
    """User 105 of the jazz ring follows 106 and is followed by 104; 205 is a stranger of the chess ring."""
    relation = space.relation("follows")
    own = space.table("user").embeddings[USER], relation.targets.row(USER), relation.sources.row(USER)
    return products(space, relation, *own, CANDIDATES)


def test_products_of_embeddings(space: Space, features: np.ndarray) -> None:
    theta = space.table("user").embeddings
    for i, candidate in enumerate(CANDIDATES):
        assert column(features, "user")[i] == pytest.approx(theta[USER] @ theta[candidate], abs=1e-6)
        assert column(features, "fold_in")[i] == pytest.approx(theta[FOLLOWEE] @ theta[candidate], abs=1e-6)
        assert column(features, "followers")[i] == pytest.approx(theta[FOLLOWER] @ theta[candidate], abs=1e-6)
        assert column(features, "length")[i] == pytest.approx(np.linalg.norm(theta[candidate]), rel=1e-5)
    # With one target every mean of targets is that target.
    assert column(features, "damped_fold_in") == pytest.approx(column(features, "fold_in"))
    assert column(features, "soft_nearest_target") == pytest.approx(column(features, "fold_in"), abs=1e-6)


def test_nearness_is_by_cosine(space: Space, features: np.ndarray) -> None:
    theta = space.table("user").embeddings
    for i, candidate in enumerate(CANDIDATES):
        nearest = cosine(theta[FOLLOWEE], theta[candidate])
        assert column(features, "nearest_target")[i] == pytest.approx(nearest, abs=1e-5)
        assert column(features, "three_nearest_targets")[i] == pytest.approx(nearest, abs=1e-5)
        follower = cosine(theta[FOLLOWER], theta[candidate])
        assert column(features, "nearest_follower")[i] == pytest.approx(follower, abs=1e-5)


def test_degrees_and_reciprocity(features: np.ndarray) -> None:
    # Everybody in a ring has one edge out and one in.
    for name in ("in_degree", "out_degree", "user_in_degree", "user_out_degree"):
        assert column(features, name) == pytest.approx([np.log(2), np.log(2)])
    assert column(features, "reciprocity").tolist() == [1.0, 0.0]


def test_an_unknown_user_is_the_mean_of_what_they_engaged_with(space: Space) -> None:
    relation = space.relation("likes")
    liked = np.array([item_row("jazz-00"), item_row("jazz-02")], dtype=np.int64)
    nobody = np.empty(0, dtype=np.int64)
    items = np.array([item_row("jazz-07")], dtype=np.int64)
    features = products(space, relation, None, liked, nobody, items)
    assert column(features, "user") == pytest.approx(column(features, "fold_in"))
    assert column(features, "nearest_follower").tolist() == [0.0]
    assert column(features, "out_degree").tolist() == [0.0]  # an item follows nobody


def by_reciprocity(weight: float) -> Rescoring:
    """A network that passes one feature through: the score is `weight · reciprocity`."""
    return Rescoring(
        pool=5, features=("reciprocity",), mean=(0.0,), scale=(1.0,), hidden=((1.0,),), bias=(0.0,), out=(weight,)
    )


def test_the_network_is_one_hidden_layer_over_standardised_features() -> None:
    network = Rescoring(
        pool=1,
        features=("in_degree", "user"),
        mean=(1.0, 0.0),
        scale=(2.0, 1.0),
        hidden=((1.0, 0.0), (-1.0, 1.0)),
        bias=(0.5, 0.0),
        out=(1.0, 10.0),
    )
    inputs = np.zeros((1, len(FEATURES)), dtype=np.float32)
    inputs[0, FEATURES.index("in_degree")] = 3.0  # standardised: (3 - 1)·2 = 4
    inputs[0, FEATURES.index("user")] = 5.0
    # hidden: 4 + 0.5, and -4 + 5 = 1
    assert network_scores(network, inputs) == pytest.approx([4.5 + 10.0])


def test_a_network_whose_arrays_do_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 1 features"):
        by_reciprocity(1.0).model_validate(by_reciprocity(1.0).model_dump() | {"mean": (0.0, 0.0)})


@pytest.mark.parametrize("weight", [5.0, -5.0])
def test_the_service_orders_its_candidates_by_the_network(recommender: Recommender, weight: float) -> None:
    strategy = Strategy(
        merge="single",
        weights=QueryWeights(user=1.0, reciprocity=0.001),
        rescoring=by_reciprocity(weight),
    )
    rows = recommender.for_users(np.array([USER]), strategy, 5, relation="follows")[0]
    assert (rows[0] == FOLLOWER) == (weight > 0)
    assert len(set(rows.tolist())) == 5


def test_the_service_searches_further_than_it_answers(recommender: Recommender) -> None:
    # The follower is nearly last by the query, and first by the network that sees the whole pool.
    network = by_reciprocity(1.0).model_copy(update={"pool": 30})
    strategy = Strategy(merge="single", weights=QueryWeights(user=-1.0), rescoring=network)
    rows = recommender.for_users(np.array([USER]), strategy, 3, relation="follows")[0]
    assert rows[0] == FOLLOWER
    assert len(rows) == 3


def test_paths_are_counted_for_a_network_that_asks_for_them(space: Space) -> None:
    relation = space.relation("follows")
    profile = profile_of_row(space, relation, USER, NO_LIVE_EDGES, n_modes=0)
    # In a ring of followees whom my followee follows is two steps away, and nobody else is.
    after = int(relation.targets.row(FOLLOWEE)[0])
    candidates = np.array([after, FOLLOWER, STRANGER])
    features = features_of(space, relation, profile, candidates)
    assert column(features, "followed_by_targets") == pytest.approx([np.log(2), 0.0, 0.0])
    assert column(features, "damped_followed_by_targets") == pytest.approx([np.log(1001.0), 0.0, 0.0], rel=1e-5)
    without = features_of(space, relation, profile, candidates, with_paths=False)
    assert not without[:, FIRST_PATH:].any()
    assert np.array_equal(without[:, :FIRST_PATH], features[:, :FIRST_PATH])


@pytest.mark.parametrize("name", ["followed_by_targets", "walk"])
def test_the_service_orders_its_candidates_by_paths(recommender: Recommender, name: Feature) -> None:
    network = by_reciprocity(1.0).model_copy(update={"features": (name,), "pool": 40})
    strategy = Strategy(merge="single", weights=QueryWeights(user=-1.0), rescoring=network)
    relation = "follows" if name != "walk" else "likes"
    rows = recommender.for_users(np.array([USER]), strategy, 3, relation=relation)[0]
    space = recommender.bundle.space()
    chosen = space.relation(relation)
    profile = profile_of_row(space, chosen, USER, NO_LIVE_EDGES, n_modes=0)
    everyone = np.setdiff1d(np.arange(len(chosen.sources)), [*profile.targets, *([USER] if name != "walk" else [])])
    best = column(features_of(space, chosen, profile, everyone), name).max()
    assert best > 0
    assert column(features_of(space, chosen, profile, rows[:1]), name)[0] == pytest.approx(best)

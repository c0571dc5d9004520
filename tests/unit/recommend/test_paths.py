"""Paths between a user and the candidates: counted as dense matrices count them, cut where lists are too long."""

import gc
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from bundle.csr import csr_from_pairs
from bundle.manifest import RelationEntry
from bundle.space import Relation, Space
from recommend import paths, tables
from recommend.paths import N_PATHS, path_features
from recommend.profile import Profile
from recommend.types import NO_MODES

USERS, ITEMS = 60, 40
Dense = npt.NDArray[np.float64]


def relation_of(edges: Dense, target: str, name: str = "r") -> Relation:
    """A relation from users to `target` with an edge where `edges` has a one."""
    src, dst = (ends.astype(np.int32) for ends in np.nonzero(edges))
    nothing = np.zeros(2, dtype=np.float32)
    targets = csr_from_pairs(src, dst, edges.shape[0])
    entry = RelationEntry(name=name, source="user", target=target)
    return Relation(entry, 0, nothing, nothing, targets, targets.transposed(edges.shape[1]), np.empty(0, np.int32))


Ask = Callable[..., npt.NDArray[np.float32]]


@pytest.fixture
def found_for(space: Space) -> Ask:
    """The features of a user in training, or by the row None of a newcomer, who has these targets."""

    def ask(
        relation: Relation, user: int | None, targets: Dense, candidates: Dense, *others: Relation
    ) -> npt.NDArray[np.float32]:
        world = replace(space, relations={one.entry.name: one for one in (relation, *others)})
        profile = Profile(world, user, None, targets.astype(np.int64), (), NO_MODES)
        return path_features(world, relation, profile, candidates)

    return ask


@pytest.fixture
def of_user(found_for: Ask) -> Ask:
    """The features of a user in training."""

    def ask(relation: Relation, user: int, candidates: Dense, *others: Relation) -> npt.NDArray[np.float32]:
        return found_for(relation, user, relation.targets.row(user), candidates, *others)

    return ask


@pytest.fixture
def follows() -> Dense:
    edges = (np.random.default_rng(1).random((USERS, USERS)) < 0.15).astype(np.float64)
    np.fill_diagonal(edges, 0.0)
    return edges


@pytest.fixture
def likes() -> Dense:
    return (np.random.default_rng(2).random((USERS, ITEMS)) < np.linspace(0.02, 0.4, ITEMS)).astype(np.float64)


def over(degrees: Dense, power: float = 1.0) -> Dense:
    return np.diag(np.maximum(degrees, 1.0) ** -power)


def walk(edges: Dense, power: float = 1.0) -> Dense:
    """A Dᵢ⁻ᵖ Aᵀ Dₒ⁻ᵖ A."""
    return edges @ over(edges.sum(axis=0), power) @ edges.T @ over(edges.sum(axis=1), power) @ edges


@pytest.mark.parametrize("user", [0, 17, 59])
def test_paths_of_two_edges_are_counted_in_all_four_directions(follows: Dense, user: int, of_user: Ask) -> None:
    relation, candidates = relation_of(follows, "user"), np.array([3, 40, 11, 29])
    found = of_user(relation, user, candidates)
    out, into = over(follows.sum(axis=1)) @ follows, over(follows.sum(axis=0)) @ follows.T
    for place, second in ((0, follows), (2, follows.T), (4, out), (6, into)):
        assert found[place] == pytest.approx((follows @ second)[user, candidates], rel=1e-5)
        assert found[place + 1] == pytest.approx((follows.T @ second)[user, candidates], rel=1e-5)
    assert found[8] == pytest.approx(walk(follows)[user, candidates], rel=1e-5)
    assert found[9] == pytest.approx(walk(follows, 0.5)[user, candidates], rel=1e-5)


def test_items_are_reached_by_a_walk_over_users_alike(likes: Dense, of_user: Ask) -> None:
    relation, candidates = relation_of(likes, "item"), np.arange(ITEMS)
    found = of_user(relation, 7, candidates)
    assert not found[:8].any()
    assert found[8] == pytest.approx(walk(likes)[7], rel=1e-5)
    assert found[9] == pytest.approx(walk(likes, 0.5)[7], rel=1e-5)


def test_other_relations_lead_to_users_by_what_both_have(follows: Dense, likes: Dense, of_user: Ask) -> None:
    relation, candidates = relation_of(follows, "user", "follows"), np.arange(20, 40)
    found = of_user(relation, 5, candidates, relation_of(likes, "item", "likes"))
    assert found[10] == pytest.approx((likes @ over(likes.sum(axis=0)) @ likes.T)[5, candidates], rel=1e-5)


def test_other_relations_lead_to_items_by_those_who_have_them(follows: Dense, likes: Dense, of_user: Ask) -> None:
    relation = relation_of(likes, "item", "likes")
    found = of_user(relation, 5, np.arange(ITEMS), relation_of(follows, "user", "follows"))
    back = over(likes.sum(axis=1)) @ likes
    assert found[10] == pytest.approx(((follows + follows.T) @ back)[5], rel=1e-5)


def test_nothing_is_left_over_for_the_next_user(follows: Dense, of_user: Ask) -> None:
    relation, candidates = relation_of(follows, "user"), np.arange(20, 40)

    def of(user: int) -> npt.NDArray[np.float32]:
        return of_user(relation, user, candidates)

    first = of(5)
    others = [of(user) for user in range(USERS)]
    assert np.array_equal(of(5), first)
    assert np.array_equal(others[5], first)
    elsewhere = []
    thread = threading.Thread(target=lambda: elsewhere.append(of(5)))
    thread.start()
    thread.join()
    assert np.array_equal(elsewhere[0], first)


def test_a_user_without_edges_has_no_paths(follows: Dense, found_for: Ask) -> None:
    nobody = np.empty(0, dtype=np.int64)
    found = found_for(relation_of(follows, "user"), None, nobody, np.arange(5))
    assert found.shape == (N_PATHS, 5)
    assert not found.any()


def test_hubs_are_left_out_first_where_lists_are_too_long(
    follows: Dense, monkeypatch: pytest.MonkeyPatch, found_for: Ask
) -> None:
    relation, user, candidates = relation_of(follows, "user"), 17, np.arange(USERS)
    targets = relation.targets.row(user)
    lengths = relation.targets.degrees()[targets]
    order = np.argsort(lengths, kind="stable")
    kept = targets[order[:3]]
    monkeypatch.setattr(paths, "MOST_READ", int(lengths[order[:3]].sum()))
    found = found_for(relation, None, targets, candidates)
    assert found[0] == pytest.approx(follows[kept].sum(axis=0))


def test_a_candidate_of_many_sources_is_judged_by_an_even_sample(
    likes: Dense, monkeypatch: pytest.MonkeyPatch, of_user: Ask
) -> None:
    relation = relation_of(likes, "item")
    exact = of_user(relation, 7, np.arange(ITEMS))[8]
    monkeypatch.setattr(tables, "MOST_SOURCES", 6)
    sampled = of_user(relation, 7, np.arange(ITEMS))[8]
    assert sampled.sum() == pytest.approx(exact.sum(), rel=0.15)
    few = relation.sources.degrees() <= 6
    assert few.any()
    assert sampled[few] == pytest.approx(exact[few])


def test_candidates_whom_nobody_has_are_reached_by_no_walk_and_change_no_other_s(likes: Dense, of_user: Ask) -> None:
    whole = of_user(relation_of(likes, "item"), 7, np.arange(ITEMS))[8:10]
    lonely = np.zeros((USERS, 3))
    among = np.column_stack([lonely[:, :1], likes[:, :20], lonely[:, 1:2], likes[:, 20:], lonely[:, 2:]])
    found = of_user(relation_of(among, "item"), 7, np.arange(ITEMS + 3))[8:10]
    assert not found[:, [0, 21, ITEMS + 2]].any()
    assert np.delete(found, [0, 21, ITEMS + 2], axis=1) == pytest.approx(whole, rel=1e-6)


def test_what_is_laid_out_goes_with_its_space(space: Space, follows: Dense) -> None:
    relation = relation_of(follows, "user")
    world = replace(space, relations={"r": relation})
    known, laid_out = id(world), tables.tables_of(world, relation)
    assert tables.tables_of(world, relation) is laid_out
    del world
    gc.collect()
    assert known not in tables._known


def test_versions_of_other_sizes_leave_no_memory_behind() -> None:
    scratch = paths._Scratch()
    for n in range(1000, 1100):
        with scratch.places(np.array([n - 1, 0]), n) as places:
            assert places.nonzero()[0].tolist() == [0, n - 1]
            assert len(places) == n
    with scratch.places(np.array([5]), 10) as places:
        assert places.tolist() == [0] * 5 + [1] + [0] * 4
    assert sum(one.nbytes for one in scratch._places.values()) < 2200

"""What the likest users have, as dense matrices have it, cut where lists are too long."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from bundle.csr import csr_from_pairs
from bundle.manifest import Neighbours, RelationEntry
from bundle.space import Relation, Space
from recommend import paths
from recommend.neighbours import of_neighbours
from recommend.profile import Profile
from recommend.types import NO_MODES

USERS, ITEMS = 60, 40
ALL = Neighbours(users=USERS, candidates=ITEMS)


def relation_of(edges: npt.NDArray[np.float64]) -> Relation:
    """A relation from users to items with an edge where `edges` has a one."""
    src, dst = (ends.astype(np.int32) for ends in np.nonzero(edges))
    targets = csr_from_pairs(src, dst, edges.shape[0])
    entry, nothing = RelationEntry(name="r", source="user", target="item"), np.zeros(2, dtype=np.float32)
    return Relation(entry, 0, nothing, nothing, targets, targets.transposed(edges.shape[1]), np.empty(0, np.int32))


def asked(
    space: Space, relation: Relation, user: int | None, targets: npt.NDArray[np.int32], wanted: Neighbours
) -> list[int]:
    """What the likest have and `targets` are not."""
    world = replace(space, relations={"r": relation})
    profile = Profile(world, user, None, targets.astype(np.int64), (), NO_MODES)
    return of_neighbours(world, relation, profile, wanted, lambda rows: ~np.isin(rows, targets)).tolist()


@pytest.fixture
def edges() -> npt.NDArray[np.float64]:
    return (np.random.default_rng(1).random((USERS, ITEMS)) < 0.2).astype(np.float64)


@pytest.mark.parametrize("n_users", [1, 4, USERS])
def test_as_dense_matrices_have_it(space: Space, edges: npt.NDArray[np.float64], n_users: int) -> None:
    relation = relation_of(edges)
    likeness = edges @ (edges / edges.sum(axis=0)).T / edges.sum(axis=1)
    np.fill_diagonal(likeness, -1.0)
    for user in range(USERS):
        likest = np.argsort(-likeness[user], kind="stable")[:n_users]
        masses = np.maximum(likeness[user, likest], 0.0) @ edges[likest]
        masses[edges[user] > 0] = 0.0
        found = asked(space, relation, user, relation.targets.row(user), Neighbours(users=n_users, candidates=10))
        expected = np.sort(masses)[::-1][:10]
        np.testing.assert_allclose(masses[found], expected[expected > 0], rtol=1e-5)


def test_a_newcomer_s_likest_may_be_anybody(space: Space, edges: npt.NDArray[np.float64]) -> None:
    relation = relation_of(edges)
    targets = relation.targets.row(7)
    one = Neighbours(users=1, candidates=ITEMS)
    assert not asked(space, relation, None, targets, one)  # user 7 is likest, and has nothing else
    assert asked(space, relation, 7, targets, one)


def test_who_has_nothing_is_like_nobody(space: Space, edges: npt.NDArray[np.float64]) -> None:
    assert not asked(space, relation_of(edges), 3, np.empty(0, dtype=np.int32), ALL)


def test_of_long_lists_the_shortest_are_read(
    space: Space, edges: npt.NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    relation = relation_of(edges)
    targets = relation.targets.row(0)
    rarest = targets[[np.argmin(relation.sources.degrees()[targets])]]
    monkeypatch.setattr(paths, "MOST_READ", int(relation.sources.degrees()[rarest[0]]))
    cut = asked(space, relation, 0, targets, ALL)
    monkeypatch.undo()
    by_rarest = asked(space, relation, 0, rarest, ALL)
    assert cut
    assert set(cut) <= set(by_rarest)
    assert set(cut) != set(asked(space, relation, 0, targets, ALL))

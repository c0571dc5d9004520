"""Interests are explained with the user's own engagements alone."""

import dataclasses

import numpy as np
import pytest

from bundle.csr import Csr
from bundle.space import Space
from recommend.interests import interests_of, one_for_each
from recommend.profile import changed, profile_of_row
from recommend.types import NO_LIVE_EDGES, LiveEdges
from tests.support.service_bundle import user_ids, with_interests_in_tags, with_tags

USERS = user_ids()


@pytest.mark.parametrize("relation", ["follows", "uses"])
def test_examples_are_the_users_own_engagements_in_the_cluster(space: Space, relation: str) -> None:
    follows = space.relations["follows"].targets
    assignment = space.clusters.assignment["user"]
    for user in range(0, len(USERS), 7):
        for interest in interests_of(space, space.relations[relation], user, NO_LIVE_EDGES, 5):
            inside = [row for row in follows.row(user).tolist() if assignment[row] == interest.cluster]
            assert interest.examples == tuple(("user", row) for row in inside[:5])
            assert interest.examples


def test_an_interest_that_is_nobodys_engagement_has_no_examples(space: Space) -> None:
    """As smoothing lends one: the cluster's own list is no example of what the user likes."""
    follows, assignment = space.relations["follows"], space.clusters.assignment["user"]
    engaged = set(assignment[follows.targets.row(5)].tolist())
    other = next(cluster for cluster in range(space.entry.clusters.count) if cluster not in engaged)
    indptr = np.zeros(len(USERS) + 1, dtype=np.int64)
    indptr[6:] = 1
    lent = Csr(indptr, np.array([other], dtype=np.int32), np.ones(1, dtype=np.float32))
    interests = (dataclasses.replace(space.clusters.interests[0], mixtures=lent),)
    changed = dataclasses.replace(space, clusters=dataclasses.replace(space.clusters, interests=interests))
    assert interests_of(changed, follows, 5, NO_LIVE_EDGES, 5) == [(other, 1.0, ())]


def test_a_user_of_items_alone_has_interests_where_items_are_clustered(space: Space) -> None:
    uses = space.relations["uses"]
    tags = (np.arange(len(space.entities["hashtag"])) % space.entry.clusters.count).astype(np.int32)
    both = with_tags(space, tags)
    live = LiveEdges(added={"uses": tuple(space.entities["hashtag"].ids.externals(np.array([3, 11, 20])))})
    interests = interests_of(both, space.relations["follows"], None, live, 5)
    assert sum(interest.share for interest in interests) == pytest.approx(1)
    assert {example for interest in interests for example in interest.examples} == {
        ("hashtag", row) for row in (3, 11, 20)
    }
    assert interests_of(space, uses, None, live, 5) == []  # hashtags are in no cluster of this version


def test_live_engagements_are_examples_and_removed_ones_are_none(space: Space) -> None:
    follows, assignment = space.relations["follows"], space.clusters.assignment["user"]
    heaviest = interests_of(space, follows, 5, NO_LIVE_EDGES, 50)[0]
    gone = heaviest.examples[0][1]
    new = next(
        row
        for row in range(len(USERS))
        if assignment[row] == heaviest.cluster and row not in {5, *follows.targets.row(5).tolist()}
    )
    live = LiveEdges(added={"follows": (USERS[new],)}, removed={"follows": (USERS[gone],)})
    rows = {row for _, row in interests_of(space, follows, 5, live, 50)[0].examples}
    assert new in rows
    assert gone not in rows


@pytest.fixture
def parted(space: Space) -> Space:
    """Interests in users and, apart from them, in hashtags."""
    return with_interests_in_tags(space, np.random.default_rng(3))


def test_each_relation_draws_from_interests_among_its_own_targets(parted: Space) -> None:
    for relation in parted.relations.values():
        own = parted.clusters.interests_in(relation.entry.target)
        for user in range(0, len(USERS) - 1, 11):
            engaged = set(parted.clusters.assignment[relation.entry.target][relation.targets.row(user)].tolist())
            stored = profile_of_row(parted, relation, user, NO_LIVE_EDGES, 4).modes.clusters.tolist()
            assert set(stored) <= engaged <= set(own.clusters)
            assert stored


def test_what_was_done_elsewhere_leaves_interests_as_they_are_stored(parted: Space) -> None:
    follows, uses = parted.relation("follows"), parted.relation("uses")
    live = LiveEdges(added={"uses": tuple(parted.table("hashtag").ids.externals(np.array([3, 11, 20])))})
    assert changed(parted, uses, live)
    assert not changed(parted, follows, live)
    assert not changed(parted, uses, NO_LIVE_EDGES)


def test_a_user_of_items_alone_has_interests_in_items_alone(parted: Space) -> None:
    live = LiveEdges(added={"uses": tuple(parted.table("hashtag").ids.externals(np.array([3, 11, 20])))})
    follows, uses = parted.relation("follows"), parted.relation("uses")
    assert list(one_for_each(parted, follows)) == [follows, uses]
    assert interests_of(parted, follows, None, live, 5) == []
    found = interests_of(parted, uses, None, live, 5)
    assert sum(one.share for one in found) == pytest.approx(1)
    assert {example for one in found for example in one.examples} == {("hashtag", row) for row in (3, 11, 20)}


def test_nobody_has_modes_among_targets_that_were_not_clustered(space: Space) -> None:
    """Of a version that names its interests: the first ones stood in for those of every other type."""
    named = (dataclasses.replace(space.clusters.interests[0], answers_all=False),)
    changed = dataclasses.replace(space, clusters=dataclasses.replace(space.clusters, interests=named))
    follows, uses = changed.relation("follows"), changed.relation("uses")
    assert profile_of_row(space, uses, 5, NO_LIVE_EDGES, 4).modes.clusters.size
    assert not profile_of_row(changed, uses, 5, NO_LIVE_EDGES, 4).modes.clusters.size
    assert interests_of(changed, uses, 5, NO_LIVE_EDGES, 5) == []
    assert list(one_for_each(changed, uses)) == [follows]

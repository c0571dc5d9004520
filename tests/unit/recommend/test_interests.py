"""Interests are explained with the user's own engagements alone."""

import dataclasses

import numpy as np
import pytest

from bundle.csr import Csr
from bundle.space import Space
from recommend.interests import interests_of
from recommend.types import NO_LIVE_EDGES, LiveEdges
from tests.support.service_bundle import user_ids

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
    changed = dataclasses.replace(space, clusters=dataclasses.replace(space.clusters, mixtures=lent))
    assert interests_of(changed, follows, 5, NO_LIVE_EDGES, 5) == [(other, 1.0, ())]


def test_a_user_of_items_alone_has_interests_where_items_are_clustered(space: Space) -> None:
    uses = space.relations["uses"]
    tags = (np.arange(len(space.entities["hashtag"])) % space.entry.clusters.count).astype(np.int32)
    clusters = dataclasses.replace(space.clusters, assignment={**space.clusters.assignment, "hashtag": tags})
    both = dataclasses.replace(space, clusters=clusters)
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

"""A mixture that is counted again when live edges change it counts as the build did."""

import dataclasses

import numpy as np
import pytest

from bundle.space import Space
from recommend.profile import engaged_clusters, profile_of_row, row_of
from recommend.types import LiveEdges
from tests.support.service_bundle import user_ids, with_tags

USER = 5


def _counting(space: Space, **counting: object) -> Space:
    """The same space with hashtags in the clusters too, and a manifest that says what engagements count."""
    tags = (np.arange(len(space.entities["hashtag"])) % space.entry.clusters.count).astype(np.int32)
    entry = space.entry.model_copy(update={"clusters": space.entry.clusters.model_copy(update=counting)})
    return dataclasses.replace(with_tags(space, tags), entry=entry)


def _counts(space: Space, live: LiveEdges) -> dict[int, float]:
    clusters, weights = engaged_clusters(space, space.relation("follows"), USER, live)
    return {int(cluster): float(weights[clusters == cluster].sum()) for cluster in np.unique(clusters)}


def test_without_weights_every_engagement_counts_one(space: Space) -> None:
    clusters, weights = engaged_clusters(space, space.relation("follows"), USER, LiveEdges())
    assert len(clusters) == len(space.relations["follows"].targets.row(USER))
    assert set(weights.tolist()) == {1.0}


def test_a_relation_counts_what_the_build_counted(space: Space) -> None:
    plain, weighted = _counting(space), _counting(space, relation_weights={"uses": 0.5, "follows": 2.0})
    follows, uses = (space.relations[name].targets.row(USER) for name in ("follows", "uses"))
    assert sum(_counts(plain, LiveEdges()).values()) == len(follows) + len(uses)
    assert sum(_counts(weighted, LiveEdges()).values()) == 2 * len(follows) + 0.5 * len(uses)
    none = _counting(space, relation_weights={"uses": 0.0, "follows": 0.0})
    removed = LiveEdges(removed={"follows": (user_ids()[int(follows[0])],)})
    assert len(profile_of_row(none, space.relations["follows"], USER, removed, 3).modes) == 0


def test_an_edge_counts_its_own_weight_and_a_live_one_counts_one(space: Space) -> None:
    weighted = _counting(space, edge_weights=True)
    uses, follows = space.relations["uses"].targets, space.relations["follows"].targets
    trained = len(follows.row(USER)) + float(uses.row_weights(USER).sum())
    assert sum(_counts(weighted, LiveEdges()).values()) == pytest.approx(trained)
    absent = next(row for row in range(len(space.entities["hashtag"])) if row not in uses.row(USER))
    added = LiveEdges(added={"uses": (space.entities["hashtag"].ids.external(absent),)})
    assert sum(_counts(weighted, added).values()) == pytest.approx(trained + 1)
    gone = LiveEdges(removed={"uses": (space.entities["hashtag"].ids.external(int(uses.row(USER)[0])),)})
    assert sum(_counts(weighted, gone).values()) == pytest.approx(trained - float(uses.row_weights(USER)[0]))


def test_somebody_new_is_counted_by_relation_alone(space: Space) -> None:
    weighted = _counting(space, edge_weights=True, relation_weights={"follows": 3.0})
    live = LiveEdges(added={"follows": tuple(user_ids()[:4])})
    assert row_of(space, space.relations["follows"], "no such") is None
    _, weights = engaged_clusters(weighted, weighted.relation("uses"), None, live)
    assert weights.tolist() == [3.0] * 4

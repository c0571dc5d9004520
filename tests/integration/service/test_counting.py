"""A build writes what engagements count into the manifest, and mixtures counted at a request agree with the built."""

from pathlib import Path

import numpy as np
import pytest

from bundle.reader import open_bundle
from bundle.space import Bundle
from index.builder.config import MixtureConfig
from recommend.profile import engaged_clusters, profile_of_row
from recommend.types import NO_LIVE_EDGES, LiveEdges
from tests.support.toy import LOVERS_OF_BOTH, TOY_CONFIG, build_toy, user_row, write_toy_run

ROW = user_row(LOVERS_OF_BOTH[0])
WEIGHTS = {"likes": 2.0, "follows": 0.5}


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The toy with likes of different weights, built so that they count, and relations too."""
    directory = tmp_path_factory.mktemp("weighted")
    edges = write_toy_run(directory / "run") / "graph" / "edges" / "000.weight.npy"
    np.save(edges, np.linspace(0.5, 3, len(np.load(edges)), dtype=np.float32))
    mixtures = MixtureConfig(modes=2, relation_weights=WEIGHTS, edge_weights=True)
    return open_bundle(build_toy(directory, config=TOY_CONFIG.model_copy(update={"mixtures": mixtures})).path)


def test_a_build_says_what_engagements_count(weighted: Bundle) -> None:
    counting = weighted.space().entry.clusters
    assert counting.relation_weights == WEIGHTS
    assert counting.edge_weights


def test_a_build_without_weights_says_so(tmp_path: Path) -> None:
    counting = open_bundle(build_toy(tmp_path).path).space().entry.clusters
    assert counting.relation_weights == {}
    assert not counting.edge_weights


def test_a_mixture_counted_again_is_the_built_one(weighted: Bundle) -> None:
    space = weighted.space()
    likes = space.relation("likes")
    liked = space.table("item").ids.external(int(likes.targets.row(ROW)[0]))
    again = LiveEdges(added={"likes": (liked,)})  # an edge that training has: it changes nothing but is counted anew
    built = profile_of_row(space, likes, ROW, NO_LIVE_EDGES, 2).modes
    live = profile_of_row(space, likes, ROW, again, 2).modes
    assert live.clusters.tolist() == built.clusters.tolist()
    np.testing.assert_allclose(live.shares, built.shares, rtol=1e-5)


def test_the_weights_of_a_build_count(weighted: Bundle) -> None:
    clusters, weights = engaged_clusters(weighted.space(), "user", ROW, NO_LIVE_EDGES)
    likes = weighted.space().relation("likes").targets
    assert len(clusters) >= len(likes.row(ROW))
    np.testing.assert_allclose(weights[: len(likes.row(ROW))], 2 * likes.row_weights(ROW), rtol=1e-6)
    assert len(set(weights.tolist())) > 2

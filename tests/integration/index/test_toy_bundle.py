"""The toy run built into a bundle: a version that opens, verifies, and answers as its author knows it must."""

from pathlib import Path

import numpy as np
import pytest

from bundle.errors import RunError
from bundle.reader import open_bundle
from bundle.space import Bundle
from bundle.verify import check_digests, check_finite
from bundle.versions import list_versions, publish
from index.builder import stage
from index.search.open import open_searcher
from tests.support.toy import ITEMS, JAZZ_LOVERS, LONELY, LOVERS_OF_BOTH, build_toy, item_row, user_row


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The toy, built once."""
    return open_bundle(build_toy(tmp_path_factory.mktemp("toy")).path)


def test_the_version_is_whole(toy: Bundle) -> None:
    check_digests(toy.path, toy.manifest)
    check_finite(toy.path, toy.manifest)
    assert list_versions(toy.path.parent) == ["toy"]


def test_the_version_can_be_published(tmp_path: Path) -> None:
    built = build_toy(tmp_path)
    assert publish(tmp_path / "bundles", "toy").version == built.manifest.version


def test_a_jazz_lover_gets_jazz_in_order(toy: Bundle) -> None:
    space = toy.space()
    user = space.table("user").vectors[user_row(JAZZ_LOVERS[0])]
    query = np.append(user[: space.entry.dim], np.float32(0))[np.newaxis]
    hits = open_searcher(toy, "default", "item").search(query, 5)[0]
    assert [ITEMS[row] for row in hits.rows] == ["jazz-00", "jazz-01", "jazz-02", "jazz-03", "jazz-04"]


def test_the_mixture_of_a_lover_of_both_is_six_to_four(toy: Bundle) -> None:
    clusters = toy.space().clusters
    row = user_row(LOVERS_OF_BOTH[0])
    jazz, chess = (clusters.assignment["item"][item_row(f"{kind}-00")] for kind in ("jazz", "chess"))
    assert clusters.interests[0].mixtures.row(row).tolist() == [jazz, chess]
    np.testing.assert_allclose(clusters.interests[0].mixtures.row_weights(row), [0.6, 0.4], rtol=1e-6)
    assert len(clusters.interests[0].mixtures.row(user_row(LONELY))) == 0


def test_the_list_of_a_cluster_holds_its_own_kind_first(toy: Bundle) -> None:
    clusters = toy.space().clusters
    jazz = clusters.assignment["item"][item_row("jazz-00")]
    for query in ("centroid", "medoid"):
        rows = clusters.lists["item", query].rows[jazz]
        assert [ITEMS[row] for row in rows[:3]] == ["jazz-00", "jazz-01", "jazz-02"]
        assert {ITEMS[row][:4] for row in rows[:20]} == {"jazz"}


def test_popularity_is_the_logarithm_of_the_likes(toy: Bundle) -> None:
    items = toy.space().table("item").vectors
    # ten lovers of jazz and four of both like jazz-00; nobody likes jazz-19
    assert items[item_row("jazz-00"), -1] == pytest.approx(np.log(15))
    assert items[item_row("jazz-19"), -1] == 0


def test_a_type_of_more_entities_than_a_version_has_rows_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "MOST_ROWS", 3)
    with pytest.raises(RunError, match=r"entities, a version holds at most 3 of a type\. Split it into several types"):
        build_toy(tmp_path)

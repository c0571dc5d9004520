"""Interests of a version that contradict its clusters are refused, by key or by file."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle.errors import BundleError, BundleInvalid
from bundle.reader import open_bundle
from bundle.versions import publish
from tests.support.signing import rewrite_array, rewrite_manifest

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "format-2-interests"


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / GOLDEN.name))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda interests: interests.reverse(), "other types than clusters.types"),
        (lambda interests: interests[1].update(types=["item"]), "other types than clusters.types"),
        (lambda interests: interests[1].update(types=[]), "other types than clusters.types"),
        (lambda interests: interests.pop(), "other types than clusters.types"),
        (lambda interests: interests[1].update(count=3), "another number of clusters"),
        (lambda interests: interests[0].update(user_type="item"), "other users than clusters.mixture_type"),
        (lambda interests: interests[1].update(user_type="nobody"), "no entity type"),
    ],
)
def test_interests_that_do_not_fit_the_clusters_are_refused(
    version: Path, change: Callable[[Any], object], said: str
) -> None:
    rewrite_manifest(version, lambda manifest: change(manifest["spaces"]["default"]["clusters"]["interests"]))
    with pytest.raises(BundleError, match=rf"manifest\.json.*{said}"):
        publish(version.parent, version.name)


@pytest.mark.parametrize(
    "file", ["mixtures/user.clusters", "mixtures/clusters", "clusters/of_user", "clusters/of_item"]
)
def test_a_cluster_of_other_interests_is_refused(version: Path, file: str) -> None:
    def other(clusters: Any) -> Any:
        return (clusters + 2) % 4

    name = f"spaces/default/{file}.npy"
    rewrite_array(version, name, other)
    with pytest.raises(BundleInvalid, match=name.replace(".", r"\.")):
        publish(version.parent, version.name)


def test_the_mixtures_of_each_are_looked_at(version: Path) -> None:
    name = "spaces/default/mixtures/user.weights.npy"
    rewrite_array(version, name, lambda weights: np.full_like(weights, 2))
    with pytest.raises(BundleInvalid, match=name.replace(".", r"\.")):
        publish(version.parent, version.name)


def test_interests_answer_other_types_too_where_the_version_does_not_name_them(version: Path) -> None:
    assert not any(one.answers_all for one in open_bundle(version).space().clusters.interests)
    earlier = open_bundle(GOLDEN.parent / "format-1-hnsw").space().clusters
    assert [one.answers_all for one in earlier.interests] == [True]
    assert earlier.interests_in("a type that was not clustered") is earlier.interests[0]

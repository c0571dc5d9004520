"""An index of a built version is two files: the library's and the map of its queries. Neither is trusted unread."""

from pathlib import Path

import numpy as np
import pytest

from bundle.errors import BundleAltered, BundleError
from bundle.reader import open_bundle
from index.builder.config import BuildConfig, ClusterConfig, IndexConfig, MixtureConfig
from index.search.exact import ExactSearcher
from index.search.open import open_searcher
from index.search.projection import projection_file
from tests.support.toy import build_toy


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A version whose items are searched by product quantisation."""
    index = IndexConfig(kind="pq", queries=20, target_recall=0.5)
    config = BuildConfig(index=index, clusters=ClusterConfig(count=2, list_length=5), mixtures=MixtureConfig(modes=2))
    return build_toy(tmp_path, config=config).path


def map_of(version: Path) -> Path:
    file = open_bundle(version).space().entry.indexes["item"].file
    assert file is not None
    return projection_file(version / file)


def test_the_map_is_listed_and_the_searcher_finds_what_exact_search_finds(version: Path) -> None:
    bundle = open_bundle(version)
    assert map_of(version).relative_to(version).as_posix() in bundle.manifest.files
    vectors = bundle.space().table("item").vectors
    queries = np.ascontiguousarray(vectors[:3])
    found, expected = (
        each.search(queries, 3) for each in (open_searcher(bundle, None, "item"), ExactSearcher(vectors))
    )
    assert [hits.rows.tolist() for hits in found] == [hits.rows.tolist() for hits in expected]


def test_an_altered_map_is_refused_before_it_is_used(version: Path) -> None:
    bundle = open_bundle(version)
    path = map_of(version)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleAltered, match="item.queries.npy"):
        open_searcher(bundle, None, "item")


def test_a_missing_map_is_named(version: Path) -> None:
    map_of(version).unlink()
    with pytest.raises(BundleError, match="item.queries.npy"):
        open_bundle(version)

"""A loaded toy version and its recommender, shared by the service's unit tests."""

from pathlib import Path

import pytest

from bundle.reader import open_bundle
from bundle.space import Bundle, Space
from index.search.exact import ExactSearcher
from recommend.recommender import Recommender
from service.encoded_lists import encode_candidate
from tests.support.service_bundle import write_toy_bundle


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The toy version, opened."""
    path: Path = write_toy_bundle(tmp_path_factory.mktemp("bundles"), "v1")
    return open_bundle(path)


@pytest.fixture(scope="session")
def space(toy: Bundle) -> Space:
    return toy.space()


@pytest.fixture(scope="session")
def recommender(toy: Bundle) -> Recommender:
    """Exact searchers over both entity types."""
    return Recommender(
        toy,
        {("main", name): ExactSearcher(toy.space().entities[name].vectors) for name in ("user", "hashtag")},
        encode_candidate,
    )

"""The toy version of `tests/support/toy.py`, built once and opened with its searchers."""

from pathlib import Path

import pytest

from bundle.reader import open_bundle
from bundle.space import Space
from index.search.open import exact_searchers
from recommend.recommender import Recommender
from tests.support.toy import build_toy


@pytest.fixture(scope="session")
def toy_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds `run` and `bundles/toy`."""
    directory = tmp_path_factory.mktemp("evaluated")
    build_toy(directory)
    return directory


@pytest.fixture(scope="session")
def recommender(toy_directory: Path) -> Recommender:
    bundle = open_bundle(toy_directory / "bundles" / "toy")
    return Recommender(bundle, exact_searchers(bundle))


@pytest.fixture(scope="session")
def space(recommender: Recommender) -> Space:
    return recommender.bundle.space()

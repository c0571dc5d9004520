"""What the service's benchmark compares is comparable: the same searches, an honest recall, pgvector's own slates."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import serve_pgvector
from benchmarks.serve_search import RawSearch, recall
from bundle.reader import open_bundle
from tests.support.service_bundle import user_ids

USERS = user_ids()[:20]


@pytest.fixture(scope="module")
def raw(made_bundles: Path) -> RawSearch:
    """The searches of twenty users' live mixtures."""
    return RawSearch(open_bundle(made_bundles / "v1"), USERS, k=10, modes=3)


def test_recall_is_the_share_of_the_true_rows() -> None:
    assert recall([[[1, 2], [3, 4]]], [[[2, 1], [4, 5]]]) == 0.75


def test_raw_search_is_the_search_of_the_strategy(raw: RawSearch) -> None:
    for mixture in raw.mixtures:
        found = raw.nearest(raw.searcher, mixture)
        assert len(found) == len(mixture.queries) == len(mixture.shares)
        assert found == raw.nearest(raw.exact, mixture)
        assert not set(np.concatenate(found).tolist()) & set(mixture.excluded.tolist())
    assert raw.cpu_us(slice(0, 5)) > 0


@pytest.mark.skipif(not serve_pgvector.AVAILABLE, reason="PostgreSQL is not installed: the dependency group `postgres`")
@pytest.mark.filterwarnings("ignore")
def test_pgvector_finds_the_same_rows(raw: RawSearch) -> None:
    with serve_pgvector.postgres(10) as server:
        server.fill(raw.vectors)
        server.search_to(400)
        for mixture in raw.mixtures:
            embedding = mixture._replace(queries=mixture.queries * (np.arange(mixture.queries.shape[1]) < raw.dim))
            assert recall([server.nearest(mixture)], [raw.nearest(raw.exact, embedding)]) > 0.9
            slate = server.slate(mixture)
            assert len(slate) == len(set(slate)) <= 10

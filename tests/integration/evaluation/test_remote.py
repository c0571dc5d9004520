"""A running service as the evaluation asks it, beside the same version opened in this process."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from bundle.csr import csr_from_pairs, empty_csr
from bundle.errors import UsageError
from bundle.versions import publish
from cli.compose import RecommendByRow, RecommendNewcomers, open_recommender
from cli.remote import RecommendOverHttp
from recommend.recommender import Recommender
from service.settings import Limits, Settings
from tests.support.servers import running
from tests.support.toy import build_toy, user_row

ENGAGED = csr_from_pairs(
    np.array([0, 1], dtype=np.int32), np.array([user_row("106"), user_row("206")], dtype=np.int32), 2
)
FOLLOWERS = csr_from_pairs(
    np.array([0, 1], dtype=np.int32), np.array([user_row("104"), user_row("304")], dtype=np.int32), 2
)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("served")
    build_toy(directory)
    publish(directory / "bundles", "toy")
    return directory / "bundles"


@pytest.fixture(scope="module")
def opened(bundles: Path) -> Recommender:
    return open_recommender(bundles / "toy")


@pytest.fixture(scope="module")
def remote(bundles: Path, opened: Recommender) -> Iterator[RecommendOverHttp]:
    users = opened.bundle.space().table("user").ids
    settings = Settings(bundles=bundles, limits=Limits(timeout_ms=10_000))
    with running(settings) as url, closing(RecommendOverHttp(url, "follows", users, users)) as made:
        yield made


def test_users_in_training_get_the_same_from_both(remote: RecommendOverHttp, opened: Recommender) -> None:
    users = np.array([user_row("101"), user_row("205")])
    here = RecommendByRow(opened, relation="follows")(users, "unimodal", 8)
    there = remote(users, "unimodal", 8)
    assert [rows.tolist() for rows in there] == [rows.tolist() for rows in here]


@pytest.mark.parametrize("followers", [FOLLOWERS, empty_csr(2)])
def test_newcomers_get_the_same_from_both(remote: RecommendOverHttp, opened: Recommender, followers) -> None:
    here = RecommendNewcomers(opened, relation="follows")(ENGAGED, followers, "fold_in", 8)
    there = remote.newcomers(ENGAGED, followers, "fold_in", 8)
    assert [rows.tolist() for rows in there] == [rows.tolist() for rows in here]


def test_the_service_says_what_it_offers(remote: RecommendOverHttp) -> None:
    strategies, auto = remote.strategies()
    assert auto in strategies


def test_a_service_that_refuses_or_is_not_there_is_named(remote: RecommendOverHttp, opened: Recommender) -> None:
    with pytest.raises(UsageError, match="refused /recommend with 422"):
        remote(np.array([0]), "no such strategy", 3)
    ids = opened.bundle.space().table("user").ids
    with pytest.raises(UsageError, match="does not answer"):
        RecommendOverHttp("http://127.0.0.1:9", "follows", ids, ids)(np.array([0]), "auto", 3)
    with pytest.raises(UsageError, match="no http URL"):
        RecommendOverHttp("ftp://nowhere", "follows", ids, ids)


def test_a_connection_that_the_service_closed_is_opened_again(bundles: Path, opened: Recommender) -> None:
    """Between two strategies the evaluation computes for longer than a service keeps an idle connection."""
    ids = opened.bundle.space().table("user").ids
    settings = Settings(bundles=bundles, limits=Limits(timeout_ms=10_000), keep_alive_seconds=1)
    with running(settings) as url, closing(RecommendOverHttp(url, "follows", ids, ids)) as remote:
        before = remote(np.array([0]), "unimodal", 3)
        time.sleep(1.5)
        assert remote(np.array([0]), "unimodal", 3)[0].tolist() == before[0].tolist()

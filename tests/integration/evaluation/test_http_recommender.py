"""A running service as the evaluation asks it, beside the same version opened in this process."""

import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from bundle.csr import csr_from_pairs, empty_csr
from bundle.errors import UsageError
from bundle.manifest import QueryWeights, Strategy
from bundle.prepared import PreparedGraph
from bundle.run import open_graph
from bundle.versions import publish
from cli.compose import open_recommender
from evaluation.follow import offer_of
from evaluation.http_recommender import HttpRecommender
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
def graph(bundles: Path) -> PreparedGraph:
    return open_graph(bundles.parent / "run")


@pytest.fixture(scope="module")
def remote(bundles: Path, graph: PreparedGraph) -> Iterator[HttpRecommender]:
    settings = Settings(bundles=bundles, limits=Limits(timeout_ms=10_000))
    with running(settings) as url, closing(HttpRecommender(url, graph)) as made:
        yield made


@pytest.mark.parametrize(("strategy", "relation"), [("unimodal", "follows"), ("auto", "likes"), ("auto", "follows")])
def test_users_in_training_get_the_same_from_both(
    remote: HttpRecommender, opened: Recommender, strategy: str, relation: str
) -> None:
    users = np.array([user_row("101"), user_row("205")])
    here, there = (one.for_users(users, strategy, 8, relation=relation) for one in (opened, remote))
    assert [rows.tolist() for rows in there] == [rows.tolist() for rows in here]


@pytest.mark.parametrize("followers", [FOLLOWERS, empty_csr(2)])
def test_newcomers_get_the_same_from_both(remote: HttpRecommender, opened: Recommender, followers) -> None:
    here, there = (one.for_newcomers(ENGAGED, followers, "fold_in", 8, relation="follows") for one in (opened, remote))
    assert [rows.tolist() for rows in there] == [rows.tolist() for rows in here]


def test_the_service_offers_what_its_version_offers(remote: HttpRecommender, opened: Recommender) -> None:
    assert remote.offer() == offer_of(opened)


def test_a_service_that_refuses_or_is_not_there_is_named(remote: HttpRecommender, graph: PreparedGraph) -> None:
    with pytest.raises(UsageError, match="refused /recommend with 422"):
        remote.for_users(np.array([0]), "no such strategy", 3, relation="follows")
    itself = Strategy(merge="single", weights=QueryWeights(user=1.0))
    with pytest.raises(UsageError, match="by the name of a strategy"):
        remote.for_users(np.array([0]), itself, 3, relation="follows")
    with pytest.raises(UsageError, match=r"at 127.0.0.1:9 does not answer: .*\. Start it, or correct --url"):
        HttpRecommender("http://127.0.0.1:9", graph).for_users(np.array([0]), "auto", 3, relation="follows")
    with pytest.raises(UsageError, match="no http URL"):
        HttpRecommender("ftp://nowhere", graph)
    for url in ("http://127.0.0.1:99999", "http://[::1", "http://a b"):
        with pytest.raises(UsageError, match="no http URL"):
            HttpRecommender(url, graph)
    with pytest.raises(UsageError, match=r"at \[::1\]:9 does not answer: .*\. Start it"):
        HttpRecommender("http://[::1]:9", graph).offer()
    with pytest.raises(UsageError, match=r"at a\.\.b:80 does not answer: .*\. Start it"):
        HttpRecommender("http://a..b", graph).offer()


OTHER = r"What answers /\S+ at 127\.0\.0\.1:\d+ "


@pytest.mark.parametrize(
    ("status", "answer", "missing", "said"),
    [
        (200, b'{"hello": 1}', 0, OTHER + "is no twhin of this release"),
        (200, b"[1]", 0, OTHER + "is no twhin of this release"),
        (200, b"null", 0, OTHER + "is no twhin of this release"),
        (404, b'"no"', 0, "refused /.* with 404: it does not say why"),
        (200, b"<html>", 0, OTHER + r"with 200 is no twhin: the answer is no JSON\. Correct --url"),
        (502, b"<html>", 0, OTHER + "with 502 is no twhin: the answer is no JSON"),
        (200, b"[" * 100_000, 0, OTHER + "with 200 is no twhin: the answer is no JSON"),
        (200, b"\xff\xfe\xfd", 0, OTHER + "with 200 is no twhin: the answer is no JSON"),
        (200, b'{"hello', 9, OTHER + r"is no twhin, or broke off: IncompleteRead\(7 bytes read, 9 more expected\)"),
    ],
)
def test_another_service_at_that_place_is_said_to_be_one(
    graph: PreparedGraph, status: int, answer: bytes, missing: int, said: str
) -> None:
    class Another(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(answer) + missing))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET  # noqa: N815 (the name that http.server looks for)

    with HTTPServer(("127.0.0.1", 0), Another) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with closing(HttpRecommender(f"http://127.0.0.1:{server.server_port}", graph)) as asked:
            with pytest.raises(UsageError, match=said):
                asked.offer()
            with pytest.raises(UsageError, match=said):
                asked.for_users(np.array([0]), "auto", 3, relation="follows")
        server.shutdown()


def test_a_connection_that_the_service_closed_is_opened_again(bundles: Path, graph: PreparedGraph) -> None:
    """Between two strategies the evaluation computes for longer than a service keeps an idle connection."""
    settings = Settings(bundles=bundles, limits=Limits(timeout_ms=10_000), keep_alive_seconds=1)
    with running(settings) as url, closing(HttpRecommender(url, graph)) as remote:
        before = remote.for_users(np.array([0]), "unimodal", 3, relation="follows")
        time.sleep(1.5)
        after = remote.for_users(np.array([0]), "unimodal", 3, relation="follows")
        assert after[0].tolist() == before[0].tolist()

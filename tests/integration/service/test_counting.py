"""A build writes what engagements count into the manifest, and mixtures counted at a request agree with the built."""

import json
import math
from pathlib import Path

import httpx
import numpy as np
import pytest

from bundle.reader import open_bundle
from bundle.space import Bundle
from bundle.versions import publish
from index.builder.config import MixtureConfig
from recommend.profile import engaged_clusters, profile_of_row
from recommend.types import NO_LIVE_EDGES, LiveEdges, Modes
from service.settings import Settings
from tests.support.servers import RedisServer, running
from tests.support.toy import LOVERS_OF_BOTH, TOY_CONFIG, build_toy, item_row, user_row, write_toy_run

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
    clusters, weights = engaged_clusters(weighted.space(), weighted.space().relation("likes"), ROW, NO_LIVE_EDGES)
    likes = weighted.space().relation("likes").targets
    assert len(clusters) >= len(likes.row(ROW))
    np.testing.assert_allclose(weights[: len(likes.row(ROW))], 2 * likes.row_weights(ROW), rtol=1e-6)
    assert len(set(weights.tolist())) > 2


DAY = 86_400
NEW = "chess-11"
# The toy's likes are a day apart, from here on.
FIRST = 1_700_000_000


def _fading(
    directory: Path, unit: float = 1.0, half_life: float | None = 10.0 * DAY, new: float | None = None
) -> Bundle:
    """The toy built with a half-life, times in a `unit` of seconds; ROW likes NEW too, so many seconds after 1970."""
    edges = write_toy_run(directory / "run") / "graph" / "edges"
    times = (np.load(edges / "000.time.npy") / unit).astype(np.int64)
    if new is not None:
        for name, value in (("src", ROW), ("dst", item_row(NEW)), ("weight", 1)):
            array = np.load(edges / f"000.{name}.npy")
            np.save(edges / f"000.{name}.npy", np.append(array, np.array(value, dtype=array.dtype)))
        times = np.append(times, np.int64(new / unit))
        record = directory / "run" / "graph" / "graph.json"
        record.write_text(record.read_text().replace(f'"edges": {len(times) - 1}', f'"edges": {len(times)}', 1))
    np.save(edges / "000.time.npy", times)
    scaled = None if half_life is None else half_life / unit
    config = TOY_CONFIG.model_copy(update={"mixtures": MixtureConfig(modes=2, half_life=scaled)})
    return open_bundle(build_toy(directory, config=config).path)


def _modes(bundle: Bundle, live: LiveEdges = NO_LIVE_EDGES) -> Modes:
    space = bundle.space()
    return profile_of_row(space, space.relation("likes"), ROW, live, 2).modes


def _added(at: float) -> LiveEdges:
    return LiveEdges(added={"likes": (NEW,)}, times={"likes": (float(at),)})


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e-9])
@pytest.mark.parametrize("days", [-50, 40, 400])
def test_a_live_engagement_fades_as_a_trained_one(tmp_path: Path, unit: float, days: int) -> None:
    at = FIRST + days * DAY
    live = _fading(tmp_path / "live", unit)
    trained = _fading(tmp_path / "trained", unit, new=at)
    found, wanted = _modes(live, _added(at)), _modes(trained)
    assert found.clusters.tolist() == wanted.clusters.tolist()
    np.testing.assert_allclose(found.shares, wanted.shares, rtol=1e-5)
    again = LiveEdges(added={"likes": (live.space().table("item").ids.external(item_row("jazz-00")),)})
    assert _modes(live).shares.tolist() != _modes(live, again).shares.tolist(), "what is done again is new"


def test_the_same_engagement_later_counts_more(tmp_path: Path) -> None:
    bundle = _fading(tmp_path)
    chess = bundle.space().clusters.assignment["item"][item_row(NEW)]
    shares = []
    for days in (-100, 100, 200, 300):
        modes = _modes(bundle, _added(FIRST + days * DAY))
        shares.append(float(modes.shares[modes.clusters == chess].sum()))
    assert shares == sorted(set(shares))


def test_without_a_half_life_no_time_counts(tmp_path: Path) -> None:
    bundle = _fading(tmp_path, half_life=None)
    assert bundle.space().relation("likes").times is None
    assert bundle.space().entry.clusters.clocks == {}
    early, late = (_modes(bundle, _added(FIRST + days * DAY)).shares.tolist() for days in (-100, 300))
    assert early == late


def test_times_that_are_no_unix_times_have_live_engagements_count_as_new(tmp_path: Path) -> None:
    bundle = _fading(tmp_path, unit=float(DAY))
    assert bundle.space().entry.clusters.clocks["likes"].per_second is None
    early, late, undated = (_modes(bundle, _added(at)).shares.tolist() for at in (0.0, FIRST + 9e8, math.inf))
    assert early == late == undated


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_engagements_posted_earlier_count_less(tmp_path: Path, redis_server: RedisServer, store: str) -> None:
    bundle = _fading(tmp_path)
    publish(tmp_path / "bundles", "toy")
    shared = {"redis_url": redis_server.url, "redis_timeout_ms": 1000} if store == "redis" else {}
    settings = Settings(bundles=tmp_path / "bundles", self_test_queries=4, warm_up_queries=4, **shared)  # type: ignore[arg-type]
    user, chess = LOVERS_OF_BOTH[0], bundle.space().clusters.assignment["item"][item_row(NEW)]
    with running(settings) as url, httpx.Client(base_url=url, timeout=20) as client:
        client.headers["content-type"] = "application/json"
        shares = []
        for days in (-100, 100, 200):
            event = {"user": user, "target": NEW, "at": FIRST + days * DAY}
            assert client.post("/v1/engagements", content=json.dumps({"events": [event]})).json()["stored"] == 1
            told = client.get(f"/v1/users/{user}/interests").json()["interests"]
            shares.append(next(one["weight"] for one in told if one["cluster"] == chess))
            by_store = client.post("/recommend", content=json.dumps({"user": user, "strategy": "mixture", "k": 8}))
            client.delete(f"/v1/users/{user}/engagements")
            alone = {"target": NEW, "at": event["at"]}
            body = {"user": user, "strategy": "mixture", "k": 8, "engagements": [alone]}
            by_request = client.post("/recommend", content=json.dumps(body))
            assert by_request.json()["candidates"] == by_store.json()["candidates"]
        assert shares == sorted(set(shares))
        refused = client.post("/recommend", content=json.dumps({"engagements": [{"target": NEW, "at": 9e12}]}))
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/engagements/0/at")

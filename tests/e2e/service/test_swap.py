"""Versions change under load: no failed request, no answer of two versions, a bad one refused, memory given back."""

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from bundle.reader import open_bundle
from bundle.versions import publish, rollback
from recommend.recommender import Recommender
from recommend.types import RecommendRequest
from tests.support.servers import ServiceProcess
from tests.support.service_bundle import user_ids

USERS = user_ids()
Begin = Callable[..., ServiceProcess]
ASKED = 40


class Judge:
    """Knows what each version answers, and asks the service for it over and over."""

    def __init__(self, bundles: Path) -> None:
        self.bundles = {version: open_bundle(bundles / version) for version in ("v1", "v2")}
        self.slates = {version: self._slates(version) for version in self.bundles}
        self.faults: list[str] = []
        self.answers = 0
        self.stopped = threading.Event()

    def _slates(self, version: str) -> list[list[str]]:
        from index.search.open import open_searcher

        bundle = self.bundles[version]
        recommender = Recommender(bundle, {("main", "user"): open_searcher(bundle, "main", "user")})
        return [recommender.recommend(RecommendRequest(user=user, k=10)).ids() for user in USERS[:ASKED]]

    def ask(self, url: str) -> None:
        """Ask until stopped; note every answer that is not wholly of one version."""
        with httpx.Client(base_url=url, timeout=20, headers={"content-type": "application/json"}) as client:
            number = 0
            while not self.stopped.is_set():
                number = (number + 1) % ASKED
                self._slate(client.post("/recommend", content=json.dumps({"user": USERS[number], "k": 10})), number)
                body = json.dumps({"type": "user", "ids": [USERS[number]]})
                self._vector(client.post("/v1/embeddings", content=body), number)
                self.answers += 2

    def _slate(self, response: httpx.Response, number: int) -> None:
        if response.status_code != 200:
            self.faults.append(response.text)
            return
        answer = response.json()
        if [candidate["id"] for candidate in answer["candidates"]] != self.slates[answer["version"]][number]:
            self.faults.append(f"candidates are not those of {answer['version']}")

    def _vector(self, response: httpx.Response, number: int) -> None:
        if response.status_code != 200:
            self.faults.append(response.text)
            return
        answer = response.json()
        expected = self.bundles[answer["version"]].space().entities["user"].embeddings[number]
        if not np.array_equal(np.float32(answer["items"][0]["vector"]), expected):
            self.faults.append(f"the vector is not that of {answer['version']}")


def _wait_for_version(url: str, version: str) -> None:
    deadline = time.monotonic() + 30
    while httpx.get(f"{url}/v1/info").json()["version"] != version:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("swaps", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_swaps_under_load(begin: Begin, bundles: Path, swaps: int) -> None:
    service = begin()
    judge = Judge(bundles)
    threads = [threading.Thread(target=judge.ask, args=(service.url,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    process, sizes = psutil.Process(service.process.pid), []
    for swap in range(swaps):
        version = "v2" if swap % 2 == 0 else "v1"
        publish(bundles, version)
        _wait_for_version(service.url, version)
        sizes.append(process.memory_info().rss)
    judge.stopped.set()
    for thread in threads:
        thread.join()
    assert judge.faults == []
    assert judge.answers > 200
    assert sizes[-1] < 1.1 * sizes[5], "memory did not come back"


def test_a_bad_version_is_refused_and_the_old_one_serves_on(begin: Begin, bundles: Path) -> None:
    service = begin()
    shutil.copytree(bundles / "v2", bundles / "v3")
    manifest = bundles / "v3" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"v2"', '"v3"'))
    vectors = bundles / "v3" / "spaces" / "main" / "vectors" / "user.npy"
    damaged = bytearray(vectors.read_bytes())
    damaged[-3] ^= 1
    vectors.write_bytes(damaged)
    (bundles / "CURRENT").write_text("v3\n")
    deadline = time.monotonic() + 20
    while not (refused := httpx.get(f"{service.url}/v1/info").json()["versions"]["refused"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "user.npy" in refused["v3"]
    assert httpx.get(f"{service.url}/recommend/{USERS[0]}", timeout=20).json().get("version") == "v1"
    assert 'twhin_index_load_total{outcome="refused"} 1.0' in httpx.get(f"{service.url}/metrics").text
    (bundles / "CURRENT").write_text("v1\n")
    publish(bundles, "v2")
    _wait_for_version(service.url, "v2")
    assert rollback(bundles) == "v1"
    _wait_for_version(service.url, "v1")


def test_activate_takes_names_of_versions_alone(begin: Begin) -> None:
    service = begin(TWHIN_ADMIN_KEYS="admin-key")
    with httpx.Client(base_url=service.url, headers={"authorization": "Bearer admin-key"}) as admin:
        for version in ("v9", "%2e%2e", "..%2fv2", "a" * 100):
            response = admin.post(f"/admin/v1/versions/{version}/activate")
            assert response.status_code in (404, 405)
            assert response.headers["content-type"] == "application/problem+json"
        assert admin.get("/v1/info").json()["versions"]["refused"] == {}


def test_activate_and_roll_back_by_the_admin_api(begin: Begin, bundles: Path) -> None:
    service = begin(TWHIN_ADMIN_KEYS="admin-key", TWHIN_WATCH_SECONDS="1000")
    with httpx.Client(base_url=service.url, headers={"x-api-key": "admin-key"}, timeout=20) as admin:
        assert admin.post("/admin/v1/versions/v2/activate").json()["version"] == "v2"
        assert (bundles / "CURRENT").read_text() == "v2\n"
        assert admin.get(f"/recommend/{USERS[0]}").json()["version"] == "v2"
        assert admin.post("/admin/v1/rollback").json()["version"] == "v1"
        assert admin.get("/admin/v1/versions").json()["versions"] == ["v1", "v2"]
        vectors = bundles / "v2" / "spaces" / "main" / "vectors" / "user.npy"
        vectors.write_bytes(vectors.read_bytes()[:-1])
        refused = admin.post("/admin/v1/versions/v2/activate")
        assert (refused.status_code, refused.json()["code"]) == (409, "bundle_incomplete")
        assert admin.get(f"/recommend/{USERS[0]}").json()["version"] == "v1"


def test_a_read_only_directory_serves_and_says_that_it_cannot_publish(begin: Begin, bundles: Path) -> None:
    service = begin(TWHIN_ADMIN_KEYS="k", TWHIN_STATE=str(bundles.parent / "events.db"))
    (bundles / "LOCK").unlink(missing_ok=True)
    (bundles / "LOCK").mkdir()  # what cannot be opened for writing, whoever asks
    with httpx.Client(base_url=service.url, headers={"x-api-key": "k"}, timeout=20) as admin:
        answer = admin.post("/admin/v1/versions/v2/activate")
        assert (answer.status_code, answer.json()["code"]) == (409, "bundles_read_only")
        assert admin.get(f"/recommend/{USERS[0]}").json()["version"] == "v1"

"""Versions change under load: no failed request, no answer of two versions, a bad one refused, memory given back."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

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
from tests.support.signing import rewrite_array, rewrite_manifest

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


def _flip(file: Path, place: int) -> None:
    """Turn one bit of the byte at `place` round."""
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def _copy(bundles: Path, version: str, name: str) -> Path:
    """A copy of `version` under another name."""
    copy = shutil.copytree(bundles / version, bundles / name)
    rewrite_manifest(copy, lambda manifest: manifest.update(version=name))
    return Path(copy)


def _wait_for_refusal(url: str, version: str) -> str:
    """Why `version` was refused, as soon as it was."""
    deadline = time.monotonic() + 30
    while version not in (refused := httpx.get(f"{url}/v1/info").json()["versions"]["refused"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return str(refused[version])


def test_a_bad_version_is_refused_and_the_old_one_serves_on(begin: Begin, bundles: Path) -> None:
    service = begin()
    _flip(_copy(bundles, "v2", "v3") / "spaces" / "main" / "vectors" / "user.npy", -3)
    (bundles / "CURRENT").write_text("v3\n")
    assert "user.npy" in _wait_for_refusal(service.url, "v3")
    assert httpx.get(f"{service.url}/recommend/{USERS[0]}", timeout=20).json().get("version") == "v1"
    assert 'twhin_index_load_total{outcome="refused"} 1.0' in httpx.get(f"{service.url}/metrics").text
    (bundles / "CURRENT").write_text("v1\n")
    publish(bundles, "v2")
    _wait_for_version(service.url, "v2")
    assert rollback(bundles) == "v1"
    _wait_for_version(service.url, "v1")


def _loads_refused(url: str) -> str:
    return next(line for line in httpx.get(f"{url}/metrics").text.splitlines() if 'outcome="refused"' in line)


def test_a_refused_version_is_tried_again_when_its_files_are_written_anew(begin: Begin, bundles: Path) -> None:
    service = begin()
    copy = _copy(bundles, "v2", "v3")
    vectors = copy / "spaces" / "main" / "vectors" / "user.npy"
    whole = vectors.read_bytes()
    _flip(vectors, -3)
    (bundles / "CURRENT").write_text("v3\n")
    assert "user.npy" in _wait_for_refusal(service.url, "v3")
    time.sleep(0.5)
    assert _loads_refused(service.url) == 'twhin_index_load_total{outcome="refused"} 1.0', "read again and again"
    vectors.write_bytes(whole)
    _wait_for_version(service.url, "v3")


def test_a_version_that_arrives_after_current_is_served_when_it_is_whole(begin: Begin, bundles: Path) -> None:
    """As `rsync` copies a directory of versions: CURRENT comes first, then file after file."""
    service = begin()
    away = shutil.move(_copy(bundles, "v2", "v3"), bundles.parent / "v3")
    (bundles / "CURRENT").write_text("v3\n")
    _wait_for_refusal(service.url, "v3")
    for file in sorted((path for path in Path(away).rglob("*") if path.is_file()), key=lambda path: path.name):
        target = bundles / "v3" / file.relative_to(away)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
        time.sleep(0.02)
    _wait_for_version(service.url, "v3")
    assert httpx.get(f"{service.url}/v1/info").json()["versions"]["refused"] == {}


def test_a_version_is_tried_again_when_there_are_files_left_to_open_it(begin: Begin, bundles: Path) -> None:
    service = begin()
    process = psutil.Process(service.process.pid)
    before = process.rlimit(psutil.RLIMIT_NOFILE)
    with httpx.Client(base_url=service.url, timeout=20) as client:  # a connection that is open already
        client.get("/livez")
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + 1, before[1]))
        publish(bundles, "v2")
        deadline = time.monotonic() + 30
        while "v2" not in client.get("/v1/info").json()["versions"]["refused"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.get("/readyz").json()["degraded"] == ["published_version_refused"]
        time.sleep(1)
        process.rlimit(psutil.RLIMIT_NOFILE, before)
    _wait_for_version(service.url, "v2")
    lines = map(json.loads, service.log.read_text().splitlines())
    told = [line["reason"] for line in lines if line["message"] == "version refused"]
    assert all("Too many open files" in reason for reason in told)
    assert all(one != two for one, two in pairwise(told)), "the same is said once"


def _self_link(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


BAD: tuple[Callable[[Path], None], ...] = (
    lambda root: _flip(root / "spaces/main/vectors/user.npy", 20),
    lambda root: _flip(root / "spaces/main/edges/000.targets.indptr.npy", -2),
    lambda root: _self_link(root / "spaces/main/relations.npy"),
    lambda root: _pipe(root / "spaces/main/ids/user.npy"),
    lambda root: rewrite_manifest(root, lambda manifest: manifest.update(spaces={})),
    lambda root: rewrite_manifest(root, lambda manifest: manifest["files"].update({"a\0b": {}})),
    lambda root: (root / "manifest.json").write_text("[" * 50_000),
    lambda root: (root / "manifest.json").write_text('{"format_version": 1' + "0" * 5000 + "}"),
    lambda root: rewrite_array(root, "spaces/main/mixtures/weights.npy", np.zeros_like),
    lambda root: rewrite_array(root, "spaces/main/lists/user.centroid.rows.npy", lambda rows: rows + 1000),
)


def test_a_good_version_after_ten_bad_ones_is_followed(begin: Begin, bundles: Path) -> None:
    """Whatever is wrong with a version, it is refused by name and the watch goes on."""
    service = begin()
    for number, damage in enumerate(BAD):
        damage(_copy(bundles, "v2", f"bad{number}"))
        (bundles / "CURRENT").write_text(f"bad{number}\n")
        assert f"bad{number}" in _wait_for_refusal(service.url, f"bad{number}")
        assert httpx.get(f"{service.url}/recommend/{USERS[0]}", timeout=20).json()["version"] == "v1"
    publish(bundles, "v2")
    _wait_for_version(service.url, "v2")
    assert httpx.get(f"{service.url}/readyz").json() == {"status": "ok", "degraded": []}
    assert httpx.get(f"{service.url}/livez").status_code == 200
    assert "Traceback" not in service.log.read_text()


def test_a_version_that_is_mended_and_published_again_under_its_name_is_followed(begin: Begin, bundles: Path) -> None:
    service = begin()
    vectors = bundles / "v2" / "spaces/main/vectors/user.npy"
    _flip(vectors, -3)
    (bundles / "CURRENT").write_text("v2\n")
    _wait_for_refusal(service.url, "v2")
    _flip(vectors, -3)
    publish(bundles, "v2")
    _wait_for_version(service.url, "v2")


@pytest.mark.parametrize("file", ["spaces/main/vectors/user.npy", "spaces/main/pq/user.codes.npy", "manifest.json"])
def test_a_start_serves_an_earlier_version_when_the_published_one_is_damaged(
    begin: Begin, bundles: Path, file: str
) -> None:
    publish(bundles, "v2")
    damaged = bundles / "v2" / file
    text = damaged.read_bytes()
    _flip(damaged, text.index(b'"user": 0.3') + len('"user": 0.') if file == "manifest.json" else -3)
    service = begin()
    info = httpx.get(f"{service.url}/v1/info").json()
    assert (info["version"], info["versions"]["published"]) == ("v1", "v2")
    assert file in info["versions"]["refused"]["v2"]
    assert httpx.get(f"{service.url}/readyz").json() == {
        "status": "degraded",
        "degraded": ["published_version_refused"],
    }
    look_up = httpx.post(f"{service.url}/v1/embeddings", json={"type": "user", "ids": [USERS[0]], "version": "v2"})
    assert (look_up.status_code, look_up.json()["code"]) == (409, "bundle_altered")
    assert "serving an earlier version" in service.log.read_text()


def test_the_check_at_start_can_be_left_out(begin: Begin, bundles: Path) -> None:
    _flip(bundles / "v1" / "spaces/main/pq/user.codes.npy", -3)
    service = begin(TWHIN_VERIFY="false")
    assert httpx.get(f"{service.url}/readyz").json()["status"] == "ok"


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


def test_publish_by_the_admin_api_lets_every_service_take_it_over(begin: Begin, bundles: Path) -> None:
    keys = {"TWHIN_ADMIN_KEYS": "admin-key", "TWHIN_READ_KEYS": "r-key"}
    near, far = begin(**keys, TWHIN_WATCH_SECONDS="0.2"), begin(**keys, TWHIN_WATCH_SECONDS="1000")
    with httpx.Client(base_url=far.url, headers={"x-api-key": "admin-key"}, timeout=20) as admin:
        path = "/admin/v1/versions/v2/publish"
        assert admin.post(path, headers={"x-api-key": "r-key"}).status_code == 403
        assert admin.post(path, headers={"origin": "https://elsewhere.example"}).json()["code"] == "origin_refused"
        assert (bundles / "CURRENT").read_text() == "v1\n"
        vectors = bundles / "v2" / "spaces" / "main" / "vectors" / "user.npy"
        whole = vectors.read_bytes()
        vectors.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        refused = admin.post(path)
        assert (refused.status_code, refused.json()["code"]) == (409, "bundle_altered")
        assert (bundles / "CURRENT").read_text() == "v1\n"
        vectors.write_bytes(whole)
        told = admin.post(path).json()
        assert (told["published"], told["version"], "change" in told) == ("v2", "v1", False)  # it looks for it later
        assert (bundles / "CURRENT").read_text() == "v2\n"
        deadline = time.monotonic() + 30
        read = {"x-api-key": "r-key"}
        while httpx.get(f"{near.url}/v1/info", headers=read).json()["version"] != "v2":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert admin.get("/v1/info").json()["version"] == "v1"
        for name, status in (("v9", 404), ("a" * 100, 404), ("..%2fv2", 404)):
            assert admin.post(f"/admin/v1/versions/{name}/publish").status_code == status


def test_publish_by_the_admin_api_compares_recall_and_activate_does_not(begin: Begin, bundles: Path) -> None:
    for version, recall in (("v1", 0.5), ("v2", 0.3)):
        manifest = bundles / version / "manifest.json"
        told = json.loads(manifest.read_text())
        told["evaluation"]["strategies"] = {"blend": {"recall@10": recall, "users": 4000.0}}
        manifest.write_text(json.dumps(told))
    publish(bundles, "v1")
    server = begin(TWHIN_ADMIN_KEYS="admin-key", TWHIN_WATCH_SECONDS="1000")
    with httpx.Client(base_url=server.url, headers={"x-api-key": "admin-key"}, timeout=20) as admin:
        refused = admin.post("/admin/v1/versions/v2/publish")
        assert (refused.status_code, refused.json()["code"]) == (409, "gate_refused")
        assert "/admin/v1/versions" in refused.json()["detail"]
        assert "recall@10 against version v1" in str(admin.get("/admin/v1/versions").json()["change"])
        assert (bundles / "CURRENT").read_text() == "v1\n"
        assert admin.post("/admin/v1/versions/v2/activate").json()["version"] == "v2"


def _when_ended(admin: httpx.Client) -> dict[str, Any]:
    """What is said of the versions when no change is under way any more."""
    deadline = time.monotonic() + 20
    while True:
        state: dict[str, Any] = admin.get("/admin/v1/versions", headers={"x-request-timeout-ms": "5000"}).json()
        if state.get("change", {}).get("state") != "working":
            return state
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_change_that_takes_longer_than_its_request_goes_on_to_its_end(begin: Begin, bundles: Path) -> None:
    """202 and never 504: what is reported as failed must not happen afterwards."""
    service = begin(TWHIN_ADMIN_KEYS="k", TWHIN_WATCH_SECONDS="1000")
    hurried = {"x-api-key": "k", "x-request-timeout-ms": "1"}
    with httpx.Client(base_url=service.url, headers=hurried, timeout=20) as admin:
        for path, version in (("versions/v2/activate", "v2"), ("rollback", "v1")):
            begun = admin.post(f"/admin/v1/{path}")
            assert (begun.status_code, begun.headers["location"]) == (202, "/admin/v1/versions")
            assert begun.json()["change"]["state"] == "working"
            other = admin.post("/admin/v1/rollback")
            assert (other.status_code, other.json()["code"]) == (409, "bundles_busy")
            state = _when_ended(admin)
            assert (state["version"], "change" in state) == (version, False)
            assert (bundles / "CURRENT").read_text() == f"{version}\n"
        _flip(bundles / "v2" / "spaces/main/vectors/user.npy", -3)
        assert admin.post("/admin/v1/versions/v2/activate").status_code == 202
        change = _when_ended(admin)["change"]
        assert (change["state"], change["code"]) == ("failed", "bundle_altered")
        assert "user.npy" in change["reason"]
        assert (bundles / "CURRENT").read_text() == "v1\n"


def test_a_read_only_directory_serves_and_says_that_it_cannot_publish(begin: Begin, bundles: Path) -> None:
    service = begin(TWHIN_ADMIN_KEYS="k", TWHIN_STATE=str(bundles.parent / "events.db"))
    (bundles / "LOCK").unlink(missing_ok=True)
    (bundles / "LOCK").mkdir()  # what cannot be opened for writing, whoever asks
    with httpx.Client(base_url=service.url, headers={"x-api-key": "k"}, timeout=20) as admin:
        answer = admin.post("/admin/v1/versions/v2/activate")
        assert (answer.status_code, answer.json()["code"]) == (409, "bundles_read_only")
        assert admin.get(f"/recommend/{USERS[0]}").json()["version"] == "v1"

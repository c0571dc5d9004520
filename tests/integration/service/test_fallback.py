"""A service that starts while the published version is unfit serves the latest earlier one, and says so everywhere."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from bundle.versions import publish
from tests.support.service_bundle import user_ids

Start = Callable[..., httpx.Client]
USER = user_ids()[3]


def _cut(bundles: Path, version: str) -> None:
    vectors = bundles / version / "spaces" / "main" / "vectors" / "user.npy"
    vectors.write_bytes(vectors.read_bytes()[:-1])


def _behind(client: httpx.Client) -> bool:
    return "twhin_index_behind 1.0" in client.get("/metrics").text


@pytest.mark.parametrize("fault", ["cut", "gone"])
def test_the_latest_earlier_version_serves(start: Start, bundles: Path, fault: str) -> None:
    shutil.copytree(bundles / "v2", bundles / "v0")  # on disk, newer than nothing, never published: not to be served
    publish(bundles, "v2")
    if fault == "cut":
        _cut(bundles, "v2")
    else:
        shutil.rmtree(bundles / "v2")
    client = start()
    assert client.get("/startupz").status_code == 200
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["degraded"]) == (200, ["published_version_refused"])
    versions = client.get("/v1/info").json()["versions"]
    assert (versions["serving"], versions["published"], set(versions["refused"])) == ("v1", "v2", {"v2"})
    assert client.get(f"/recommend/{USER}").json()["version"] == "v1"
    assert _behind(client)
    publish(bundles, "v1")
    deadline = time.monotonic() + 30
    while client.get("/readyz").json()["status"] != "ok":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not _behind(client)


def test_without_a_fit_version_nothing_is_ready(start: Start, bundles: Path) -> None:
    publish(bundles, "v2")
    for version in ("v1", "v2"):
        _cut(bundles, version)
    client = start()
    for probe in ("/readyz", "/startupz", f"/recommend/{USER}"):
        assert (client.get(probe).status_code, client.get(probe).json()["code"]) == (503, "not_ready")
    assert client.get("/livez").status_code == 200

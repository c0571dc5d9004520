"""`twhin serve` and `twhin recommend` give the same answers, and the evaluation can ask either."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers import free_port

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def url(pipeline: Any) -> Iterator[str]:
    """The service as a user starts it, stopped as a user stops it."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("twhin")), "serve", "--bundles", str(pipeline.bundles)]
    child = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.PIPE)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(child, address)
        yield address
    finally:
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=30)
    assert b"Traceback" not in said


def _wait_until_ready(child: "subprocess.Popen[bytes]", address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and child.poll() is None:
        try:
            if httpx.get(f"{address}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail("the service did not become ready")


def test_the_command_answers_as_the_service_does(twhin: Command, pipeline: Any, url: str) -> None:
    offline = json.loads(twhin("recommend", 7, "--bundles", pipeline.bundles, "-k", 12, "--json").stdout)
    online = httpx.get(f"{url}/recommend/7?k=12", timeout=10).json()
    assert [one["id"] for one in online["candidates"]] == [one["id"] for one in offline["candidates"]]
    assert [one["score"] for one in online["candidates"]] == pytest.approx(
        [one["score"] for one in offline["candidates"]], rel=1e-5
    )
    assert online["version"] == offline["version"] == pipeline.version


def test_a_running_service_measures_as_its_version_does_also_newcomers(twhin: Command, pipeline: Any, url: str) -> None:
    def measured(*source: object) -> tuple[dict[str, float], dict[tuple[int, str, str], float]]:
        done = twhin("evaluate", "follow", "--run", pipeline.run, *source, "--users", 100, "--json")
        report = json.loads(done.stdout)
        rows = [row for row in report["rows"] if row["kind"] == "strategy"]
        cold = {(row["known"], row["strategy"], row["shown"]): row for row in report["cold"]}
        return (
            {row["name"]: row["metrics"]["recall@50"]["mean"] for row in rows},
            {key: row["metrics"]["recall@50"]["mean"] for key, row in cold.items()},
        )

    served, opened = measured("--url", url), measured("--bundles", pipeline.bundles)
    assert served[0] == pytest.approx(opened[0], abs=0.02)
    assert served[1] == pytest.approx(opened[1], abs=0.05)
    # By name, by inline engagements, by these and who follows the user.
    assert {shown for _, _, shown in served[1]} == {"in training", "by engagements", "by engagements and followers"}


def test_what_to_measure_must_be_named_once(twhin: Command, pipeline: Any, url: str) -> None:
    refused = twhin("evaluate", "follow", "--run", pipeline.run, status=2)
    assert "--bundles DIR" in refused.stderr
    twhin("evaluate", "follow", "--run", pipeline.run, "--bundles", pipeline.bundles, "--url", url, status=2)

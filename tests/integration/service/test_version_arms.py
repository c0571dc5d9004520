"""Experiments between versions: an arm that names one is answered from it, in every form, while others come and go."""

import asyncio
import contextlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from bundle.errors import ConfigError
from bundle.versions import list_versions, prune, publish
from cli.main import app
from service.experiments.split import bucket_of
from service.runtime import Runtime
from service.settings import Settings
from tests.support.servers import RedisServer
from tests.support.service_bundle import ATTRIBUTES, user_ids, write_toy_bundle

USERS = user_ids()
Start = Callable[..., httpx.Client]
FILE = """
[[experiments]]
name = "nightly"
relation = "follows"
arms = [
    {name = "control", share = 0.4},
    {name = "other", version = "VERSION", share = 0.4},
]
"""


def arm_of(user: str) -> str | None:
    """By the formula of the page."""
    bucket = bucket_of("nightly", user)
    return "control" if bucket < 4000 else "other" if bucket < 8000 else None


IN_OTHER = [user for user in USERS if arm_of(user) == "other"]
IN_CONTROL = [user for user in USERS if arm_of(user) == "control"]


def name_arm(bundles: Path, version: str) -> None:
    """Let the second arm be answered by `version`."""
    (bundles / "experiments.toml").write_text(FILE.replace("VERSION", version))


@pytest.fixture
def two(bundles: Path) -> Path:
    """v1 serves; v2, which nobody published, has other vectors and is what an arm names."""
    name_arm(bundles, "v2")
    return bundles


def recommended(client: httpx.Client, user: str, **body: object) -> dict[str, object]:
    """The answer to a request for `user`."""
    response = client.post("/recommend", content=json.dumps({"user": user, "k": 5, **body}))
    assert response.status_code == 200, response.text
    answer: dict[str, object] = response.json()
    return answer


def until(client: httpx.Client, wanted: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    """The experiment, once it is as `wanted`."""
    deadline = time.monotonic() + 60
    while True:
        [experiment] = client.get("/v1/experiments").json()["experiments"]
        if wanted(experiment):
            return experiment  # type: ignore[no-any-return]
        assert time.monotonic() < deadline, experiment
        time.sleep(0.02)


def splits(experiment: dict[str, object]) -> bool:
    return experiment["relations"] == ["follows"]


def refuses(experiment: dict[str, object]) -> bool:
    return experiment["reason"] is not None and "is being opened" not in str(experiment["reason"])


def splitting(client: httpx.Client) -> httpx.Client:
    """The client, once the version that an arm names is open."""
    until(client, splits)
    return client


async def test_a_worker_is_ready_before_the_versions_of_arms_are_open(two: Path) -> None:
    """A probe that waits for it would end a worker that reads a large version."""
    begun, go_on = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def turn() -> Iterator[None]:
        if runtime.ready:
            begun.set()
            go_on.wait(60)
        yield

    runtime = Runtime(Settings(bundles=two, watch_seconds=0.1))  # type: ignore[call-arg]
    runtime.versions._turn = turn
    try:
        async with asyncio.timeout(50):
            await runtime.start()
            assert await asyncio.to_thread(begun.wait, 40)
            assert runtime.ready
            assert not runtime.ended
            assert not runtime.versions.pinned
            go_on.set()
            while "v2" not in runtime.versions.pinned:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        go_on.set()
        await runtime.stop()


def test_an_arm_s_users_are_answered_from_its_version_in_every_form(start: Start, two: Path) -> None:
    client = splitting(start())
    beside = client.get("/v1/experiments").json()["experiments"][0]["arms"]
    assert [(arm["name"], arm["strategy"], arm["version"]) for arm in beside] == [
        ("control", "auto", None),
        ("other", "auto", "v2"),
    ]
    differing = 0
    for user in USERS[:60]:
        arm = arm_of(user)
        alone = [
            recommended(client, user),
            client.get(f"/recommend/{user}?k=5").json(),
            recommended(client, user, explain=True),
        ]
        [item] = client.post("/recommend:batch", content=json.dumps({"users": [user], "k": 5})).json()["results"]
        plain = recommended(client, user, experiments=False)
        assert plain["version"] == "v1"
        assert [one["version"] for one in alone] == ["v2" if arm == "other" else "v1"] * 3
        assert item.get("version") == ("v2" if arm == "other" else None)
        assert all(one.get("experiment") == (arm and {"name": "nightly", "arm": arm}) for one in (*alone, item))
        found = [[candidate["id"] for candidate in one["candidates"]] for one in (*alone, item)]  # type: ignore[attr-defined]
        assert found[1:] == found[:1] * 3
        differing += found[0] != [candidate["id"] for candidate in plain["candidates"]]  # type: ignore[attr-defined]
    assert differing > 10


def test_an_arm_answers_what_its_version_answers_when_it_serves(start: Start, two: Path) -> None:
    client = splitting(start())
    pinned = {user: recommended(client, user)["candidates"] for user in IN_OTHER[:20]}
    publish(two, "v2")
    until(client, lambda _: recommended(client, IN_CONTROL[0])["version"] == "v2")
    assert {user: recommended(client, user)["candidates"] for user in pinned} == pinned


def test_a_batch_that_mixes_arms_says_of_each_which_version(start: Start, two: Path) -> None:
    client = splitting(start())
    users = [*IN_OTHER[:5], *IN_CONTROL[:5], "nobody", "", *IN_OTHER[5:8]]
    answer = client.post("/recommend:batch", content=json.dumps({"users": users, "k": 4})).json()
    assert answer["version"] == "v1"
    assert [item["user"] for item in answer["results"]] == users
    for user, item in zip(users, answer["results"], strict=True):
        assert item.get("version") == ("v2" if user and arm_of(user) == "other" else None)
        assert item["status"] == ("ok" if user else "invalid")
        if item["status"] == "ok":
            alone = recommended(client, user, k=4)
            assert alone["candidates"] == item["candidates"]
            assert alone["version"] == item.get("version", "v1")


def test_what_users_did_counts_in_every_arm(start: Start, two: Path) -> None:
    client, user = splitting(start()), IN_OTHER[0]
    first = recommended(client, user)["candidates"][0]["id"]  # type: ignore[index]
    events = [{"id": "e-1", "user": user, "action": "add", "target": first, "relation": "follows"}]
    assert client.post("/v1/engagements", content=json.dumps({"events": events})).status_code == 200
    again = recommended(client, user)
    assert again["version"] == "v2"
    assert first not in [candidate["id"] for candidate in again["candidates"]]  # type: ignore[attr-defined]


def test_answers_and_feedback_are_counted_by_arm(start: Start, two: Path, redis_server: RedisServer) -> None:
    client = splitting(start(redis_url=redis_server.url, redis_timeout_ms=2000))
    batch = json.dumps({"users": [*IN_OTHER[:3], *IN_CONTROL[:2]], "k": 2})
    items = client.post("/recommend:batch", content=batch).json()["results"]
    events = [
        {"request_id": item["request_id"], "experiment": "nightly", "arm": item["experiment"]["arm"]}
        | {"impressions": [one["id"] for one in item["candidates"]], "clicks": [item["candidates"][0]["id"]]}
        for item in items
    ]
    assert client.post("/v1/feedback", content=json.dumps({"events": events})).json()["impressions"] == 10
    arms = client.get("/v1/experiments").json()["experiments"][0]["arms"]
    assert [(arm["impressions"], arm["clicks"]) for arm in arms] == [(4, 2), (6, 3)]
    metrics = client.get("/metrics").text
    assert 'twhin_experiment_answers_total{arm="other",experiment="nightly"} 3.0' in metrics
    assert 'twhin_experiment_acceptance_ratio{arm="other",experiment="nightly"} 0.5' in metrics
    assert "twhin_experiment_versions 1.0" in metrics


def test_the_vectors_of_an_arm_s_version_may_be_looked_up_by_whoever_may_read(start: Start, two: Path) -> None:
    write_toy_bundle(two, "v3", seed=3)
    client, read = start(read_keys="r-key", admin_keys="a-key"), {"x-api-key": "r-key"}
    client.headers.update(read)
    splitting(client)
    assert client.get(f"/v1/embeddings/user/{USERS[3]}?version=v2", headers=read).json()["version"] == "v2"
    assert client.get(f"/v1/embeddings/user/{USERS[3]}?version=v3", headers=read).status_code == 403


def test_a_version_that_is_not_there_splits_nobody_until_it_comes(start: Start, two: Path) -> None:
    name_arm(two, "v9")
    client = start()
    refused = until(client, refuses)
    assert refused["relations"] == []
    assert refused["reason"] == "the version v9, which the arm other needs, is not among the versions on disk"
    answer = recommended(client, IN_OTHER[0])
    assert "experiment" not in answer
    assert answer["version"] == "v1"
    write_toy_bundle(two, "v9", seed=9)
    until(client, splits)
    assert recommended(client, IN_OTHER[0])["version"] == "v9"


def test_a_damaged_version_splits_nobody_and_is_tried_again_when_the_file_changes(start: Start, two: Path) -> None:
    whole = two.parent / "whole"
    shutil.copytree(two / "v2", whole)
    vectors = next(path for path in sorted((two / "v2").rglob("*.npy")) if path.stat().st_size > 4096)
    damaged = np.lib.format.open_memmap(vectors, mode="r+")
    damaged.reshape(-1)[-1] += 1
    damaged.flush()
    client = start()
    refused = until(client, refuses)
    assert refused["reason"] == "the version v2, which the arm other needs, cannot be opened: the log says why"
    assert "experiment" not in recommended(client, IN_OTHER[0])
    shutil.copy(whole / vectors.relative_to(two / "v2"), vectors)
    name_arm(two, "v2")
    until(client, splits)


def test_pruning_keeps_what_arms_name(two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("v3", "v4", "v5", "v6"):
        write_toy_bundle(two, name, seed=5)
    prune_command = ["bundle", "prune", "--bundles", str(two), "--keep", "2"]
    (two / "experiments.toml").write_text("experiments = 1")
    refused = CliRunner().invoke(app, prune_command)
    assert isinstance(refused.exception, ConfigError), "nothing is removed while it cannot be told what is in use"
    monkeypatch.setenv("TWHIN_EXPERIMENTS", str(tmp_path / "elsewhere.toml"))
    assert isinstance(CliRunner().invoke(app, prune_command).exception, ConfigError)
    assert len(list_versions(two)) == 6
    (tmp_path / "elsewhere.toml").write_text(FILE.replace("VERSION", "v3"))
    assert CliRunner().invoke(app, prune_command).exit_code == 0
    assert list_versions(two) == ["v1", "v3", "v5", "v6"]
    monkeypatch.delenv("TWHIN_EXPERIMENTS")
    name_arm(two, "v5")
    assert CliRunner().invoke(app, [*prune_command[:-1], "1"]).exit_code == 0
    assert list_versions(two) == ["v1", "v5", "v6"]


def test_a_version_that_is_removed_ends_the_experiment_for_all(start: Start, two: Path) -> None:
    for name in ("v3", "v4", "v5"):
        write_toy_bundle(two, name, seed=5)
    client = splitting(start())
    assert recommended(client, IN_OTHER[0])["version"] == "v2"
    assert "v2" in prune(two, keep=3)
    gone = until(client, lambda one: not splits(one))
    assert "is not among the versions on disk" in str(gone["reason"])
    for user in (IN_OTHER[0], IN_CONTROL[0]):
        answer = recommended(client, user)
        assert "experiment" not in answer
        assert answer["version"] == "v1"
    assert "twhin_experiment_versions 0.0" in client.get("/metrics").text


def test_the_version_that_served_goes_on_in_its_arm_without_a_gap(start: Start, two: Path) -> None:
    name_arm(two, "v1")
    client = start()
    assert "twhin_experiment_versions 0.0" in client.get("/metrics").text, "the one that serves is open anyway"
    publish(two, "v2")
    deadline = time.monotonic() + 60
    while (control := recommended(client, IN_CONTROL[0]))["version"] != "v2":
        assert control["experiment"] == {"name": "nightly", "arm": "control"}
        assert recommended(client, IN_OTHER[0])["experiment"] == {"name": "nightly", "arm": "other"}
        assert time.monotonic() < deadline
    other = recommended(client, IN_OTHER[0])
    assert (other["version"], other["experiment"]) == ("v1", {"name": "nightly", "arm": "other"})
    assert control["experiment"] == {"name": "nightly", "arm": "control"}


def test_versions_that_answer_other_questions_are_not_compared(start: Start, two: Path) -> None:
    (two / "experiments.toml").write_text(
        FILE.replace("VERSION", "v2").replace("share = 0.4},\n]", 'strategy = "nonsense", share = 0.4},\n]')
    )
    client = start()
    refused = until(client, refuses)
    assert refused["reason"] == "the version v2 has no strategy nonsense for follows, which the arm other needs"


def test_a_filter_that_an_arm_s_version_does_not_understand_keeps_its_users_out(
    start: Start, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ATTRIBUTES, "user", {})
    write_toy_bundle(bundles, "v3", seed=3)
    name_arm(bundles, "v3")
    client = splitting(start())
    condition = {"attribute": "country", "is": "de"}
    users = [IN_OTHER[0], IN_CONTROL[0]]
    other, control = (recommended(client, user, filter=condition) for user in users)
    assert "experiment" not in other
    assert other["version"] == "v1"
    assert control["experiment"] == {"name": "nightly", "arm": "control"}
    body = json.dumps({"users": users, "k": 5, "filter": condition})
    items = client.post("/recommend:batch", content=body).json()["results"]
    assert [item.get("experiment", {}).get("arm") for item in items] == [None, "control"]
    assert recommended(client, IN_OTHER[0], filter={"min_in_degree": 1})["version"] == "v3"


def test_a_filter_that_only_an_arm_s_version_understands_is_bad_for_all(
    start: Start, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ATTRIBUTES, "user", {})
    write_toy_bundle(bundles, "v3", seed=3)
    publish(bundles, "v3")
    name_arm(bundles, "v1")
    client = start()
    until(client, splits)
    body = {"k": 5, "filter": {"attribute": "country", "is": "de"}}
    users = [IN_OTHER[0], IN_CONTROL[0]]
    alone = [client.post("/recommend", content=json.dumps({"user": user, **body})) for user in users]
    batch = client.post("/recommend:batch", content=json.dumps({"users": users, **body}))
    assert [one.status_code for one in (*alone, batch)] == [422] * 3

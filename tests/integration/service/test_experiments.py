"""Experiments over HTTP: the arm that an answer names, feedback that counts once, and what the arms accepted."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from bundle.errors import ConfigError
from service.experiments.split import bucket_of, wilson
from service.serve import serve
from service.settings import Limits, Settings
from tests.support.servers import RedisServer, ServiceProcess
from tests.support.service_bundle import user_ids

USERS = user_ids()
Start = Callable[..., httpx.Client]
FILE = """
[[experiments]]
name = "interests"
relation = "follows"
arms = [
    {name = "control", strategy = "auto", share = 0.4},
    {name = "unimodal", strategy = "unimodal", share = 0.4},
]
"""


def arm_of(user: str) -> str | None:
    """By the formula of the page."""
    bucket = bucket_of("interests", user)
    return "control" if bucket < 4000 else "unimodal" if bucket < 8000 else None


def user_in(arm: str | None) -> str:
    return next(user for user in USERS if arm_of(user) == arm)


@pytest.fixture
def bundles(bundles: Path) -> Path:
    """The versions with a file of experiments beside them."""
    (bundles / "experiments.toml").write_text(FILE)
    return bundles


@pytest.fixture(params=["sqlite", "redis"])
def live(start: Start, request: pytest.FixtureRequest) -> httpx.Client:
    """A service with each kind of store."""
    if request.param == "sqlite":
        return start()
    server: RedisServer = request.getfixturevalue("redis_server")
    return start(redis_url=server.url, redis_timeout_ms=2000)


def _post(client: httpx.Client, *events: dict[str, object]) -> dict[str, object]:
    response = client.post("/v1/feedback", content=json.dumps({"events": events}))
    assert response.status_code == 200, response.text
    answer: dict[str, object] = response.json()
    return answer


def _event(number: int, arm: str, shown: list[str], clicked: list[str]) -> dict[str, object]:
    about = {"request_id": f"r-{number}", "experiment": "interests", "arm": arm}
    return {**about, "impressions": shown, "clicks": clicked}


def _counts(client: httpx.Client) -> dict[str, tuple[int, int]]:
    [experiment] = client.get("/v1/experiments").json()["experiments"]
    return {arm["name"]: (arm["impressions"], arm["clicks"]) for arm in experiment["arms"]}


def test_every_user_is_answered_by_the_arm_of_the_formula_in_every_form(start: Start) -> None:
    client = start()
    for user in USERS[:60]:
        arm = arm_of(user)
        answers = [
            client.post("/recommend", content=json.dumps({"user": user, "k": 3})).json(),
            client.get(f"/recommend/{user}?k=3").json(),
            client.post("/recommend:batch", content=json.dumps({"users": [user], "k": 3})).json()["results"][0],
        ]
        plain = client.get(f"/recommend/{user}?k=3&experiments=false").json()
        assert "experiment" not in plain
        named = client.get(f"/recommend/{user}?k=3&strategy=unimodal").json()
        assert "experiment" not in named
        for answer in answers:
            assert answer.get("experiment") == (None if arm is None else {"name": "interests", "arm": arm})
            assert answer["candidates"] == (named if arm == "unimodal" else plain)["candidates"]


def test_a_request_of_nobody_or_of_another_relation_takes_no_part(start: Start) -> None:
    client, user = start(), user_in("unimodal")
    inline = {"engagements": [{"target": USERS[3]}], "k": 3}
    assert "experiment" not in client.post("/recommend", content=json.dumps(inline)).json()
    assert "experiment" not in client.get(f"/recommend/{user}?k=3&relation=uses").json()
    newcomer = next(f"{number}" for number in range(10**6, 10**7) if arm_of(str(number)) == "unimodal")
    assert client.get(f"/recommend/{newcomer}?k=3").json()["experiment"]["arm"] == "unimodal"


def test_feedback_counts_once_and_the_rates_have_intervals(live: httpx.Client) -> None:
    assert _counts(live) == {"control": (0, 0), "unimodal": (0, 0)}
    shown = [str(number) for number in range(10)]
    events = [_event(number, "control", shown, ["3"]) for number in range(20)]
    events += [_event(number, "unimodal", shown, []) for number in range(20)]
    first = _post(live, *events)
    assert (first["impressions"], first["clicks"], first["invalid"]) == (400, 20, 0)
    assert first["results"][0] == {"request_id": "r-0", "status": "counted", "impressions": 10, "clicks": 1}  # type: ignore[index]
    again = _post(live, *events)
    assert {item["status"] for item in again["results"]} == {"duplicate"}  # type: ignore[attr-defined]
    later = _post(live, _event(0, "control", ["3", "10"], ["3", "4", "4"]))
    assert later["results"] == [{"request_id": "r-0", "status": "counted", "impressions": 1, "clicks": 1}]
    assert _counts(live) == {"control": (201, 21), "unimodal": (200, 0)}
    [experiment] = live.get("/v1/experiments").json()["experiments"]
    control = experiment["arms"][0]
    assert control["rate"] == pytest.approx(21 / 201)
    assert control["interval"] == pytest.approx(wilson(21, 201))
    metrics = live.get("/metrics").text
    assert 'twhin_feedback_total{arm="control",experiment="interests",kind="impression"} 201.0' in metrics
    assert 'twhin_feedback_total{arm="control",experiment="interests",kind="click"} 21.0' in metrics
    assert 'twhin_feedback_total{arm="unimodal",experiment="interests",kind="click"} 0.0' in metrics
    told = dict(
        re.findall(r'^twhin_experiment_acceptance_(\w+)\{arm="control",experiment="interests"\} (\S+)$', metrics, re.M)
    )
    assert {name: float(value) for name, value in told.items()} == pytest.approx(
        dict(zip(("ratio", "low", "high"), (21 / 201, *control["interval"]), strict=True))
    )


def test_what_several_users_of_a_batch_are_shown_counts_for_each(live: httpx.Client) -> None:
    users = [user for user in USERS if arm_of(user) == "control"][:3]
    outside = user_in(None)
    asked = {"users": [*users, outside], "k": 3}
    answer = live.post("/recommend:batch", content=json.dumps(asked), headers={"x-request-id": "r" * 64}).json()
    *items, other = answer["results"]
    assert "request_id" not in other
    events = [
        {"request_id": item["request_id"], "experiment": "interests", "arm": "control", "impressions": ["7"]}
        for item in items
    ]
    first = _post(live, *events, {**events[0], "impressions": [], "clicks": ["7"]})
    assert (first["impressions"], first["clicks"], first["invalid"]) == (3, 1, 0)
    assert _post(live, *events)["impressions"] == 0
    assert _counts(live)["control"] == (3, 1)


def test_what_cannot_be_counted_is_told_of_each_event_by_itself(start: Start) -> None:
    client = start()
    good = _event(1, "control", ["1"], [])
    bad = [
        {**good, "experiment": "nonsense"},
        {**good, "arm": "nonsense"},
        {**good, "request_id": "no request id"},
        {**good, "impressions": []},
        {**good, "clicks": [""]},
    ]
    answer = _post(client, *bad, good)
    assert [item["status"] for item in answer["results"]] == ["invalid"] * 5 + ["counted"]  # type: ignore[attr-defined]
    assert "no request id" not in json.dumps(answer)
    assert answer["invalid"] == 5
    for body, pointer in (
        ({"events": []}, "/events"),
        ({"events": [good] * 1001}, "/events"),
        ({"events": [{**good, "impressions": list(map(str, range(1500)))}] * 2}, "/events"),
        ({"events": [{**good, "nonsense": 1}]}, "/events/0"),
        ({"events": [{"request_id": "r"}]}, "/events/0"),
    ):
        refused = client.post("/v1/feedback", content=json.dumps(body))
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, pointer)


def test_the_file_may_change_while_it_serves_and_a_broken_one_changes_nothing(start: Start, bundles: Path) -> None:
    client, user = start(), user_in("unimodal")
    path = bundles / "experiments.toml"

    def until(wanted: Callable[[dict[str, object]], bool]) -> dict[str, object]:
        deadline = time.monotonic() + 20
        while True:
            answer: dict[str, object] = client.get("/v1/experiments").json()
            if wanted(answer):
                return answer
            assert time.monotonic() < deadline
            time.sleep(0.02)

    path.write_text("nonsense")
    until(lambda answer: answer["fault"] is not None)
    assert "twhin_experiments_refused 1.0" in client.get("/metrics").text
    assert client.get(f"/recommend/{user}?k=3").json()["experiment"]["arm"] == "unimodal"
    path.write_text(FILE.replace("unimodal", "blend").replace('relation = "follows"', ""))
    changed = until(lambda answer: answer["fault"] is None)
    assert [one["relations"] for one in changed["experiments"]] == [["follows", "uses"]]  # type: ignore[attr-defined]
    answer = client.get(f"/recommend/{user}?k=3").json()
    assert (answer["strategy"], answer["experiment"]["arm"]) == ("blend", "blend")
    path.unlink()
    until(lambda answer: answer["experiments"] == [])
    assert "experiment" not in client.get(f"/recommend/{user}?k=3").json()


def test_an_unfit_file_or_one_that_is_not_there_stops_the_start(bundles: Path, tmp_path: Path) -> None:
    (bundles / "experiments.toml").write_text("nonsense")
    with pytest.raises(ConfigError, match="Expected '='"):
        serve(Settings(bundles=bundles), port=0)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="TWHIN_EXPERIMENTS: there is no"):
        serve(Settings(bundles=bundles, experiments=tmp_path / "none.toml"), port=0)  # type: ignore[call-arg]


def test_answers_are_counted_by_relation_strategy_source_and_arm(start: Start) -> None:
    client = start()
    in_arm = [user for user in USERS[:50] if arm_of(user) == "unimodal"]
    for user in in_arm:
        client.get(f"/recommend/{user}?k=3")
    client.get(f"/recommend/{USERS[5]}?k=3&relation=uses&strategy=unimodal")
    client.get(f"/recommend/{USERS[5]}?k=3&strategy=popular")
    client.get("/recommend/424242?k=3&experiments=false&strategy=mixture")
    client.get(f"/recommend/{USERS[5]}?k=3&strategy=unimodal&explain=true")
    lines = client.get("/metrics").text.splitlines()
    counted = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith("twhin_")}

    def answers(relation: str, strategy: str, source: str, by: str = "engine") -> float:
        labels = f'by="{by}",relation="{relation}",source="{source}",strategy="{strategy}"'
        return counted.get(f"twhin_answers_total{{{labels}}}", 0.0)

    assert counted['twhin_experiment_answers_total{arm="unimodal",experiment="interests"}'] == len(in_arm)
    assert answers("follows", "unimodal", "search") == len(in_arm)
    assert answers("uses", "unimodal", "search") + answers("uses", "unimodal", "search", "python") == 1
    assert answers("follows", "popular", "stored") + answers("follows", "popular", "stored", "python") == 1
    assert answers("follows", "mixture", "popular") + answers("follows", "mixture", "popular", "python") == 1
    assert answers("follows", "unimodal", "search", "python") == 1


def test_feedback_is_503_without_the_store_and_reading_needs_less_than_writing(
    start: Start, redis_server: RedisServer
) -> None:
    client = start(redis_url=redis_server.url, read_keys="r-key", write_keys="w-key")
    read, write = {"x-api-key": "r-key"}, {"x-api-key": "w-key"}
    body = json.dumps({"events": [_event(1, "control", ["1"], [])]})
    assert client.get("/v1/experiments", headers=read).status_code == 200
    assert "twhin_experiment_acceptance_ratio{" not in client.get("/metrics", headers=read).text, "nothing was shown"
    assert client.post("/v1/feedback", content=body, headers=read).status_code == 403
    assert client.post("/v1/feedback", content=body, headers=write).status_code == 200
    redis_server.kill()
    refused = client.post("/v1/feedback", content=body, headers=write)
    assert (refused.status_code, refused.json()["code"]) == (503, "state_unavailable")
    assert client.get("/v1/experiments", headers=read).status_code == 503
    assert "twhin_experiment_acceptance_ratio{" not in client.get("/metrics", headers=read).text
    assert client.get(f"/recommend/{USERS[5]}?k=3", headers=read).status_code == 200


def test_what_redis_remembers_of_feedback_is_bounded(
    start: Start, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.state.redis.MARKS_KEPT", 50)
    client = start(redis_url=redis_server.url, redis_timeout_ms=2000)
    for number in range(12):
        assert _post(client, _event(number, "control", list(map(str, range(10))), []))["impressions"] == 10
    assert redis_server.command("-n", "0", "ZCARD", "twhin:marks:feedback:interests") == "50"
    assert _post(client, _event(11, "control", ["3"], []))["impressions"] == 0
    assert _post(client, _event(0, "control", ["3"], []))["impressions"] == 1
    assert _counts(client)["control"] == (121, 0)


def test_several_workers_count_together_and_a_new_start_goes_on(bundles: Path) -> None:
    service = ServiceProcess(bundles, "--workers", "2", TWHIN_DRAIN_SECONDS="0").wait_until_ready()
    try:
        service.wait_for_workers(2)
        for number in range(40):  # a new connection each: whichever worker takes it
            with httpx.Client(base_url=service.url, headers={"content-type": "application/json"}, timeout=20) as client:
                assert _post(client, _event(number // 2, "control", ["1", "2"], ["1"]))["invalid"] == 0
        with httpx.Client(base_url=service.url, timeout=20) as client:
            assert _counts(client) == {"control": (40, 20), "unimodal": (0, 0)}
            metrics = client.get("/metrics").text
        assert 'twhin_feedback_total{arm="control",experiment="interests",kind="impression"} 40.0' in metrics
        assert 'twhin_feedback_total{arm="control",experiment="interests",kind="click"} 20.0' in metrics
    finally:
        service.stop()
    again = ServiceProcess(bundles, TWHIN_DRAIN_SECONDS="0").wait_until_ready()
    try:
        with httpx.Client(base_url=again.url, timeout=20) as client:
            assert _counts(client) == {"control": (40, 20), "unimodal": (0, 0)}
    finally:
        again.stop()


def test_limits_hold_for_feedback_too(start: Start) -> None:
    client = start(limits=Limits(engagements_max=2))
    refused = client.post(
        "/v1/feedback", content=json.dumps({"events": [_event(n, "control", ["1"], []) for n in range(3)]})
    )
    assert refused.status_code == 422

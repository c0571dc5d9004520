"""Attributes over HTTP: what they sum up to, and each entity's value as a byte, for colours and forms."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from bundle.reader import open_bundle
from bundle.space import Bundle
from bundle.versions import publish
from recommend.recommender import Recommender
from service.admission import Admission
from service.api.caching import etag_of
from service.versions.aside import Aside
from service.versions.versions import Versions
from tests.integration.service.conftest import Start
from tests.support.service_bundle import ATTRIBUTES, N_TAGS, N_USERS, write_toy_bundle

NONE = 255
USER = ATTRIBUTES["user"]


def _bytes(client: httpx.Client, name: str, kind: str = "user") -> np.ndarray:
    answer = client.get(f"/v1/map/{kind}/attribute", params={"name": name}).raise_for_status()
    values = np.frombuffer(answer.content, dtype=np.uint8)
    assert answer.headers["x-twhin-shape"] == str(len(values))
    return values


@pytest.fixture(scope="module")
def summary(client: httpx.Client) -> dict[str, dict]:  # type: ignore[type-arg]
    """The users' attributes by name."""
    return {one["name"]: one for one in client.get("/v1/attributes").json()["types"]["user"]}


def test_every_attribute_is_summed_up(client: httpx.Client, summary: dict) -> None:  # type: ignore[type-arg]
    assert {name: one["kind"] for name, one in summary.items()} == {name: one.kind for name, one in USER.items()}
    rows = np.arange(N_USERS)
    assert summary["country"]["present"] == np.count_nonzero(rows % 10)
    assert summary["country"]["distinct"] == 3
    counts = [one["count"] for one in summary["country"]["values"]]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == summary["country"]["present"]
    assert summary["speaks"]["values"] == [{"value": "en", "count": N_USERS}, {"value": "de", "count": N_USERS // 2}]
    ages = (18 + (rows % 50) / 2)[rows % 7 != 0]
    assert summary["age"]["quantiles"][0] == ages.min()
    assert summary["age"]["quantiles"][2] == np.quantile(ages, 0.5, method="lower")
    assert summary["age"]["quantiles"][4] == ages.max()
    bots = {one["value"]: one["count"] for one in summary["bot"]["values"]}
    assert bots == {"false": summary["bot"]["present"] - N_USERS // 20, "true": N_USERS // 20}
    tags = client.get("/v1/attributes").json()["types"]["hashtag"]
    assert tags == [{"name": "title", "kind": "label", "present": N_TAGS - N_TAGS // 5}]


def test_a_category_is_its_place_among_the_values(client: httpx.Client, summary: dict) -> None:  # type: ignore[type-arg]
    values = [one["value"] for one in summary["country"]["values"]]
    for row, place in enumerate(_bytes(client, "country").tolist()):
        assert place == (NONE if row % 10 == 0 else values.index(["at", "ch", "de"][row % 3]))
    assert (_bytes(client, "speaks") == 0).all()  # of several the most frequent


def test_numbers_are_sent_by_rank_and_truth_values_as_they_are(client: httpx.Client) -> None:
    rows = np.arange(N_USERS)
    ages, steps = 18 + (rows % 50) / 2, _bytes(client, "age")
    has = rows % 7 != 0
    assert (steps[~has] == NONE).all()
    order = np.argsort(ages[has], kind="stable")
    assert (np.diff(steps[has][order].astype(int)) >= 0).all()
    assert steps[has].min() < 5
    assert 248 <= steps[has].max() <= 252
    assert len({*zip(ages[has], steps[has], strict=True)}) == len({*ages[has]})  # equal values, equal steps
    joined = _bytes(client, "joined").astype(int)
    assert (joined[0], joined[-1]) == (0, 252)
    bots = _bytes(client, "bot")
    assert (bots[rows % 4 == 3] == NONE).all()
    assert (bots[rows % 4 != 3] == (rows % 20 == 0)[rows % 4 != 3]).all()


def test_they_are_sent_once(client: httpx.Client) -> None:
    for path in ("/v1/attributes", "/v1/map/user/attribute?name=age"):
        first = client.get(path)
        assert first.headers["content-encoding"] == "gzip"
        again = client.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    ages, speaks = (client.get(f"/v1/map/user/attribute?name={name}").headers["etag"] for name in ("age", "speaks"))
    assert ages != speaks


def test_documents_of_two_spaces_have_two_names_also_where_neither_has_a_file(bundles: Path) -> None:
    bundle = open_bundle(bundles / "v1")
    space = bundle.space()
    assert etag_of(bundle, space, []) != etag_of(bundle, replace(space, name="other"), [])


def test_an_entity_tells_what_it_has(client: httpx.Client) -> None:
    body = {"type": "user", "rows": [0, 1, 11], "attributes": True}
    first, second, third = client.post("/v1/map:entities", json=body).json()["items"]
    assert first["attributes"] == {"speaks": ["de", "en"], "joined": 1_700_000_000, "bot": True}
    assert second["attributes"] == {
        "country": ["ch"], "speaks": ["en"], "age": 18.5, "joined": 1_700_086_400, "bot": False
    }  # fmt: skip
    assert "bot" not in third["attributes"]
    assert "attributes" not in client.post("/v1/map:entities", json={"type": "user", "rows": [0]}).json()["items"][0]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/map/user/attribute?name=nonsense", 404),
        ("/v1/map/hashtag/attribute?name=title", 404),  # a label
        ("/v1/map/user/attribute", 422),
        ("/v1/map/nonsense/attribute?name=age", 422),
        ("/v1/attributes?version=nonsense", 404),
    ],
)
def test_what_is_not_there_is_refused(client: httpx.Client, path: str, status: int) -> None:
    assert client.get(path).status_code == status


def test_a_version_that_does_not_serve_answers_beside_the_one_that_does(start: Start, bundles: Path) -> None:
    write_toy_bundle(bundles, "v3", seed=3)
    client = start()
    question = {"user": "0", "k": 10, "explain": True, "strategy": "mixture", "filter": {"attribute": "age", "lt": 40}}
    kept = client.post("/v1/versions/v3/recommend", json=question).raise_for_status().json()
    served = client.post("/recommend", json=question).json()
    assert (kept["version"], served["version"]) == ("v3", "v1")
    own = client.post("/v1/versions/v1/recommend", json=question).json()
    assert [one["id"] for one in own["candidates"]] == [one["id"] for one in served["candidates"]]
    publish(bundles, "v3")
    while client.get("/v1/info").json()["version"] != "v3":
        pass
    now = client.post("/recommend", json=question).json()
    assert [one["id"] for one in now["candidates"]] == [one["id"] for one in kept["candidates"]]
    assert [one["id"] for one in served["candidates"]] != [one["id"] for one in kept["candidates"]]


def test_what_a_user_does_counts_in_a_version_that_does_not_serve_too(start: Start) -> None:
    client = start()
    best = client.post("/v1/versions/v2/recommend", json={"user": "0", "k": 1}).json()["candidates"][0]["id"]
    event = {"id": "e", "user": "0", "action": "add", "target": best}
    client.post("/v1/engagements", json={"events": [event]}).raise_for_status()
    then = client.post("/v1/versions/v2/recommend", json={"user": "0", "k": 50}).json()["candidates"]
    assert best not in [one["id"] for one in then]


def test_how_long_a_version_takes_to_open_lets_in_no_fewer_requests(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    open_it = Aside._recommender_of

    def slowly(aside: Aside, bundle: Bundle) -> Recommender:
        time.sleep(0.5)
        return open_it(aside, bundle)

    monkeypatch.setattr(Aside, "_recommender_of", slowly)
    monkeypatch.setattr(Admission, "waited_elsewhere", lambda _, seconds: waited.append(seconds))
    start().post("/v1/versions/v2/recommend", json={"user": "0"}).raise_for_status()
    assert sum(waited) >= 0.5


def test_a_version_that_takes_longer_to_open_than_a_request_may_is_there_for_the_next(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[str] = []
    ended = threading.Event()
    open_it = Versions._open_kept

    def slowly(versions: Versions, version: str) -> Bundle:
        began.append(version)
        time.sleep(1)
        try:
            return open_it(versions, version)
        finally:
            ended.set()

    monkeypatch.setattr(Versions, "_open_kept", slowly)
    client = start()
    hurried = client.get("/v1/map?version=v2", headers={"x-request-timeout-ms": "100"})
    assert hurried.status_code == 504
    assert ended.wait(30)
    time.sleep(0.2)
    assert client.get("/v1/map?version=v2").status_code == 200
    assert began == ["v2"]


ASKING = ("recommend", "map", "embeddings")


def _ask_version(client: httpx.Client, way: str, version: str, key: str) -> httpx.Response:
    headers = {"x-api-key": key}
    if way == "recommend":
        return client.post(f"/v1/versions/{version}/recommend", json={"user": "0"}, headers=headers)
    if way == "map":
        return client.get(f"/v1/map?version={version}", headers=headers)
    body = {"type": "user", "ids": ["0"], "version": version}
    return client.post("/v1/embeddings", json=body, headers=headers)


def test_what_was_never_published_is_opened_for_administrators_alone(start: Start, bundles: Path) -> None:
    client = start(read_keys="r", write_keys="w", admin_keys="a")
    for _ in range(2):  # nor is it when an administrator has opened it
        for key, status in (("r", 403), ("w", 403), ("a", 200)):
            answers = [_ask_version(client, way, "v2", key) for way in ASKING]
            assert [answer.status_code for answer in answers] == [status] * 3
        assert {_ask_version(client, way, "v2", "r").json()["code"] for way in ASKING} == {"forbidden"}
        assert {_ask_version(client, way, "nonsense", "r").json()["code"] for way in ASKING} == {"version_not_found"}
    publish(bundles, "v2")
    publish(bundles, "v1")
    assert [_ask_version(client, way, "v2", "r").status_code for way in ASKING] == [200] * 3


def test_without_an_administrator_nobody_opens_what_was_never_published(start: Start) -> None:
    client = start(read_keys="r", write_keys="w")
    assert [_ask_version(client, "recommend", version, "w").status_code for version in ("v1", "v2")] == [200, 403]


def test_a_damaged_version_is_not_asked(start: Start, bundles: Path) -> None:
    vectors = bundles / "v2" / "spaces" / "main" / "vectors" / "user.npy"
    vectors.write_bytes(vectors.read_bytes()[:-1] + b"\x7f")
    refused = start().post("/v1/versions/v2/recommend", json={"user": "0"})
    assert (refused.status_code, refused.json()["code"]) == (409, "bundle_altered")


def test_a_manifest_is_read_again_when_it_is_another(start: Start, bundles: Path) -> None:
    client = start()
    first = {one["version"]: one for one in client.get("/v1/manifests").json()["versions"]}
    manifest = bundles / "v2" / "manifest.json"
    manifest.write_text(
        manifest.read_text().replace('"measured":1.0', '"measured":0.5').replace('"measured": 1.0', '"measured": 0.5')
    )
    then = {one["version"]: one for one in client.get("/v1/manifests").json()["versions"]}
    measured = [versions["v2"]["evaluation"]["gates"][0]["measured"] for versions in (first, then)]
    assert measured == [1.0, 0.5]
    assert then["v1"] == first["v1"]

"""Query parameters, Accept, and items of a batch: what clients really send, each with its right answer."""

import json
import shutil
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import requests

from bundle.reader import read_manifest
from bundle.versions import publish
from service.api.vectors import preference
from service.call import JSON, OCTETS, REPEATED
from service.routes import ROUTES
from tests.integration.service.conftest import Start
from tests.support.service_bundle import user_ids

USERS = user_ids()
PATHS = {
    "/recommend/{user}": f"/recommend/{USERS[5]}",
    "/v1/recommend/{user}": f"/v1/recommend/{USERS[5]}",
    "/v1/users/{id}/interests": f"/v1/users/{USERS[5]}/interests",
    "/v1/users/{id}/engagements": f"/v1/users/{USERS[5]}/engagements",
    "/v1/embeddings/{type}/{id}": f"/v1/embeddings/user/{USERS[5]}",
    "/v1/codebooks/{type}": "/v1/codebooks/user",
    "/v1/entities/{type}": "/v1/entities/user",
    "/v1/map": "/v1/map",
    "/v1/map/{type}": "/v1/map/user",
    "/v1/map/{type}/attribute": "/v1/map/user/attribute",
    "/v1/attributes": "/v1/attributes",
    "/v1/search": "/v1/search",
}
VALUES = {"k": "5", "modes": "2", "explain": "true", "exclude_seen": "true", "strategy": "auto", "encoding": "json"}
VALUES |= {"filter": '{"min_in_degree": 1}', "diversity": "0.5", "max_per_cluster": "2", "experiments": "true"}
VALUES |= {
    "relation": "follows",
    "candidate_type": "user",
    "user_type": "user",
    "version": "v1",
    "space": "main",
    "limit": "7",
    "cursor": "5.v1",
    "q": "tag",
    "type": "hashtag",
    "name": "country",
}
ASKED = [route for route in ROUTES if route.query]


def _ids(response: httpx.Response | requests.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [candidate["id"] for candidate in response.json()["candidates"]]


@pytest.mark.parametrize("path", ["/recommend/{user}", "/v1/recommend/{user}"])
def test_an_excluded_id_is_left_out_however_a_client_writes_lists(client: httpx.Client, path: str) -> None:
    url = f"{client.base_url}{PATHS[path]}".replace("//r", "/r").replace("//v", "/v")
    first, second, third, *_ = _ids(client.get(url))
    out = {first, second, third}
    assert not out & {*_ids(httpx.get(url, params={"exclude": [first, second, third]}))}
    assert not out & {*_ids(requests.get(url, params={"exclude": [first, second, third]}, timeout=20))}
    assert not out & {*_ids(requests.get(url, params={"exclude": f"{first},{second},{third}"}, timeout=20))}
    assert not out & {*_ids(client.get(f"{url}?exclude={first},{second}&k=20&exclude={third}"))}
    assert not out & {*_ids(client.get(f"{url}?exclude=&exclude={first},,{second}&exclude={third},"))}


def test_an_id_with_a_comma_is_excluded(client: httpx.Client) -> None:
    """Beside it stand ids that are its parts: only what is meant is left out."""
    for form in ("exclude={}", "exclude={}&exclude=tag1", "exclude=tag1&exclude={}"):
        url = f"/recommend/{USERS[5]}?relation=uses&strategy=popular&exclude_seen=false&k=60&" + form
        left = {*_ids(client.get(url.format(quote("1,2"))))}
        assert "1,2" not in left
        assert {"1", "2"} <= left
        assert ("tag1" in left) == ("tag1" not in form)
    assert not {"1", "2"} & {*_ids(client.get(url.format("1,tag2,2")))}


def test_of_several_spaces_the_first_says_whose_ids_are_excluded(start: Start, bundles: Path) -> None:
    """The version's own first space is about users, whose ids are numbers; the one that is asked is about hashtags."""
    manifest = read_manifest(bundles / "v1")
    main, spaces, files = manifest.spaces["main"], dict(manifest.spaces), dict(manifest.files)
    for name in ("tags", "more"):
        shutil.copytree(bundles / "v1" / "spaces" / "main", bundles / "v1" / "spaces" / name)
        default = main.default.model_copy(update={"relation": "uses", "candidate_type": "hashtag"})
        spaces[name] = main.model_copy(update={"default": default})
        files |= {path.replace("/main/", f"/{name}/"): entry for path, entry in manifest.files.items()}
    several = manifest.model_copy(update={"spaces": spaces, "files": files})
    (bundles / "v1" / "manifest.json").write_text(several.model_dump_json())
    publish(bundles, "v1")
    url = f"/recommend/{USERS[5]}?spaces=tags,more&strategy=popular&exclude_seen=false&k=60"
    client = start()
    assert {"1,2", "1", "2"} <= {*_ids(client.get(url))}
    left = {*_ids(client.get(url + "&exclude=" + quote("1,2")))}
    assert "1,2" not in left
    assert {"1", "2"} <= left
    both = client.get(url + "&space=tags&exclude=1")
    assert both.status_code == 422
    assert "space and spaces exclude each other" in both.text


@pytest.mark.parametrize("route", ASKED, ids=lambda route: f"{route.method} {route.label}")
def test_a_parameter_of_one_value_given_twice_and_an_unknown_one_are_refused(client: httpx.Client, route) -> None:  # type: ignore[no-untyped-def]
    path = PATHS[route.label]
    for name in {*route.query} - set(REPEATED):
        for second in (VALUES[name], "", "other"):
            refused = client.request(route.method, f"{path}?{name}={VALUES[name]}&{name}={second}")
            assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, f"/{name}")
        needed = "&name=country" if "name" in route.query and name != "name" else ""
        assert client.request(route.method, f"{path}?{name}={VALUES[name]}{needed}").status_code == 200
    unknown = client.request(route.method, f"{path}?zq9canary=1")
    assert unknown.status_code == 422
    assert unknown.json()["detail"] == f"an unknown parameter; there are: {', '.join(route.query)}"
    assert "zq9canary" not in unknown.text


@pytest.mark.parametrize("name", ["k", "modes", "max_per_cluster"])
@pytest.mark.parametrize("value", ["1e1", "10.0", "0x3", "3_0", "", "true", " 5", "5 ", "\n5", "+5"])
def test_a_whole_number_is_written_in_digits_in_a_parameter_as_in_a_body(
    client: httpx.Client, name: str, value: str
) -> None:
    said = client.get(f"/recommend/{USERS[3]}", params={name: value})
    assert (said.status_code, said.json()["errors"][0]["pointer"]) == (422, f"/{name}")
    assert client.get(f"/recommend/{USERS[3]}", params={name: "3"}).status_code == 200
    if value in ("1e1", "10.0"):
        body = f'{{"user": "{USERS[3]}", "{name}": {value}}}'
        assert client.post("/recommend", content=body, headers={"content-type": JSON}).status_code == 422


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1_0", ".5", "0x0", "0.5 ", "\t0.5"])
def test_a_number_in_a_parameter_is_one_of_json(client: httpx.Client, value: str) -> None:
    said = client.get(f"/recommend/{USERS[3]}", params={"diversity": value})
    assert (said.status_code, said.json()["errors"][0]["pointer"]) == (422, "/diversity")
    assert client.get(f"/recommend/{USERS[3]}", params={"diversity": "5e-1"}).status_code == 200


def test_many_repeated_ids_are_read(client: httpx.Client) -> None:
    found = _ids(client.get(f"/recommend/{USERS[5]}?k=5"))
    query = "&".join(f"exclude={user}" for user in [*found, *range(2000)])
    assert not {*found} & {*_ids(client.get(f"/recommend/{USERS[5]}?k=5&{query}"))}


@pytest.mark.parametrize(
    ("accept", "octets"),
    [
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/plain, */*", False),
        ("application/octet-stream", True),
        ("application/octet-stream, */*", True),
        ("application/octet-stream;q=0.5, application/json", False),
        ("application/octet-stream, application/json;q=0.9", True),
        ("application/octet-stream;q=0, */*", False),
        ("application/json;q=0, */*;q=0.1", True),
        ("Application/Octet-Stream ; Q=0.9, application/*;q=0.2", True),
        ("text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", False),
        ("text/csv", None),
        ("application/json;q=0", None),
        ("application/json;q=0.0, application/octet-stream;q=0.000", None),
    ],
)
def test_the_representation_that_is_wanted_most(client: httpx.Client, accept: str, octets: bool | None) -> None:
    for answer in (
        client.get(f"/v1/embeddings/user/{USERS[5]}", headers={"accept": accept}),
        client.post(
            "/v1/embeddings", content=json.dumps({"type": "user", "ids": [USERS[5]]}), headers={"accept": accept}
        ),
        client.post(
            "/v1/features", content=json.dumps({"type": "user", "ids": [USERS[5]]}), headers={"accept": accept}
        ),
    ):
        if octets is None:
            assert answer.status_code == 406
        else:
            assert (answer.status_code, answer.headers["content-type"]) == (200, OCTETS if octets else JSON)


def test_a_quality_that_is_none_counts_as_one() -> None:
    assert preference("application/json;q=soon;v=2", JSON) == (1.0, 3)


IMPOSSIBLE = ["", "x" * 257, "y" * 5000]


def test_one_impossible_id_stops_no_other_of_its_batch(client: httpx.Client) -> None:
    ids = [USERS[5], *IMPOSSIBLE, USERS[6]]
    batch = client.post("/recommend:batch", content=json.dumps({"users": ids, "k": 2})).json()
    assert [item["status"] for item in batch["results"]] == ["ok", *["invalid"] * 3, "ok"]
    assert {item["error"]["code"] for item in batch["results"] if "error" in item} == {"query_invalid"}
    for path in ("/v1/embeddings", "/v1/features"):
        for entity_type, known in (("user", USERS[5]), ("hashtag", "tag1")):
            body = json.dumps({"type": entity_type, "ids": [known, *IMPOSSIBLE]})
            items = client.post(path, content=body).json()["items"]
            assert [item["status"] for item in items] == ["found", *["not_found"] * 3]
    pairs = [{"source": USERS[5], "target": one} for one in [USERS[6], *IMPOSSIBLE]]
    items = client.post("/v1/score", content=json.dumps({"pairs": pairs})).json()["items"]
    assert [item["status"] for item in items] == ["scored", *["target_not_found"] * 3]
    asked = {"user": USERS[5], "exclude": IMPOSSIBLE, "followers": IMPOSSIBLE, "engagements": [{"target": ""}]}
    assert client.post("/recommend", content=json.dumps(asked)).status_code == 200


def test_one_impossible_event_stops_no_other(client: httpx.Client) -> None:
    good = {"id": "good", "user": USERS[7], "target": USERS[9]}
    wrong = [{"user": ""}, {"target": "x" * 300}, {"id": ""}, {"id": "i" * 65}, {"action": "hate"}, {"at": -1}]
    wrong += [{"relation": ""}, {"space": ""}, {"relation": "r" * 300}, {"at": 1e300}, {"user": "007"}]
    events = [good, *({**good, "id": f"e{at}", **fault} for at, fault in enumerate(wrong))]
    client.delete(f"/v1/users/{USERS[7]}/engagements")  # what other tests have stored of this user
    answer = client.post("/v1/engagements", content=json.dumps({"events": events})).json()
    assert [item["status"] for item in answer["results"]] == ["stored", *["invalid"] * len(wrong)]
    assert client.delete(f"/v1/users/{USERS[7]}/engagements").json()["removed"] == 1


@pytest.mark.parametrize("user", ["123", "not-a-number", "9" * 40])
def test_a_user_whom_nobody_knows_is_said_to_be_none(client: httpx.Client, user: str) -> None:
    answers = [
        client.get(f"/recommend/{user}").json(),
        client.post("/recommend", content=json.dumps({"user": user})).json(),
        client.post("/recommend:batch", content=json.dumps({"users": [user]})).json()["results"][0],
        client.get(f"/v1/users/{user}/interests").json(),
    ]
    assert [answer["known"] for answer in answers] == [False] * 4
    assert client.get(f"/recommend/{USERS[5]}").json()["known"] is True


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/recommend", {"zq9canary": 1}, "user, engagements, followers, k"),
        ("/recommend", {"engagements": [{"zq9canary": 1}]}, "target, relation"),
        ("/v1/score", {"pairs": [{"source": "1", "target": "1", "zq9canary": 1}]}, "source, target"),
        ("/v1/engagements", {"events": [{"zq9canary": 1}]}, "user, target, action, relation, id, at, space"),
        ("/v1/similar", {"zq9canary": 1}, "type, id, vector"),
        ("/recommend", {"user": "1", "filter": {"zq9canary": 1}}, "all, any, not, attribute, is"),
        ("/recommend", {"user": "1", "filter": {"any": [{"not": {"zq9canary": 1}}]}}, "all, any, not, attribute, is"),
        ("/v1/similar", {"type": "user", "id": "1", "filter": {"zq9canary": 1}}, "all, any, not, attribute, is"),
    ],
)
def test_an_unknown_field_leads_to_those_there_are(client: httpx.Client, path: str, body: object, fields: str) -> None:
    problem = client.post(path, content=json.dumps(body))
    assert problem.status_code == 422
    assert problem.json()["detail"].startswith(f"an unknown field; there are: {fields}")
    assert "zq9canary" not in problem.text


def test_every_route_with_parameters_is_tried(made_bundles: Path) -> None:
    assert {route.label for route in ASKED} == {*PATHS}

"""Filters over HTTP: one user, the path form, a batch, neighbours; what does not fit is a problem naming the place."""

import json
from typing import Any

import httpx
import pytest

from tests.support.service_bundle import AWKWARD, N_USERS, STRATEGIES, user_ids

USERS = user_ids()
BOTS = {"attribute": "bot", "is": True}
BOT_IDS = {USERS[row] for row in range(N_USERS) if row % 20 == 0}


def _post(client: httpx.Client, path: str, **body: Any) -> Any:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("strategy", ["auto", *STRATEGIES])
def test_every_strategy_answers_with_who_is_allowed(client: httpx.Client, strategy: str) -> None:
    answer = _post(client, "/v1/recommend", user=USERS[5], k=10, strategy=strategy, filter=BOTS)
    ids = {candidate["id"] for candidate in answer["candidates"]}
    assert len(ids) == 10
    assert ids <= BOT_IDS


def test_the_path_form_takes_the_filter_as_json(client: httpx.Client) -> None:
    posted = _post(client, "/recommend", user=USERS[5], k=5, filter=BOTS)
    got = client.get(f"/recommend/{USERS[5]}", params={"k": 5, "filter": json.dumps(BOTS)})
    assert got.json()["candidates"] == posted["candidates"]


def test_a_batch_is_filtered_for_all(client: httpx.Client) -> None:
    answer = _post(client, "/recommend:batch", users=[USERS[5], "nobody", USERS[9]], k=4, filter=BOTS)
    for item in answer["results"]:
        assert item["status"] == "ok"
        assert {candidate["id"] for candidate in item["candidates"]} <= BOT_IDS
        assert len(item["candidates"]) == 4


def test_neighbours_are_filtered(client: httpx.Client) -> None:
    answer = _post(client, "/v1/similar", type="user", id=USERS[5], k=15, filter=BOTS)
    assert {one["id"] for one in answer["neighbours"]} <= BOT_IDS
    assert len(answer["neighbours"]) == 15
    allowed = AWKWARD[:3]
    answer = _post(client, "/v1/similar", type="user", id=USERS[5], candidate_type="hashtag", filter={"ids": allowed})
    assert sorted(one["id"] for one in answer["neighbours"]) == sorted(allowed)
    busy = _post(
        client, "/v1/similar", type="user", id=USERS[5], candidate_type="hashtag", filter={"min_in_degree": 30}
    )
    assert len(busy["neighbours"]) < 20


PROBLEMS = {
    "attribute": ({"all": [{"attribute": "s3cret", "is": 1}]}, "filter_invalid", "/filter/all/0/attribute"),
    "type": ({"attribute": "age", "lt": "s3cret"}, "filter_invalid", "/filter/lt"),
    "category": ({"attribute": "country", "in": ["s3cret"]}, "filter_invalid", "/filter/in/0"),
    "field": ({"all": [{"s3cret": 1}]}, "invalid", "/filter/all/0"),
    "json": ({"not": [1]}, "invalid", "/filter/not"),
    "nothing": ({}, "filter_invalid", "/filter"),
}


ASKED: dict[str, dict[str, Any]] = {
    "/recommend": {"user": "1"},
    "/recommend:batch": {"users": ["1"]},
    "/v1/similar": {"type": "user", "id": "0"},
}


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("name", PROBLEMS)
def test_what_does_not_fit_is_a_problem_that_names_the_place(client: httpx.Client, path: str, name: str) -> None:
    condition, code, pointer = PROBLEMS[name]
    response = client.post(path, json={**ASKED[path], "filter": condition})
    assert response.status_code == 422
    problem = response.json()
    assert (problem["code"], problem["errors"][0]["pointer"]) == (code, pointer)
    assert "s3cret" not in response.text


def test_an_unknown_field_of_a_condition_is_answered_with_those_there_are(client: httpx.Client) -> None:
    problem = client.post("/recommend", json={"user": "1", "filter": {"all": [{"not": {"x": 1}}]}}).json()
    assert "min_in_degree" in problem["detail"]


@pytest.mark.parametrize(
    ("text", "status", "pointer"),
    [
        pytest.param("{", 400, None, id="no JSON"),
        pytest.param('{"x": 1}', 422, "/filter", id="unknown field"),
        pytest.param('{"all": [{"not": 3}]}', 422, "/filter/all/0/not", id="wrong type"),
        pytest.param('{"not":' * 1200, 400, None, id="deep"),
    ],
)
def test_the_path_form_refuses_a_filter_that_is_none(
    client: httpx.Client, text: str, status: int, pointer: str | None
) -> None:
    response = client.get(f"/recommend/{USERS[5]}", params={"filter": text})
    assert response.status_code == status
    if pointer:
        assert response.json()["errors"][0]["pointer"] == pointer

"""Bad input of every kind: a problem document, a fitting status, never a 500, never a word of what was sent."""

import contextlib
import json
import random
import socket
import string

import httpx
import pytest

from tests.support.service_bundle import user_ids

USERS = user_ids()
CANARY = "zq9canary"
POSTS = [
    "/recommend",
    "/recommend:batch",
    "/v1/embeddings",
    "/v1/features",
    "/v1/similar",
    "/v1/score",
    "/v1/engagements",
]

BODIES = {
    "empty": (b"", 400),
    "text": (b"hello", 400),
    "truncated": (b'{"user": "1"', 400),
    "trailing": (b'{"user": "1"} x', 400),
    "utf16": ('{"user": "1"}'.encode("utf-16"), 400),
    "bom": (b"\xef\xbb\xbf{}", 400),
    "nan": (b'{"k": NaN}', 400),
    "infinity": (b'{"k": -Infinity}', 400),
    "lone surrogate": (b'{"user": "\\ud800"}', 400),
    "bad utf-8": (b'{"user": "\xed\xa0\x80"}', 400),
    "array": (b"[]", 422),
    "string": (f'"{CANARY}"'.encode(), 422),
    "unknown field": (f'{{"{CANARY}": 1}}'.encode(), 422),
    "huge number": (b'{"k": 1e400}', 422),
    "float for int": (b'{"k": 1.0, "ids": [1.5]}', 422),
    "bool for int": (b'{"k": true, "ids": true}', 422),
    "digits": (b'{"user": ' + b"9" * 5000 + b"}", 422),
}


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies(client: httpx.Client, path: str, name: str) -> None:
    body, status = BODIES[name]
    _is_problem(client.post(path, content=body), {status, 422} if status == 422 else {400, 422})


@pytest.mark.parametrize("path", POSTS)
def test_deep_nesting_is_refused(client: httpx.Client, path: str) -> None:
    for opening in (b"[", b'{"user":', b'{"engagements":['):
        _is_problem(client.post(path, content=opening * 100_000), {400, 422})


@pytest.mark.parametrize(
    "body",
    [
        {"user": "1", "k": 0},
        {"user": "1", "k": -1},
        {"user": "1", "k": 1001},
        {"user": "1", "modes": 0},
        {"user": "1", "strategy": CANARY},
        {"user": "1", "relation": CANARY},
        {"user": "1", "candidate_type": CANARY},
        {"user": "1", "space": CANARY},
        {"user": ""},
        {"user": "x" * 300},
        {"user": "1", "exclude": ["1"] * 10_001},
        {"user": "1", "engagements": [{"target": CANARY, "relation": CANARY}] * 1001},
        {"user": "1", "exclude": [{"a": CANARY}]},
    ],
)
def test_recommendations_that_cannot_be(client: httpx.Client, body: dict[str, object]) -> None:
    _is_problem(client.post("/recommend", content=json.dumps(body)), {422})


def test_nothing_sent_comes_back(client: httpx.Client) -> None:
    long = json.dumps({"type": "user", "ids": [CANARY] * 2000})
    response = client.post("/v1/embeddings", content=long)
    _is_problem(response, {422})
    assert len(response.content) < 1000


def test_framework_errors_are_problems(client: httpx.Client) -> None:
    _is_problem(client.get(f"/{CANARY}"), {404})
    _is_problem(client.put("/recommend"), {405})
    _is_problem(client.get("/recommend/"), {422})
    _is_problem(client.get("/v1/embeddings/user"), {404, 405})


def test_media_types(client: httpx.Client) -> None:
    for headers in ({"content-type": "text/plain"}, {"content-type": "application/json", "content-encoding": "gzip"}):
        _is_problem(client.post("/recommend", content=b"{}", headers=headers), {415})


def test_a_deadline_must_be_a_number(client: httpx.Client) -> None:
    for value in ("0", "-1", "1e3", "soon", "1_000"):
        _is_problem(client.get("/v1/info", headers={"x-request-timeout-ms": value}), {422})


@pytest.mark.parametrize("query", ["k=x", "k=1.5", "k=0", "explain=maybe", f"{CANARY}=1", "user=1", "k=%FF", "k=1&k=2"])
def test_bad_query_parameters(client: httpx.Client, query: str) -> None:
    _is_problem(client.get(f"/recommend/1?{query}"), {400, 422})


def test_a_body_is_cut_off_at_the_limit(client: httpx.Client) -> None:
    """Counted on the stream: nothing announces the length of a chunked body."""
    megabyte = b" " * (1 << 20)
    _is_problem(client.post("/recommend", content=(megabyte for _ in range(3))), {413})
    # Whoever goes on sending may find the connection closed before the answer.
    with contextlib.suppress(httpx.RemoteProtocolError, httpx.WriteError, httpx.ReadError):
        _is_problem(client.post("/recommend", content=(megabyte for _ in range(300))), {413})


def test_a_dribbled_body_meets_its_deadline(client: httpx.Client) -> None:
    address = (client.base_url.host, client.base_url.port or 80)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(
            b"POST /recommend HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n"
            b"x-request-timeout-ms: 300\r\n\r\n{"
        )
        assert b" 504 " in connection.recv(4096).splitlines()[0] + b" "


def test_headers_cannot_be_forged(client: httpx.Client) -> None:
    address = (client.base_url.host, client.base_url.port or 80)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(
            b"GET /livez HTTP/1.1\r\nhost: x\r\nx-request-id: a\x0bset-cookie:b\r\nconnection: close\r\n\r\n"
        )
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert b"set-cookie" not in answer.lower()


def test_random_bodies_never_cause_a_500(client: httpx.Client) -> None:
    rng = random.Random(1)
    for _ in range(400):
        path = rng.choice(POSTS)
        response = client.post(path, content=json.dumps(_mess(rng, 3)))
        assert response.status_code < 500, response.text


def _mess(rng: random.Random, depth: int) -> object:
    names = [
        "user",
        "users",
        "k",
        "ids",
        "type",
        "id",
        "vector",
        "pairs",
        "events",
        "exclude",
        "engagements",
        "relation",
    ]
    leaves = [None, True, 0, -1, 2**63, 2**70, 0.5, "", "1", USERS[3], "user", "follows", "\u0000", "\u202e", "tag1"]
    kind = rng.random()
    if depth == 0 or kind < 0.3:
        return rng.choice([*leaves, "".join(rng.choices(string.printable, k=8))])
    if kind < 0.6:
        return [_mess(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {rng.choice(names): _mess(rng, depth - 1) for _ in range(rng.randrange(4))}


def _is_problem(response: httpx.Response, statuses: set[int]) -> None:
    assert response.status_code in statuses, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["code"]
    assert problem["request_id"] == response.headers["x-request-id"]
    assert CANARY not in response.text


@pytest.mark.parametrize("external", ["", "x" * 257])
def test_a_user_in_a_path_is_an_id(client: httpx.Client, external: str) -> None:
    """Whoever erases a user with an empty variable is not told that it is done."""
    _is_problem(client.get(f"/v1/users/{external}/interests"), {422})
    _is_problem(client.delete(f"/v1/users/{external}/engagements"), {422})
    _is_problem(client.get(f"/recommend/{external}"), {422})


@pytest.mark.parametrize("external", ["%0A", "a%0Ab", "a%0A", "%0A%2F%0A"])
def test_an_id_in_a_path_may_hold_ends_of_lines(client: httpx.Client, external: str) -> None:
    assert client.get(f"/v1/users/{external}/interests").json().get("known") is False
    assert client.delete(f"/v1/users/{external}/engagements").json().get("removed") == 0
    assert client.get(f"/recommend/{external}").status_code == 200
    assert client.get(f"/v1/embeddings/user/{external}").json()["code"] == "entity_not_found"

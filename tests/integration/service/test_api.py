"""The API over real HTTP: every path, every status a client may meet, ids that survive."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from bundle.reader import open_bundle
from tests.support.service_bundle import AWKWARD, DIM, N_USERS, PARTS, STRATEGIES, tag_ids, user_ids

ROOT = Path(__file__).resolve().parents[3]
USERS = user_ids()


def _post(client: httpx.Client, path: str, **body: object) -> httpx.Response:
    return client.post(path, content=json.dumps(body))


@pytest.mark.parametrize("path", ["/recommend", "/v1/recommend"])
@pytest.mark.parametrize("strategy", ["auto", *STRATEGIES])
def test_recommend(client: httpx.Client, path: str, strategy: str) -> None:
    answer = _post(client, path, user=USERS[5], k=10, strategy=strategy).json()
    assert len({candidate["id"] for candidate in answer["candidates"]}) == 10
    assert all(isinstance(candidate["id"], str) for candidate in answer["candidates"])
    assert answer["strategy"] == ("blend" if strategy == "auto" else strategy)
    assert answer["version"] == "v1"
    assert answer["request_id"]
    assert answer["degraded"] == []


def test_the_user_may_be_in_the_path(client: httpx.Client) -> None:
    posted = _post(client, "/recommend", user=USERS[5], k=5, exclude=[USERS[7]], exclude_seen=False, explain=True)
    got = client.get(f"/recommend/{USERS[5]}?k=5&exclude={USERS[7]}&exclude_seen=false&explain=true")
    assert got.json()["candidates"] == posted.json()["candidates"]
    assert got.json()["explain"] == posted.json()["explain"]


def test_explain_says_where_each_candidate_came_from(client: httpx.Client) -> None:
    answer = _post(client, "/recommend", user=USERS[5], k=12, strategy="centroids", explain=True).json()
    modes = {mode["cluster"]: mode for mode in answer["explain"]["modes"]}
    assert sum(mode["candidates"] for mode in modes.values()) == 12
    assert sum(mode["weight"] for mode in modes.values()) == pytest.approx(1)
    for candidate in answer["candidates"]:
        assert modes[candidate["mode"]]["medoid"] in USERS
        assert candidate["why"]["source"] == "list"
        assert candidate["why"]["rank"] >= 0


def test_inline_engagements_and_unknown_users(client: httpx.Client) -> None:
    inline = [{"target": USERS[3]}, {"target": "tag1", "relation": "uses"}]
    assert _post(client, "/recommend", engagements=inline, strategy="fold_in").json()["fallback"] is None
    assert _post(client, "/recommend", user="123").json()["fallback"] == "popular"
    assert _post(client, "/recommend").status_code == 422


def test_batch_has_a_status_for_each_user(client: httpx.Client) -> None:
    answer = _post(client, "/recommend:batch", users=[USERS[0], USERS[1], "nobody"], k=3).json()
    versioned = _post(client, "/v1/recommend:batch", users=[USERS[0], USERS[1], "nobody"], k=3).json()
    assert versioned["results"] == answer["results"]
    assert [item["status"] for item in answer["results"]] == ["ok", "ok", "ok"]
    assert answer["results"][2]["fallback"] == "popular"
    single = _post(client, "/recommend", user=USERS[1], k=3).json()
    assert answer["results"][1]["candidates"] == single["candidates"]


def test_embeddings_in_three_encodings(client: httpx.Client, made_bundles) -> None:  # type: ignore[no-untyped-def]
    table = open_bundle(made_bundles / "v1").space().entities["user"]
    ids = [USERS[3], "404", USERS[-1]]
    numbers = _post(client, "/v1/embeddings", type="user", ids=ids).json()
    assert [item["status"] for item in numbers["items"]] == ["found", "not_found", "found"]
    assert (numbers["found"], numbers["missing"], numbers["dim"]) == (2, 1, DIM)
    np.testing.assert_array_equal(np.float32(numbers["items"][0]["vector"]), table.embeddings[3])
    text = _post(client, "/v1/embeddings", type="user", ids=ids, encoding="base64").json()
    decoded = np.frombuffer(base64.b64decode(text["items"][2]["vector"]), dtype="<f4")
    np.testing.assert_array_equal(decoded, table.embeddings[-1])
    body = json.dumps({"type": "user", "ids": ids})
    octets = client.post("/v1/embeddings", content=body, headers={"accept": "application/octet-stream"})
    assert octets.headers["x-twhin-shape"] == f"3,{DIM}"
    assert octets.headers["x-twhin-missing"] == "1"
    assert octets.headers["x-twhin-version"] == "v1"
    matrix = np.frombuffer(octets.content, dtype="<f4").reshape(3, DIM)
    np.testing.assert_array_equal(matrix[[0, 2]], table.embeddings[[3, N_USERS - 1]])
    assert not matrix[1].any()
    refused = client.post("/v1/embeddings", content=body, headers={"accept": "text/csv"})
    assert (refused.status_code, refused.json()["code"]) == (406, "not_acceptable")


@pytest.mark.parametrize("tag", [*AWKWARD, "tag1"])
def test_any_string_is_an_id(client: httpx.Client, tag: str) -> None:
    batch = _post(client, "/v1/embeddings", type="hashtag", ids=[tag]).json()
    assert batch["items"][0]["status"] == "found"
    if tag != "..":  # a client resolves dots in a path itself; the batch form is for such ids
        single = client.get(f"/v1/embeddings/hashtag/{quote(tag, safe='')}")
        assert single.json()["id"] == tag


@pytest.mark.parametrize(
    "spelling", ["1_000", "+0", "00", "0.0", "0e0", "-0", " 0", "٠", "9223372036854775808", "x" * 300]
)
def test_an_id_has_one_spelling(client: httpx.Client, spelling: str) -> None:
    response = _post(client, "/v1/embeddings", type="user", ids=[spelling])
    if response.status_code == 200:
        assert response.json()["items"][0]["status"] == "not_found"
    else:
        assert response.status_code == 422
    assert client.get(f"/v1/embeddings/user/{spelling}").status_code in (404, 422)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_largest_ids_survive_a_javascript_client(client: httpx.Client) -> None:
    answer = _post(client, "/v1/embeddings", type="user", ids=[USERS[-1], USERS[-2]])
    program = (
        "let s='';process.stdin.on('data',d=>s+=d)"
        ".on('end',()=>console.log(JSON.stringify(JSON.parse(s).items.map(i=>i.id))))"
    )
    done = subprocess.run(["node", "-e", program], input=answer.text, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [USERS[-1], USERS[-2]]


def test_features_decode_as_the_codebook_says(client: httpx.Client, made_bundles) -> None:  # type: ignore[no-untyped-def]
    ids = [USERS[0], USERS[7], "404"]
    decoded = _post(client, "/v1/features", type="user", ids=ids, encoding="base64").json()
    codes = _post(client, "/v1/features", type="user", ids=ids, representation="codes").json()
    book = client.get("/v1/codebooks/user")
    document = book.json()
    assert decoded["codebook"] == codes["codebook"] == document["etag"]
    words = np.frombuffer(base64.b64decode(document["codebooks"]), dtype="<f4").reshape(PARTS, 256, -1)
    for item, code in zip(decoded["items"][:2], codes["items"][:2], strict=True):
        mine = np.concatenate([words[part, value] for part, value in enumerate(code["vector"])])
        np.testing.assert_array_equal(np.frombuffer(base64.b64decode(item["vector"]), dtype="<f4"), mine)
    assert decoded["items"][2] == {"id": "404", "status": "not_found", "vector": None}
    again = client.get("/v1/codebooks/user", headers={"if-none-match": book.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/v1/codebooks/user", headers={"if-none-match": "*"}).status_code == 304
    assert client.get("/v1/codebooks/user?version=v2").headers["etag"] != book.headers["etag"]


def test_an_older_version_answers_while_it_is_kept(client: httpx.Client, made_bundles) -> None:  # type: ignore[no-untyped-def]
    answer = _post(client, "/v1/embeddings", type="user", ids=[USERS[3]], version="v2").json()
    assert answer["version"] == "v2"
    vectors = open_bundle(made_bundles / "v2").space().entities["user"].embeddings
    np.testing.assert_array_equal(np.float32(answer["items"][0]["vector"]), vectors[3])
    for version in ("v9", "..", "../v1", "a" * 200, "v1/../v2"):
        missing = _post(client, "/v1/features", type="user", ids=[USERS[3]], version=version)
        assert (missing.status_code, missing.json()["code"]) == (404, "version_not_found")


def test_similar_by_id_and_by_vector(client: httpx.Client, made_bundles) -> None:  # type: ignore[no-untyped-def]
    table = open_bundle(made_bundles / "v1").space().entities["user"]
    scores = table.embeddings @ table.embeddings[3]
    best = [int(row) for row in np.argsort(-scores) if row not in (3, 4)][:5]
    by_id = _post(client, "/v1/similar", type="user", id=USERS[3], k=5, exclude=[USERS[4]]).json()
    assert [item["id"] for item in by_id["neighbours"]] == [USERS[row] for row in best]
    vector = [float(value) for value in table.embeddings[3]]
    by_vector = _post(client, "/v1/similar", vector=vector, candidate_type="user", k=5, exclude=[USERS[3], USERS[4]])
    assert by_vector.json()["neighbours"] == by_id["neighbours"]
    across = _post(client, "/v1/similar", type="user", id=USERS[3], candidate_type="hashtag", k=5).json()
    assert {item["id"] for item in across["neighbours"]} < set(tag_ids())
    large = _post(client, "/v1/similar", vector=[1e29 * value / max(map(abs, vector)) for value in vector], k=5)
    exact = sorted(range(len(scores)), key=lambda row: -scores[row])[:5]
    assert [item["id"] for item in large.json()["neighbours"]] == [USERS[row] for row in exact]
    assert _post(client, "/v1/similar", type="user", id="404").status_code == 404


@pytest.mark.parametrize("vector", [[], [1.0] * (DIM - 1), [1e39] + [0.0] * (DIM - 1), [3e38] * DIM, [0.0] * 100_000])
def test_a_vector_that_is_none_is_refused_before_a_library_sees_it(client: httpx.Client, vector: list[float]) -> None:
    response = _post(client, "/v1/similar", vector=vector)
    assert (response.status_code, response.json()["code"]) == (422, "invalid")


def test_score_is_equation_one(client: httpx.Client, made_bundles) -> None:  # type: ignore[no-untyped-def]
    space = open_bundle(made_bundles / "v1").space()
    users, follows = space.entities["user"].embeddings, space.relations["follows"]
    pairs = [{"source": USERS[1], "target": USERS[2]}, {"source": "404", "target": USERS[2]}]
    items = _post(client, "/v1/score", pairs=[*pairs, {"source": USERS[1], "target": "404"}]).json()["items"]
    assert items[0]["score"] == pytest.approx(float((users[1] + follows.forward) @ users[2]), rel=1e-5)
    assert [item["status"] for item in items] == ["scored", "source_not_found", "target_not_found"]


def test_interests(client: httpx.Client) -> None:
    answer = client.get(f"/v1/users/{USERS[5]}/interests").json()
    assert sum(interest["weight"] for interest in answer["interests"]) == pytest.approx(1, abs=1e-5)
    assert all(interest["examples"] for interest in answer["interests"])
    unknown = client.get("/v1/users/404/interests").json()
    assert (unknown["known"], unknown["interests"]) == (False, [])


def test_info_lists_limits_and_versions(client: httpx.Client) -> None:
    info = client.get("/v1/info").json()
    assert info["limits"]["k_max"] == 1000
    assert info["versions"]["kept"] == ["v1", "v2"]
    assert info["spaces"]["main"]["auto"] == "blend"


def test_probes_docs_and_studio(client: httpx.Client) -> None:
    for path in ("/livez", "/readyz", "/startupz", "/docs", "/", "/openapi.json", "/metrics"):
        assert client.get(path).status_code == 200, path


def test_the_pages_load_nothing_from_elsewhere(client: httpx.Client) -> None:
    for path in ("/docs", "/"):
        page = client.get(path).text
        assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page), path
    pages = client.get("/docs").text + client.get("/").text
    for file in re.findall(r"""(?:src|href)=["'](?!data:)([^"'#]+)["']""", pages):
        assert client.get(file).status_code == 200, file


def test_the_studio_is_compressed_and_sent_once(client: httpx.Client) -> None:
    for file in ("app.js", "app.css"):
        whole = client.get(f"/studio/{file}")
        assert whole.headers["content-encoding"] == "gzip"
        assert whole.content == (ROOT / "service" / "ui" / file).read_bytes()
        plain = client.get(f"/studio/{file}", headers={"accept-encoding": "identity"})
        assert plain.content == whole.content
        again = client.get(f"/studio/{file}", headers={"if-none-match": whole.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    for file in ("index.html", "build.json", "%2e%2e%2fpages.py", ""):
        assert client.get(f"/studio/{file}").status_code == 404


@pytest.mark.parametrize("wanted", ["bytes=0-5", "bytes=99999999-", "bytes=0-1,3-4", "bytes=5-1", "lines", ""])
def test_a_part_of_a_file_is_the_whole_file(client: httpx.Client, wanted: str) -> None:
    """A server may ignore a wish for a part, whatever is wrong with it."""
    for path in ("/studio/app.css", "/static-offline-docs/swagger-ui.css", "/static-offline-docs/favicon.png"):
        whole = client.get(path)
        part = client.get(path, headers={"range": wanted})
        assert (part.status_code, part.content) == (200, whole.content), path
        again = client.get(path, headers={"range": wanted, "if-none-match": whole.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_the_files_of_the_pages_tell_their_methods(client: httpx.Client) -> None:
    for path in ("/studio/app.css", "/static-offline-docs/swagger-ui.css"):
        asked, refused = client.options(path), client.put(path)
        assert (asked.status_code, refused.status_code) == (204, 405)
        assert asked.headers["allow"] == refused.headers["allow"] == "GET, HEAD, OPTIONS"
        assert refused.json()["code"] == "method_not_allowed"
    for file in ("redoc.html", "..%2f__init__.py", "%00", ""):
        assert client.get(f"/static-offline-docs/{file}").json()["code"] == "not_found"


def test_metrics_count_routes_and_hold_no_ids(client: httpx.Client) -> None:
    before = client.get("/metrics").text
    for _ in range(3):
        client.get(f"/v1/embeddings/user/{USERS[3]}")
    after = client.get("/metrics").text
    name = 'twhin_http_requests_total{method="GET",route="/v1/embeddings/{type}/{id}",status_class="2xx"}'
    assert _value(after, name) == _value(before, name) + 3
    assert USERS[3] not in after
    assert _value(after, 'twhin_index_info{metric="inner_product",version="v1"}') == 1


def _value(text: str, name: str) -> float:
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def test_cors_for_configured_origins_alone(client: httpx.Client) -> None:
    allowed = client.get("/livez", headers={"origin": "https://ranker.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://ranker.example"
    assert "access-control-allow-origin" not in client.get("/livez", headers={"origin": "https://evil.example"}).headers


def test_a_request_id_is_kept_if_it_is_plain(client: httpx.Client) -> None:
    kept = client.get("/v1/info", headers={"x-request-id": "abc-123"})
    assert kept.headers["x-request-id"] == kept.json()["request_id"] == "abc-123"
    replaced = client.get("/v1/info", headers={"x-request-id": "a b{}"})
    assert replaced.headers["x-request-id"] != "a b{}"


def test_personal_answers_are_not_cached(client: httpx.Client) -> None:
    assert _post(client, "/recommend", user=USERS[5]).headers["cache-control"] == "no-store"
    assert client.get(f"/recommend/{USERS[5]}").headers["cache-control"] == "no-store"

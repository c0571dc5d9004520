"""The map over HTTP: places and clusters by row, entities by id or row, prefixes of ids, versions; kept by clients."""

import gzip
import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from bundle.reader import open_bundle
from bundle.versions import publish
from service.api.caching import takes_gzip
from tests.integration.service.conftest import Start
from tests.support.service_bundle import AWKWARD, N_USERS, tag_ids, user_ids, write_toy_bundle

USERS, TAGS = user_ids(), tag_ids()


def _places(client: httpx.Client, kind: str) -> tuple[np.ndarray, np.ndarray]:
    answer = client.get(f"/v1/map/{kind}").raise_for_status()
    n = int(answer.headers["x-twhin-shape"])
    places = np.frombuffer(answer.content[: 4 * n], dtype="<u2").reshape(n, 2)
    return places / 65_535 * 2 - 1, np.frombuffer(answer.content[4 * n :], dtype="<i4")


def test_places_and_clusters_are_those_of_the_version(client: httpx.Client, made_bundles: Path) -> None:
    space = open_bundle(made_bundles / "v1").space()
    outline = client.get("/v1/map").json()
    assert outline["types"] == [
        {"type": "user", "count": N_USERS, "clusters": "own"},
        {"type": "hashtag", "count": len(TAGS), "clusters": "unknown"},
    ]
    assert sum(cluster["size"] for cluster in outline["clusters"]) == N_USERS
    for name, table in space.entities.items():
        places, clusters = _places(client, name)
        assert np.abs(places - table.coordinates).max() < 1e-4
        expected = space.clusters.assignment.get(name, np.full(len(table), -1))
        assert np.array_equal(clusters, expected)


def test_entities_are_found_by_id_and_by_row(client: httpx.Client) -> None:
    body = {"type": "user", "ids": [USERS[7], "nobody", ""], "rows": [3, N_USERS], "version": "v1"}
    items = client.post("/v1/map:entities", content=json.dumps(body)).json()["items"]
    assert [item["status"] for item in items] == ["found", "not_found", "not_found", "found", "not_found"]
    assert [(item.get("row"), item["id"]) for item in items if item["status"] == "found"] == [
        (7, USERS[7]),
        (3, USERS[3]),
    ]
    places, clusters = _places(client, "user")
    assert [items[0]["x"], items[0]["y"]] == pytest.approx(places[7].tolist(), abs=1e-4)
    assert items[0]["cluster"] == clusters[7]
    assert items[0]["in_degree"] > 0
    many = client.post("/v1/map:entities", content=json.dumps({"type": "user", "rows": [0] * 1001}))
    assert (many.status_code, many.json()["errors"][0]["pointer"]) == (422, "/ids")


def test_the_map_is_compressed_and_sent_once(client: httpx.Client) -> None:
    for path in ("/v1/map", "/v1/map/user"):
        plain = client.get(path, headers={"accept-encoding": "identity"})
        with client.stream("GET", path, headers={"accept-encoding": "gzip"}) as packed:
            assert packed.headers["content-encoding"] == "gzip"
            assert gzip.decompress(b"".join(packed.iter_raw())) == plain.content
        etag = plain.headers["etag"]
        assert client.get(path, headers={"if-none-match": "*"}).status_code == 304
        again = client.get(path, headers={"if-none-match": etag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert "content-encoding" not in plain.headers


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        (None, False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*", True),
        ("br, GZIP;q=0.5", True),
        ("*;q=0, gzip", True),
        ("*, gzip;q=0", False),
    ],
)
def test_who_does_not_take_gzip_gets_none(accepted: str | None, takes: bool) -> None:
    assert takes_gzip(accepted) is takes


def test_a_version_without_a_map_says_so(start: Start, bundles: Path) -> None:
    write_toy_bundle(bundles, "bare", places=False)
    publish(bundles, "bare")
    client = start()
    assert client.get("/v1/map").json()["types"] == []
    refused = client.get("/v1/map/user")
    assert (refused.status_code, refused.json()["detail"]) == (404, "this version was built without a map")
    assert (
        "x" not in client.post("/v1/map:entities", content=json.dumps({"type": "user", "rows": [1]})).json()["items"][0]
    )


def _found(client: httpx.Client, **query: str | int) -> list[str]:
    answer = client.get("/v1/search", params=query).raise_for_status().json()
    return [match["id"] for match in answer["matches"]]


def test_ids_are_found_by_how_they_begin(client: httpx.Client) -> None:
    for prefix in ("1", "9", USERS[3][:4], USERS[-1], USERS[1], "0", "92233720368547758"):
        expected = sorted((user for user in USERS if user.startswith(prefix)), key=lambda user: (len(user), user))
        assert _found(client, q=prefix, type="user", k=50) == expected[:50]
    begin = [tag for tag in TAGS if tag.startswith("tag1")]
    assert _found(client, q="tag1", type="hashtag", k=50)[: len(begin)] == begin
    assert _found(client, q="TAG1", type="hashtag", k=2) == ["tag1", "tag10"]
    for awkward in AWKWARD:
        assert awkward in _found(client, q=awkward, k=50)
    for nobody in ("zz", "007", "+7", "1.0", "99999999999999999999", "\x00"):
        assert _found(client, q=nobody) == []
    assert len(_found(client, k=3)) == 6
    assert _found(client, q="ag 58", k=50) == _found(client, q="AG 58") == [TAGS[58]]
    assert _found(client, q="Tag 58Tag 59") == []
    for k in ("0", "51", "x", "1e1", ""):
        assert client.get("/v1/search", params={"q": "1", "k": k}).status_code == 422
    assert client.get("/v1/search", params={"q": "x" * 257}).status_code == 422


def test_versions_are_listed_with_what_they_measured(start: Start, bundles: Path) -> None:
    (bundles / "v2" / "manifest.json").write_text("{}")
    versions = {one["version"]: one for one in start().get("/v1/manifests").json()["versions"]}
    assert versions["v2"] == {"version": "v2", "serving": False, "published": False, "fault": "bundle_invalid"}
    assert versions["v1"]["serving"] is versions["v1"]["published"] is True
    assert versions["v1"]["evaluation"]["gates"][0]["metric"] == "recall_at_50"
    assert versions["v1"]["spaces"]["main"]["indexes"]["user"]["kind"] == "exact"


def test_the_map_needs_a_key_where_any_is_set(start: Start) -> None:
    client = start(read_keys="secret")
    for path in ("/v1/map", "/v1/map/user", "/v1/search?q=1", "/v1/manifests"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"x-api-key": "secret"}).status_code == 200

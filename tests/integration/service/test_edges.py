"""What an entity has and who has it, page by page, with what was done since; and who is likely to have it next."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from bundle.reader import open_bundle
from bundle.space import Space
from tests.integration.service.conftest import Start
from tests.support.service_bundle import AWKWARD, N_USERS, tag_ids, user_ids

USERS, TAGS = user_ids(), tag_ids()


@pytest.fixture(scope="module")
def space(made_bundles: Path) -> Space:
    return open_bundle(made_bundles / "v1").space()


def _asked(client: httpx.Client, kind: str, name: str, **more: object) -> dict[tuple[str, str], dict]:
    answer = client.post("/v1/edges", json={"type": kind, "id": name, **more}).raise_for_status().json()
    return {(one["relation"], one["direction"]): one for one in answer["relations"]}


def test_edges_of_all_relations_in_both_directions_have_counts_and_labels(client: httpx.Client, space: Space) -> None:
    found = _asked(client, "user", USERS[7], limit=5)
    assert list(found) == [("follows", "out"), ("follows", "in"), ("uses", "out")]
    follows, uses = space.relations["follows"], space.relations["uses"]
    for key, rows, ids in (
        (("follows", "out"), follows.targets.row(7), USERS),
        (("follows", "in"), follows.sources.row(7), USERS),
        (("uses", "out"), uses.targets.row(7), TAGS),
    ):
        assert found[key]["count"] == len(rows)
        assert [one["id"] for one in found[key]["ends"]] == [ids[row] for row in rows[:5]]
    labels = [one.get("label") for one in found["uses", "out"]["ends"]]
    assert labels == [f"Tag {row}" if row % 5 else None for row in uses.targets.row(7)[:5].tolist()]


def test_a_long_list_is_read_page_by_page(client: httpx.Client, space: Space) -> None:
    row = int(np.argmax(space.relations["uses"].sources.degrees()))
    rows = space.relations["uses"].sources.row(row)
    pages = [
        _asked(client, "hashtag", TAGS[row], relation="uses", direction="in", offset=offset, limit=7)["uses", "in"]
        for offset in range(0, len(rows) + 7, 7)
    ]
    assert {page["count"] for page in pages} == {len(rows)}
    assert [one["id"] for page in pages for one in page["ends"]] == [USERS[row] for row in rows]
    assert pages[-1]["ends"] == [] or len(pages[-1]["ends"]) < 7


def test_what_somebody_did_since_counts_in_the_serving_version_alone(
    start: Start, space: Space, made_bundles: Path
) -> None:
    client = start()
    had = [USERS[row] for row in space.relations["follows"].targets.row(7)]
    fresh = next(one for one in USERS if one not in had and one != USERS[7])
    events = [
        {"user": USERS[7], "target": fresh, "action": "add"},
        {"user": USERS[7], "target": had[0], "action": "remove"},
        {"user": "12345", "target": fresh, "action": "add"},
    ]
    client.post("/v1/engagements", json={"events": events}).raise_for_status()
    now = _asked(client, "user", USERS[7], limit=100)["follows", "out"]
    assert {one["id"] for one in now["ends"]} == {fresh, *had[1:]}
    unknown = client.post("/v1/edges", json={"type": "user", "id": "12345"}).json()
    assert unknown["known"] is False
    assert [one["count"] for one in unknown["relations"]] == [1, 0, 0]
    other = _asked(client, "user", USERS[7], version="v2", limit=100)["follows", "out"]
    trained = open_bundle(made_bundles / "v2").space().relations["follows"].targets.row(7)
    assert [one["id"] for one in other["ends"]] == [USERS[row] for row in trained]


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"type": "user", "id": USERS[0], "limit": 1001}, 422, "/limit"),
        ({"type": "user", "id": USERS[0], "limit": 0}, 422, "/limit"),
        ({"type": "user", "id": USERS[0], "offset": -1}, 422, "/offset"),
        ({"type": "user", "id": USERS[0], "direction": "up"}, 422, "/direction"),
        ({"type": "user", "id": USERS[0], "relation": "hates"}, 422, None),
        ({"type": "planet", "id": "x"}, 422, None),
    ],
)
def test_what_cannot_be_asked_is_told(client: httpx.Client, body: dict, status: int, pointer: str | None) -> None:
    answer = client.post("/v1/edges", json=body)
    assert answer.status_code == status
    if pointer is not None:
        assert answer.json()["errors"][0]["pointer"] == pointer


def test_awkward_ids_are_found(client: httpx.Client, space: Space) -> None:
    for name in AWKWARD:
        found = _asked(client, "hashtag", name)["uses", "in"]
        assert found["count"] == len(space.relations["uses"].sources.row(TAGS.index(name)))


def test_the_likely_sources_of_an_entity_are_those_of_the_exact_scores(client: httpx.Client, space: Space) -> None:
    row, relation = 5, space.relations["uses"]
    query = space.entities["hashtag"].embeddings[row] + relation.inverse
    scores = space.entities["user"].embeddings @ query
    scores[relation.sources.row(row)] = -np.inf  # who has it already
    best = [USERS[one] for one in np.argsort(-scores)[:10]]
    body = {"type": "hashtag", "id": TAGS[row], "sources_of": "uses", "k": 10}
    answer = client.post("/v1/similar", json=body).raise_for_status().json()
    assert answer["candidate_type"] == "user"
    assert [one["id"] for one in answer["neighbours"]] == best
    own = client.post("/v1/similar", json={"type": "user", "id": USERS[9], "sources_of": "follows", "k": N_USERS})
    followers = {USERS[one] for one in space.relations["follows"].sources.row(9)}
    listed = {one["id"] for one in own.json()["neighbours"]}
    assert listed == {*USERS} - followers - {USERS[9]}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"type": "user", "id": USERS[0], "sources_of": "uses"}, "/sources_of"),
        ({"vector": [0.0] * 16, "sources_of": "uses"}, "/sources_of"),
        ({"type": "hashtag", "id": TAGS[0], "sources_of": "uses", "candidate_type": "hashtag"}, "/candidate_type"),
    ],
)
def test_a_relation_that_does_not_fit_is_told(client: httpx.Client, body: dict, pointer: str) -> None:
    answer = client.post("/v1/similar", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


def test_a_version_that_was_never_published_is_for_administrators(start: Start) -> None:
    client = start(read_keys="r-key", admin_keys="a-key")
    body = {"type": "user", "id": USERS[7], "version": "v2"}
    statuses = [
        client.post("/v1/edges", json=body, headers={"x-api-key": key}).status_code for key in ("r-key", "a-key")
    ]
    assert statuses == [403, 200]

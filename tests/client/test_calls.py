"""Every operation against a real service, by the client that blocks and by the one that is awaited."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from msgspec import UNSET

from bundle.reader import open_bundle
from tests.support.service_bundle import AWKWARD, N_TAGS, N_USERS, tag_ids, user_ids
from twhin_client import AccessRefused, AsyncClient, Client, Unprocessable, Unreachable
from twhin_client.problems import (
    EntityNotFound,
    Forbidden,
    Invalid,
    QueryInvalid,
    Unauthorized,
    VersionNotFound,
)
from twhin_client.types import Engagement, EngagementEvent, FeedbackEvent, Pair, Participation

USERS = user_ids()


def test_candidates_come_as_types(client: Client) -> None:
    answer = client.recommend(USERS[5], k=3, explain=True, exclude=np.array([int(USERS[6])]))
    assert len(answer.candidates) == 3
    assert USERS[6] not in [one.id for one in answer.candidates]
    assert (answer.version, answer.known) == ("v2", True)
    assert answer.explain.relation == "follows"  # type: ignore[union-attr]
    same = client.recommend_user(USERS[5], k=3, exclude=[USERS[6]], explain=True)
    assert same.candidates == answer.candidates


def test_inline_engagements_are_structs_or_dictionaries(client: Client) -> None:
    structs = client.recommend(engagements=[Engagement(target=USERS[3])], k=4)
    plain = client.recommend(engagements=({"target": USERS[3]} for _ in range(1)), k=4)
    assert structs.candidates == plain.candidates


def test_every_other_question_is_answered(client: Client) -> None:
    batch = client.recommend_batch([USERS[1], "nobody-knows"], k=2)
    assert [item.status for item in batch.results] == ["ok", "ok"]
    assert client.interests(USERS[1]).interests
    assert client.similar(type="user", id=USERS[1], k=2).neighbours
    vector = client.embedding("user", USERS[1]).values[0]
    assert len(client.similar(vector=vector, candidate_type="hashtag", k=2).neighbours) == 2
    pairs = [Pair(source=USERS[1], target=USERS[2]), {"source": "x", "target": USERS[2]}]
    assert [item.status for item in client.score(pairs).items] == ["scored", "source_not_found"]
    assert client.livez() == {"status": "ok"}
    assert client.readyz()["status"] == "ok"
    assert client.startupz()["status"] == "ok"
    assert "twhin_" in client.metrics()
    assert client.info()["version"] == "v2"
    assert [one.version for one in client.versions().history] == ["v1", "v2"]
    assert client.admin_versions()["versions"] == ["v1", "v2"]


async def test_the_awaited_client_answers_alike(client: Client, awaited: AsyncClient) -> None:
    assert (await awaited.recommend(USERS[5], k=3)).candidates == client.recommend(USERS[5], k=3).candidates
    theirs, ours = await awaited.embeddings("user", USERS[:9]), client.embeddings("user", USERS[:9])
    np.testing.assert_array_equal(theirs.values, ours.values)
    assert (await awaited.embedding("user", USERS[1])).ids == [USERS[1]]
    assert (await awaited.interests(USERS[1])).interests == client.interests(USERS[1]).interests
    assert await awaited.livez() == {"status": "ok"}
    assert [one async for one in awaited.ids("hashtag")] == tag_ids()
    pinned = await awaited.pin("v1")
    assert (await pinned.embeddings("user", [USERS[1]])).version == "v1"
    codes = await pinned.features("user", USERS[:9], representation="codes")
    np.testing.assert_array_equal(
        (await pinned.decode("user", codes)).values, client.pin("v1").features("user", USERS[:9]).values
    )
    with pytest.raises(EntityNotFound):
        await awaited.embedding("user", "nobody")
    results = [one async for one in awaited.recommend_many(USERS[:9], batch=2, concurrency=3, k=2)]
    assert [one.user for one in results] == USERS[:9]


def test_vectors_are_those_of_the_version_and_what_is_missing_is_told(client: Client, toy_bundles) -> None:  # type: ignore[no-untyped-def]
    table = open_bundle(toy_bundles / "v2").space().table("user")
    asked = [USERS[4], "nobody", USERS[0], "", "007"]
    got = client.embeddings("user", asked)
    assert (got.ids, got.version, got.dim) == (asked, "v2", 16)
    assert got.missing.tolist() == [False, True, False, True, True]
    np.testing.assert_array_equal(got.values[[0, 2]], table.embeddings[[4, 0]])
    assert not got.values[got.missing].any()


def test_more_ids_than_one_request_may_have_are_split_and_are_of_one_version(service: str) -> None:
    with Client(service, key="r-key", lookup_max=7) as client:
        got = client.embeddings("user", np.array([int(user) for user in USERS], dtype=np.int64))
    with Client(service, key="r-key") as client:
        whole = client.embeddings("user", USERS)
    np.testing.assert_array_equal(got.values, whole.values)
    assert got.ids == USERS


@pytest.mark.parametrize("tag", AWKWARD)
def test_awkward_ids_stand_in_a_path(client: Client, tag: str) -> None:
    assert client.embedding("hashtag", tag).ids == [tag]
    np.testing.assert_array_equal(client.embedding("hashtag", tag).values, client.embeddings("hashtag", [tag]).values)


def test_the_map_comes_as_bytes_and_its_entities_as_types(client: Client) -> None:
    assert len(client.map_places("user")) == 8 * N_USERS
    assert client.map_entities("user", ids=[USERS[5]]).items[0].row == 5


def test_ids_are_listed_page_by_page_each_once_and_in_order(client: Client) -> None:
    assert list(client.ids("user")) == USERS
    pages, cursor = [], None
    while True:
        page = client.entities("hashtag", limit=7, cursor=cursor)
        pages += page.ids
        assert page.count == N_TAGS
        if (cursor := page.next) is None:
            break
    assert pages == tag_ids()
    assert client.entities("user", limit=N_USERS).next is None
    assert client.entities("user", limit=N_USERS - 1).next is not None


def test_a_listing_stays_in_its_version_though_another_one_is_published(client: Client) -> None:
    first = client.entities("user", limit=5)
    client.admin_activate("v1")
    try:
        second = client.entities("user", limit=5, cursor=first.next)
        assert (second.version, second.ids) == ("v2", USERS[5:10])
        with pytest.raises(Invalid):
            client.entities("user", cursor=first.next, version="v1")
    finally:
        client.admin_rollback()


def test_a_pinned_client_looks_up_its_version_and_asks_the_serving_one(client: Client) -> None:
    now = client.pin()
    assert now.version == "v2"
    old = client.pin("v1")
    assert old.embeddings("user", USERS[:2]).version == "v1"
    assert old.embedding("user", USERS[0]).version == "v1"
    assert old.features("user", USERS[:2]).version == "v1"
    assert old.codebook("user").version == "v1"
    assert old.entities("user", limit=1).version == "v1"
    assert old.recommend(USERS[0], k=1).version == "v2"
    assert old.embeddings("user", USERS[:2], version="v2").version == "v2"
    with pytest.raises(VersionNotFound):
        client.pin("gone").embeddings("user", USERS[:2])


def test_codes_are_decoded_here_as_the_service_decodes_them(client: Client) -> None:
    asked = [*USERS[:20], "nobody"]
    codes = client.features("user", asked, representation="codes")
    assert (codes.values.dtype, codes.codebook) == (np.uint8, client.codebook("user").etag)
    ours, theirs = client.decode("user", codes), client.features("user", asked)
    np.testing.assert_array_equal(ours.values, theirs.values)
    assert ours.missing.tolist() == [False] * 20 + [True]


def test_engagements_count_and_are_erased(client: Client) -> None:
    first = client.recommend(USERS[7], k=1).candidates[0].id
    answer = client.engagements(
        [{"user": USERS[7], "target": first}, EngagementEvent(user=USERS[7], target="x", id="e")]
    )
    assert [item.status for item in answer.results] == ["stored", "invalid"]
    assert len(answer.results[0].id) == 32
    assert client.recommend(USERS[7], k=1).candidates[0].id != first
    assert client.delete_engagements(USERS[7]).removed == 1
    assert client.recommend(USERS[7], k=1).candidates[0].id == first


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_arm_of_an_answer_is_fed_back_and_counts(client: Client, toy_bundles: Path) -> None:
    arms = ", ".join(f'{{name = "{name}", strategy = "{name}", share = 0.5}}' for name in ("blend", "popular"))
    path = toy_bundles / "experiments.toml"
    path.write_text(f'[[experiments]]\nname = "e"\nrelation = "follows"\narms = [{arms}]\n')
    try:
        _until(lambda: client.experiments().experiments != [])
        answer = client.recommend(USERS[7], k=3)
        assert isinstance(answer.experiment, Participation)
        assert (answer.experiment.name, answer.experiment.arm) == ("e", answer.strategy)
        assert client.recommend(USERS[7], k=3, experiments=False).experiment is UNSET
        shown = [candidate.id for candidate in answer.candidates]
        about = {"request_id": answer.request_id, "experiment": "e", "arm": answer.experiment.arm}
        told = client.feedback([FeedbackEvent(**about, impressions=shown), {**about, "clicks": shown[:1]}])
        assert (told.impressions, told.clicks) == (3, 1)
        arms_now = {arm.name: arm for arm in client.experiments().experiments[0].arms}
        assert (arms_now[answer.strategy].impressions, arms_now[answer.strategy].clicks) == (3, 1)
    finally:
        path.unlink()
        _until(lambda: client.experiments().experiments == [])


def test_refusals_are_exceptions_of_one_tree(service: str, client: Client) -> None:
    with Client(service) as keyless, pytest.raises(Unauthorized) as refused:
        keyless.info()
    assert isinstance(refused.value, AccessRefused)
    with Client(service, key="r-key") as reader, pytest.raises(Forbidden):
        reader.engagements([])
    with pytest.raises(Invalid) as invalid:
        client.recommend(USERS[0], k=0)
    assert invalid.value.errors[0].pointer == "/k"
    assert "/k" in str(invalid.value)
    assert invalid.value.request_id
    with pytest.raises(QueryInvalid) as unknown:
        client.recommend(USERS[0], strategy="nonsense")
    assert isinstance(unknown.value, Unprocessable)
    with pytest.raises(TypeError, match="list"):
        client.embeddings("user", "17")
    for url in ("localhost:8000", "http://", "ftp://host", "http://a:b:c", ""):
        with pytest.raises(ValueError, match="no http"):
            Client(url)


def test_nobody_there_is_told_after_its_retries() -> None:
    with Client("http://me:secret@127.0.0.1:9/twhin", timeout=2) as client, pytest.raises(Unreachable) as error:
        client.recommend("1")
    assert (error.value.code, error.value.sent) == ("unreachable", False)
    assert str(error.value).startswith("http://127.0.0.1:9: ConnectError: ")


def test_many_users_stream_in_order_with_bounded_work(client: Client) -> None:
    taken = 0

    def users():  # type: ignore[no-untyped-def]
        nonlocal taken
        for i in range(400):
            taken += 1
            yield USERS[i % N_USERS] if i % 100 else ""

    stream = client.recommend_many(users(), batch=10, concurrency=2, k=2)
    first = [next(stream) for _ in range(50)]
    assert taken <= 50 + 2 * 2 * 10 + 10
    whole = first + list(stream)
    assert [one.user for one in whole] == [USERS[i % N_USERS] if i % 100 else "" for i in range(400)]
    failed = [i for i, one in enumerate(whole) if one.item.status != "ok"]
    assert failed == list(range(0, 400, 100))
    assert whole[0].item.error.code == "query_invalid"  # type: ignore[union-attr]
    assert all(len(one.item.candidates) == 2 for one in whole if one.item.status == "ok")
    with pytest.raises(Invalid):
        list(client.recommend_many(USERS, k=0))


async def test_an_awaited_stream_that_is_left_leaves_no_tasks(awaited: AsyncClient) -> None:
    before = asyncio.all_tasks()
    stream = awaited.recommend_many(USERS, batch=2, concurrency=3, k=1)
    async for _ in stream:
        break
    await stream.aclose()
    assert asyncio.all_tasks() == before


def test_arrow_has_nulls_where_vectors_are_missing(client: Client) -> None:
    table = client.embeddings("user", [USERS[1], "nobody"]).to_arrow()
    assert table["id"].to_pylist() == [USERS[1], "nobody"]
    assert table["vector"].is_null().to_pylist() == [False, True]
    assert len(table["vector"][0]) == 16


def test_threads_may_share_a_client(client: Client) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda user: client.recommend(user, k=1).candidates[0].id, USERS[:40]))
    assert answers == [client.recommend(user, k=1).candidates[0].id for user in USERS[:40]]


def test_a_raw_request_says_the_same(service: str, client: Client) -> None:
    raw = httpx.post(f"{service}/recommend", json={"user": USERS[5], "k": 3}, headers={"x-api-key": "r-key"})
    ours = client.recommend(USERS[5], k=3)
    assert [one["id"] for one in json.loads(raw.content)["candidates"]] == [one.id for one in ours.candidates]


def test_a_client_on_the_other_end_of_time_is_a_deadline(service: str) -> None:
    from twhin_client.problems import DeadlineExceeded

    began = time.monotonic()
    with Client(service, key="r-key", timeout=0.0001) as client, pytest.raises(DeadlineExceeded):
        client.recommend(USERS[5])
    assert time.monotonic() - began < 5

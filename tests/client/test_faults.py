"""What goes wrong on the way: retries, deadlines, hedging, services of other releases, answers of somebody else."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.fault_proxy import FaultProxy
from tests.support.scripted import Said, Script, Seen, problem, scripted
from tests.support.service_bundle import user_ids
from twhin_client import (
    AnswerUnreadable,
    AsyncClient,
    Client,
    CodebookMismatch,
    NotFound,
    RequestRefused,
    ServiceFailed,
    TwhinError,
    Unavailable,
    Unprocessable,
    Unreachable,
)
from twhin_client.errors import Conflict
from twhin_client.operations import ADMIN_ROLLBACK, ENGAGEMENTS, RECOMMEND
from twhin_client.policy import Attempts, Hedging
from twhin_client.problems import DeadlineExceeded, NotReady, Overloaded

OK = {"candidates": [], "strategy": "blend", "known": True, "version": "v", "request_id": "r"}
BATCH = {"version": "v", "request_id": "r", "ok": 1, "failed": 0}
Ask = Callable[..., Any]


def _blocking(url: str, method: str, *arguments: Any, client: dict[str, Any] | None = None, **named: Any) -> Any:
    with Client(url, **(client or {})) as made:
        return getattr(made, method)(*arguments, **named)


def _awaited(url: str, method: str, *arguments: Any, client: dict[str, Any] | None = None, **named: Any) -> Any:
    async def ask() -> Any:
        async with AsyncClient(url, **(client or {})) as made:
            return await getattr(made, method)(*arguments, **named)

    return asyncio.run(ask())


@pytest.fixture(params=[_blocking, _awaited], ids=["blocking", "awaited"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """One call by either client."""
    made: Ask = request.param
    return made


def then(*said: Said) -> Script:
    """These answers in turn; the last one for ever."""
    return lambda request, number: said[min(number, len(said) - 1)]


def test_a_503_is_asked_again_after_the_time_it_names(ask: Ask) -> None:
    with scripted(then(problem("overloaded", 503, retry_after="1"), Said(OK))) as server:
        assert ask(server.url, "recommend", "1").version == "v"
    first, second = server.seen
    assert 1.0 <= second.at - first.at < 1.5
    assert second.body == first.body
    assert int(second.headers["x-request-timeout-ms"]) < 4000 < int(first.headers["x-request-timeout-ms"])


def test_a_503_that_lasts_is_raised_when_the_retries_are_spent(ask: Ask) -> None:
    with scripted(then(problem("not_ready", 503))) as server, pytest.raises(NotReady) as error:
        ask(server.url, "recommend", "1", client={"retries": 2})
    assert len(server.seen) == 3
    assert isinstance(error.value, Unavailable)
    assert error.value.request_id == "r-1"


def test_no_wait_goes_beyond_the_deadline(ask: Ask) -> None:
    began = time.monotonic()
    with scripted(then(problem("overloaded", 503, retry_after="30"))) as server, pytest.raises(Overloaded):
        ask(server.url, "recommend", "1")
    assert time.monotonic() - began < 5
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [500, 504, 502, 422, 404, 409])
def test_nothing_else_is_asked_again(ask: Ask, status: int) -> None:
    with scripted(then(problem("some_new_code", status))) as server, pytest.raises(TwhinError) as error:
        ask(server.url, "recommend", "1")
    assert len(server.seen) == 1
    assert error.value.code == "some_new_code"


def test_the_deadline_holds_for_an_answer_that_does_not_come(ask: Ask) -> None:
    began = time.monotonic()
    with scripted(then(Said(OK, wait=1.5))) as server, pytest.raises(DeadlineExceeded, match=r"within 0.3 s"):
        ask(server.url, "recommend", "1", timeout=0.3)
    assert 0.25 < time.monotonic() - began < 2.5  # the server ends its own wait
    assert server.seen[0].headers["x-request-timeout-ms"] in ("299", "300", "298", "297", "296", "295")


def test_what_is_cut_off_is_sent_again_where_that_is_safe(ask: Ask) -> None:
    """An engagement too: it has an id from the client, the same in both."""
    stored = {"results": [], "stored": 1, "duplicates": 0, "invalid": 0, "version": "v", "request_id": "r"}
    with scripted(then(Said(cut=True), Said(OK))) as server:
        assert ask(server.url, "recommend", "1").version == "v"
    with scripted(then(Said(cut=True), Said(stored))) as server:
        ask(server.url, "engagements", [{"user": "1", "target": "2"}])
    ids = [seen.json["events"][0]["id"] for seen in server.seen]
    assert len(ids) == 2
    assert ids[0] == ids[1]
    assert len(ids[0]) == 32
    with scripted(then(Said(cut=True), Said({}))) as server, pytest.raises(Unreachable) as error:
        ask(server.url, "admin_rollback")
    assert (len(server.seen), error.value.sent) == (1, True)


def test_a_connection_that_the_service_closed_meanwhile_does_no_harm(service: str) -> None:
    proxy = FaultProxy(int(service.rpartition(":")[2]))
    try:
        with Client(f"http://127.0.0.1:{proxy.port}", key="r-key") as client:
            user = user_ids()[3]
            first = client.recommend(user, k=2)
            proxy.mode = "reset"
            with pytest.raises(Unreachable):
                client.recommend(user, k=2)
            proxy.mode = "pass"
            assert client.recommend(user, k=2).candidates == first.candidates
    finally:
        proxy.close()


def test_a_second_request_beside_a_slow_first_one_wins(ask: Ask) -> None:
    def script(request: Seen, number: int) -> Said:
        return Said({**OK, "version": f"v{number}"}, wait=2.0 if number == 0 else 0.0)

    with scripted(script) as server:
        began = time.monotonic()
        assert ask(server.url, "recommend", "1", client={"hedge": 0.1}).version == "v1"
        assert time.monotonic() - began < 1.8
    assert [seen.path for seen in server.seen] == ["/v1/recommend"] * 2


def test_a_first_failure_does_not_hide_the_second_request_s_answer(ask: Ask) -> None:
    def script(request: Seen, number: int) -> Said:
        return Said({"detail": "x"}, 500, wait=0.3) if number == 0 else Said(OK, wait=0.5)

    with scripted(script) as server:
        assert ask(server.url, "recommend", "1", client={"hedge": 0.1}).version == "v"


def test_what_changes_something_is_never_sent_beside_itself(ask: Ask) -> None:
    stored = {"results": [], "stored": 1, "duplicates": 0, "invalid": 0, "version": "v", "request_id": "r"}
    with scripted(then(Said(stored, wait=0.3))) as server:
        ask(server.url, "engagements", [], client={"hedge": 0.05})
    assert len(server.seen) == 1


def test_hedging_adds_a_tenth_of_the_requests_at_most() -> None:
    hedging = Hedging(0.1)
    taken = 0
    for _ in range(1000):
        assert hedging.delay(RECOMMEND) == 0.1
        taken += hedging.take()
    assert 95 <= taken <= 102
    assert hedging.delay(ENGAGEMENTS) is None
    assert Hedging(None).delay(RECOMMEND) is None


def test_the_p95_is_that_of_the_client_s_own_answers() -> None:
    hedging = Hedging("p95")
    for i in range(49):
        hedging.answered(RECOMMEND, i / 100)
        assert hedging.delay(RECOMMEND) is None
    for i in range(49, 100):
        hedging.answered(RECOMMEND, i / 100)
    assert hedging.delay(RECOMMEND) == pytest.approx(0.95)


def test_pauses_are_jittered_in_full_and_grow() -> None:
    pauses = np.zeros((400, 3))
    for row in pauses:
        attempts = Attempts(RECOMMEND, 1000.0, 3, now=0.0)
        row[:] = [attempts.pause(Overloaded("x"), 0.0) for _ in range(3)]
    assert (pauses >= 0).all()
    np.testing.assert_allclose(pauses.mean(axis=0), [0.025, 0.05, 0.1], rtol=0.2)
    assert (pauses.max(axis=0) <= [0.05, 0.1, 0.2]).all()
    with pytest.raises(Unreachable):
        Attempts(ADMIN_ROLLBACK, 10.0, 3, now=0.0).pause(Unreachable("x", sent=True), 0.0)
    assert Attempts(ADMIN_ROLLBACK, 10.0, 3, now=0.0).pause(Unreachable("x", sent=False), 0.0) >= 0


def test_a_newer_service_s_fields_statuses_and_codes_are_understood(ask: Ask) -> None:
    candidate = {
        "id": "7",
        "score": 1.0,
        "mode": None,
        "novelty": 0.5,
        "why": {"rank": 0, "score": 1.0, "source": "orbit"},
    }
    newer = {**OK, "candidates": [candidate], "mood": {"a": [1]}, "fallback": "a_new_rung", "degraded": ["new"]}
    with scripted(then(Said(newer))) as server:
        answer = ask(server.url, "recommend", "1")
    assert (answer.candidates[0].id, answer.fallback, answer.candidates[0].why.source) == ("7", "a_new_rung", "orbit")
    batch = {**BATCH, "results": [{"user": "1", "status": "postponed", "hint": 3}]}
    with scripted(then(Said(batch))) as server:
        assert ask(server.url, "recommend_batch", ["1"]).results[0].status == "postponed"
    kinds = {
        404: NotFound,
        409: Conflict,
        422: Unprocessable,
        418: RequestRefused,
        503: Unavailable,
        507: ServiceFailed,
    }
    for status, kind in kinds.items():
        with scripted(then(problem("brand_new", status))) as server, pytest.raises(kind) as error:
            ask(server.url, "recommend", "1", client={"retries": 0})
        assert (error.value.code, error.value.status, error.value.detail) == ("brand_new", status, "why")


def test_an_older_service_s_answers_are_understood(ask: Ask) -> None:
    """Without a codebook's name beside octets, and without whatever is optional."""
    octets = np.arange(8, dtype="<f4").reshape(2, 4)
    headers = {"x-twhin-shape": "2,4", "x-twhin-dtype": "<f4", "x-twhin-version": "v0", "x-twhin-missing": ""}
    with scripted(then(Said(octets.tobytes(), headers=headers))) as server:
        vectors = ask(server.url, "features", "user", ["1", "2"])
    np.testing.assert_array_equal(vectors.values, octets)
    assert vectors.codebook is None
    with scripted(then(Said(OK))) as server:
        assert ask(server.url, "recommend", "1").degraded == []
    with scripted(then(problem("not_found", 404))) as server, pytest.raises(NotFound):
        ask(server.url, "versions")


@pytest.mark.parametrize(
    "said",
    [
        Said(b"<html>hello</html>", headers={"content-type": "text/html"}),
        Said({"candidates": "none", "version": 3}),
        Said({"known": True}),
        Said(b"\xff\xfe"),
        Said([]),
    ],
)
def test_what_is_no_answer_of_this_api_is_told_as_such(ask: Ask, said: Said) -> None:
    with scripted(then(said)) as server, pytest.raises(AnswerUnreadable, match="recommend"):
        ask(server.url, "recommend", "1")
    with scripted(then(said)) as server, pytest.raises(AnswerUnreadable):
        ask(server.url, "embeddings", "user", ["1"])


@pytest.mark.parametrize("shape", ["2,4", "1,3", "1", "x,y", "1,4,1", "-1,4"])
def test_octets_that_do_not_fit_their_headers_are_refused(ask: Ask, shape: str) -> None:
    headers = {"x-twhin-shape": shape, "x-twhin-dtype": "<f4", "x-twhin-version": "v", "x-twhin-missing": "0"}
    with scripted(then(Said(b"\0" * 16, headers=headers))) as server, pytest.raises(AnswerUnreadable):
        ask(server.url, "embeddings", "user", ["1"])


def test_a_proxy_s_own_error_is_one_of_the_tree(ask: Ask) -> None:
    said = Said(b"<h1>Bad Gateway</h1>", 502, {"content-type": "text/html"})
    with scripted(then(said)) as server, pytest.raises(ServiceFailed) as error:
        ask(server.url, "recommend", "1")
    assert (error.value.code, error.value.status) == ("http_502", 502)


def test_a_batch_that_fails_for_good_is_told_of_each_of_its_users() -> None:
    def script(request: Seen, number: int) -> Said:
        users = request.json["users"]
        if "3" in users:
            return problem("internal", 500)
        return Said({**BATCH, "results": [{"user": user, "status": "ok"} for user in users]})

    with scripted(script) as server, Client(server.url) as client:
        results = list(client.recommend_many(map(str, range(6)), batch=2))
        assert [one.item.status for one in results] == ["ok", "ok", "failed", "failed", "ok", "ok"]
        assert [one.version for one in results] == ["v", "v", None, None, "v", "v"]
        assert results[2].item.error is not None
        assert results[2].item.error.code == "internal"

        async def awaited() -> list[str]:
            async with AsyncClient(server.url) as other:
                return [one.item.status async for one in other.recommend_many(map(str, range(6)), batch=2)]

        assert asyncio.run(awaited()) == [one.item.status for one in results]


def _codebook(etag: str) -> dict[str, Any]:
    import base64

    books = base64.b64encode(np.arange(512, dtype="<f4").tobytes()).decode()
    answer = {"type": "user", "space": "main", "etag": etag, "subquantizers": 2, "codewords": 256, "dim": 2}
    return {**answer, "codebooks": books, "rotation": None, "version": "v", "request_id": "r"}


def test_a_codebook_is_kept_and_asked_for_again_by_its_etag(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(request: Seen, number: int) -> Said:
        if request.headers.get("if-none-match") == '"one"' and number < 2:
            return Said(b"", 304)
        return Said(_codebook("one" if number < 2 else "two"))

    with scripted(script) as server, Client(server.url) as client:
        first = client.decoder("user")
        assert client.decoder("user") is first
        assert len(server.seen) == 1
        monkeypatch.setattr("twhin_client.features.FRESH_S", 0.0)
        assert client.decoder("user") is first
        assert len(server.seen) == 2
        second = client.decoder("user")
        assert (second.etag, second.decode(np.array([[3, 4]], dtype=np.uint8)).tolist()) == ("two", [[3.0, 260.0]])
        named = client.decoder("user", version="v7")
        assert client.decoder("user", version="v7") is named
        assert len(server.seen) == 4
        with pytest.raises(CodebookMismatch):
            second.decode(np.array([[3, 4, 5]], dtype=np.uint8))


def test_a_codebook_that_is_cut_short_is_refused(ask: Ask) -> None:
    with scripted(then(Said({**_codebook("x"), "codebooks": "AAAA"}))) as server, pytest.raises(AnswerUnreadable):
        ask(server.url, "decoder", "user")


def test_a_client_of_the_caller_s_own_is_used(service: str) -> None:
    sent = []
    http = httpx.Client(event_hooks={"request": [lambda request: sent.append(request.headers["x-team"])]})
    with Client(service, key="r-key", http=http, headers={"x-team": "ranking"}) as client:
        client.livez()
    assert sent == ["ranking"]

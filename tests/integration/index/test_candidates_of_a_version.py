"""A version that answers some of its entities alone: in every answer, by the engine and without it, and over HTTP."""

import json
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from bundle.consistency import check_consistency
from bundle.errors import BundleIncomplete, BundleInvalid, ConfigError
from bundle.reader import open_bundle
from bundle.space import Bundle
from bundle.versions import publish
from cli.build import candidates_in_words
from index.builder.config import CandidatesConfig
from index.search.eligible import pack, rows_of
from index.search.open import exact_searchers, open_searchers
from recommend.compiled import Question, Served
from recommend.filters import Filter
from recommend.plan import Plan, strategies_of
from recommend.recommender import Recommender
from recommend.types import NO_LIVE_EDGES, LiveEdges, RecommendRequest
from service.encoded_lists import encode_candidate, pieces_of_candidate
from service.settings import Limits, Settings
from tests.support.servers import running
from tests.support.toy import ITEMS, JAZZ_LOVERS, LONELY, LOVERS_OF_BOTH, TOY_CONFIG, USERS, build_toy

# Ten lovers of one thing and four of both like jazz-00 … jazz-05 and chess-00 … chess-03; ten like chess-04, chess-05.
LIKED = {f"{kind}-{i:02d}" for kind in ("jazz", "chess") for i in range(6)}
MOST_LIKED = LIKED - {"chess-04", "chess-05"}
CONFIG = TOY_CONFIG.model_copy(update={"candidates": CandidatesConfig(min_in_degree=1)})
ASKED = (JAZZ_LOVERS[0], LOVERS_OF_BOTH[1], LONELY, None)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_toy(tmp_path_factory.mktemp("toy"), config=CONFIG).path


@pytest.fixture(scope="module")
def bundle(built: Path) -> Bundle:
    return open_bundle(built)


@pytest.fixture(scope="module")
def recommender(bundle: Bundle) -> Recommender:
    return Recommender(bundle, open_searchers(bundle), encode_candidate, pieces_of_candidate())


@pytest.fixture(scope="module")
def judge(recommender: Recommender) -> Recommender:
    """The same without the engine."""
    made = copy(recommender)
    made.__dict__["_compiled"] = None
    return made


def of_engine(
    recommender: Recommender, request: RecommendRequest, live: LiveEdges = NO_LIVE_EDGES
) -> list[tuple[str, float]]:
    asked = recommender.ask(request, live, share=1.0)
    answer = recommender.answers([asked])[0] if isinstance(asked, Plan | Question) else asked
    assert isinstance(answer, Served)
    return [(one["id"], one["score"]) for one in json.loads(bytes(answer.candidates))]


def test_the_manifest_says_how_many_are_left_and_by_which_settings(bundle: Bundle) -> None:
    space = bundle.space()
    assert {name: one.count for name, one in space.entry.candidates.items()} == {"item": 12, "user": 24}
    assert (space.entry.candidates["item"].min_in_degree, space.entry.candidates["item"].max_count) == (1, None)
    bitmap = space.entities["item"].candidates
    assert bitmap is not None
    assert {ITEMS[row] for row in rows_of(bitmap)} == LIKED
    check_consistency(bundle)


def test_whoever_is_left_out_keeps_a_vector_and_interests(bundle: Bundle) -> None:
    space = bundle.space()
    assert len(space.entities["item"].vectors) == len(ITEMS) == len(space.clusters.assignment["item"])
    assert len(space.clusters.interests[0].mixtures) == len(USERS)


def test_stored_lists_and_popular_ones_hold_candidates_alone(bundle: Bundle) -> None:
    space = bundle.space()
    assert {ITEMS[row] for row in space.relations["likes"].popular} == LIKED
    for query in ("centroid", "medoid"):
        rows = space.clusters.lists["item", query].rows
        assert rows.shape[1] == len(LIKED)
        assert {ITEMS[row] for row in rows.ravel()} == LIKED


def test_at_most_so_many_are_left_and_recall_is_judged_among_them(tmp_path: Path) -> None:
    config = TOY_CONFIG.model_copy(update={"candidates": CandidatesConfig(max_count=10)})
    made = build_toy(tmp_path, config=config)
    space = open_bundle(made.path).space()
    bitmap = space.entities["item"].candidates
    assert bitmap is not None
    assert {ITEMS[row] for row in rows_of(bitmap)} == MOST_LIKED
    assert space.entry.candidates["item"].count == 10
    assert [gate.measured for gate in made.manifest.evaluation.gates] == [1.0, 1.0]


def test_settings_that_leave_all_leave_no_mark(tmp_path: Path) -> None:
    config = TOY_CONFIG.model_copy(update={"candidates": CandidatesConfig(max_count=1000)})
    made = build_toy(tmp_path, config=config)
    assert made.manifest.spaces["default"].candidates == {}
    assert not (made.path / "spaces" / "default" / "candidates").exists()


def test_settings_that_leave_nobody_are_refused(tmp_path: Path) -> None:
    config = TOY_CONFIG.model_copy(update={"candidates": CandidatesConfig(min_in_degree=99)})
    with pytest.raises(ConfigError, match=r"candidates\.min_in_degree is 99, and no \w+ has so many"):
        build_toy(tmp_path, config=config)


def test_engine_and_python_answer_candidates_alone_and_alike_by_every_strategy(
    bundle: Bundle, recommender: Recommender, judge: Recommender
) -> None:
    for strategy in ("auto", *strategies_of(bundle.space())):
        for user in ASKED:
            for k in (3, 12, 30):
                request = RecommendRequest(user=user, k=k, strategy=strategy, exclude_seen=k == 3)
                slate = judge.recommend(request)
                assert set(slate.ids()) <= LIKED
                assert slate.short == (k == 30 or len(slate.ids()) < k)
                found = of_engine(recommender, request)
                assert [one for one, _ in found] == slate.ids(), (strategy, user, k)
                assert [score for _, score in found] == pytest.approx(slate.picks.scores, rel=1e-5, abs=1e-5)
                if k == 30:
                    assert set(slate.ids()) == LIKED


def test_followers_who_are_no_candidates_are_not_answered(recommender: Recommender, judge: Recommender) -> None:
    request = RecommendRequest(
        user=JAZZ_LOVERS[0], k=25, relation="follows", strategy="blend", exclude_seen=False, followers=(LONELY,)
    )
    for answers in (judge.recommend(request).ids(), [one for one, _ in of_engine(recommender, request)]):
        assert set(answers) == set(USERS) - {LONELY, JAZZ_LOVERS[0]}


def test_a_filter_chooses_among_the_candidates(recommender: Recommender, judge: Recommender) -> None:
    some = Filter(ids=("jazz-03", "jazz-12", "chess-05"))
    request = RecommendRequest(user=LONELY, k=5, filter=some)
    assert set(judge.recommend(request).ids()) == {"jazz-03", "chess-05"}
    assert {one for one, _ in of_engine(recommender, request)} == {"jazz-03", "chess-05"}
    everybody_else = Filter(not_=Filter(ids=tuple(sorted(LIKED))))
    assert judge.recommend(RecommendRequest(user=LONELY, k=5, filter=everybody_else)).ids() == []


def test_lists_for_many_users_hold_candidates_alone(recommender: Recommender, judge: Recommender) -> None:
    users = np.arange(len(USERS))
    lists = [one.for_users(users, "auto", 12, relation="likes") for one in (recommender, judge)]
    assert {ITEMS[row] for found in lists for rows in found for row in rows} <= LIKED
    assert [rows.tolist() for rows in lists[0]] == [rows.tolist() for rows in lists[1]]


def test_exact_searchers_are_kept_to_the_candidates(bundle: Bundle) -> None:
    width = bundle.space().entry.width
    query = np.ones((1, width), dtype=np.float32)
    for searchers in (open_searchers(bundle), exact_searchers(bundle)):
        hits = searchers["default", "item"].search(query, 40)[0]
        assert {ITEMS[row] for row in hits.rows} == LIKED


def test_a_bitmap_that_does_not_fit_its_version_is_refused(bundle: Bundle) -> None:
    def with_candidates(bits: object) -> Bundle:
        space = bundle.space()
        items = replace(space.entities["item"], candidates=bits)  # type: ignore[arg-type]
        return replace(bundle, spaces={space.name: replace(space, entities={**space.entities, "item": items})})

    with pytest.raises(BundleInvalid, match=r"candidates/item\.npy has another number of candidates"):
        check_consistency(with_candidates(pack(np.ones(40, dtype=bool))))
    others = ~np.isin(ITEMS, sorted(LIKED))
    others[np.flatnonzero(others)[12:]] = False
    with pytest.raises(BundleInvalid, match="holds a row that is not among the candidates of item"):
        check_consistency(with_candidates(pack(others)))


def test_a_version_without_the_bitmap_that_its_manifest_names_is_refused(tmp_path: Path) -> None:
    made = build_toy(tmp_path, config=CONFIG).path
    manifest = json.loads((made / "manifest.json").read_bytes())
    del manifest["files"]["spaces/default/candidates/item.npy"]
    (made / "spaces/default/candidates/item.npy").unlink()
    (made / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BundleIncomplete, match=r"lists no spaces/default/candidates/item\.npy"):
        open_bundle(made)


@pytest.fixture(scope="module")
def client(built: Path) -> Iterator[httpx.Client]:
    publish(built.parent, built.name)
    settings = Settings(bundles=built.parent, limits=Limits(timeout_ms=10_000))
    with running(settings) as url, httpx.Client(base_url=url, timeout=20) as made:
        yield made


def test_over_http_the_rest_is_looked_up_and_never_answered(client: httpx.Client) -> None:
    body = {"type": "item", "id": "jazz-12", "k": 40}
    similar = client.post("/v1/similar", json=body)
    assert similar.status_code == 200
    assert {one["id"] for one in similar.json()["neighbours"]} == LIKED
    filtered = client.post("/v1/similar", json={**body, "filter": {"ids": ["jazz-13", "jazz-01"]}})
    assert [one["id"] for one in filtered.json()["neighbours"]] == ["jazz-01"]
    for strategy in ("auto", "popular", "medoid", "mixture"):
        answer = client.post("/v1/recommend", json={"user": LONELY, "k": 40, "strategy": strategy})
        if answer.status_code == 200:
            assert {one["id"] for one in answer.json()["candidates"]} == LIKED
    popular = client.post("/v1/recommend", json={"user": LONELY, "k": 40})
    assert {one["id"] for one in popular.json()["candidates"]} == LIKED
    looked_up = client.post("/v1/embeddings", json={"type": "item", "ids": ["jazz-12"]})
    assert looked_up.status_code == 200
    assert "jazz-12" in looked_up.text


def test_a_build_says_how_many_are_left(bundle: Bundle) -> None:
    assert list(candidates_in_words(bundle.manifest)) == [
        "Candidates of item: 12 of 40, with at least 1 edges.",
        "Candidates of user: 24 of 25, with at least 1 edges.",
    ]

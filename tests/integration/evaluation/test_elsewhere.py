"""A shop whose users view items and buy some of those: what a user has by one relation speaks for it by the other."""

from pathlib import Path

import numpy as np
import pytest

from bundle.run import open_graph, open_run
from bundle.space import Space
from bundle.strategies import ELSEWHERE
from cli.compose import assessor, open_recommender
from evaluation.follow import FollowReport, evaluate_follow, offer_of
from evaluation.learning.assess import assess
from evaluation.learning.evidence import others_of
from evaluation.task import follow_task
from index.builder.config import parse_config as build_config
from index.builder.version import build_version
from recommend.recommender import Recommender
from recommend.types import LiveEdges, RecommendRequest
from tests.support.shop import trained_shop


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_shop(tmp_path_factory.mktemp("shop"), strict=0.9)


def built(run: Path, version: str, *, quick: bool) -> Recommender:
    settings = {"index": {"kind": "exact", "queries": 50}, "default_relation": "bought", "threads": 1}
    assess = None if quick else assessor(run, 1)
    config = build_config(settings, "the test")
    return open_recommender(build_version(run, run.parent / "bundles", config, version=version, assess=assess).path)


@pytest.fixture(scope="module")
def learnt(run: Path) -> Recommender:
    return built(run, "learnt", quick=False)


@pytest.fixture(scope="module")
def quick(run: Path) -> Recommender:
    return built(run, "quick", quick=True)


@pytest.fixture(scope="module")
def timely(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recommender]:
    """A shop where one of the last ten views is bought, and a version of it."""
    run = trained_shop(tmp_path_factory.mktemp("timely"), strict=0.9, lately=10)
    return run, built(run, "timely", quick=False)


def test_what_was_viewed_last_comes_first(timely: tuple[Path, Recommender]) -> None:
    run, recommender = timely
    space = recommender.bundle.space()
    assert space.relation("viewed").times is not None
    assert space.relation("bought").times is None
    assert space.entry.clusters.clocks["viewed"].per_second == 1
    report = report_of(run, recommender, "bought")
    for metric in ("recall@10", "recall@50"):
        best = max(row.mean(metric) for row in report.rows if row.kind == "baseline" and row.metrics)
        assert report.row("elsewhere_first").mean(metric) == best
        assert report.row(report.auto).mean(metric) >= 0.98 * best
    answers = space.entry.answers("bought")
    assert answers is not None
    assert answers.strategies["blend"].weights.recency > 0.3


def test_what_is_viewed_again_is_new(timely: tuple[Path, Recommender]) -> None:
    recommender, gains = timely[1], []
    space = recommender.bundle.space()
    for user in range(0, 400, 20):
        viewed = space.relation("viewed")
        rows = viewed.targets.row(user)
        assert viewed.times is not None
        dates = viewed.times[viewed.targets.indptr[user] : viewed.targets.indptr[user + 1]]
        fresh = ~np.isin(rows, space.relation("bought").targets.row(user))
        oldest = ids_of(space, rows[fresh][np.argsort(dates[fresh])][:1].tolist())[0]
        name = space.entities["user"].ids.external(user)
        places = []
        for at in (float(dates.min()), float(dates.max() + 60)):
            live = LiveEdges(added={"viewed": (oldest,)}, times={"viewed": (at,)})
            places.append(place_of(recommender, oldest, live, name))
        gains.append(places[0] - places[1])
    assert np.median(gains) >= 3


def report_of(run: Path, recommender: Recommender, relation: str) -> FollowReport:
    return evaluate_follow(open_run(run), recommender, offer_of(recommender), relation=relation, users=400)


@pytest.mark.parametrize("relation", ["bought", "viewed"])
def test_the_default_is_not_below_what_the_user_has_by_the_other_relation(
    run: Path, learnt: Recommender, relation: str
) -> None:
    report = report_of(run, learnt, relation)
    for metric in ("recall@10", "recall@50"):
        best = max(row.mean(metric) for row in report.rows if row.kind == "baseline" and row.metrics)
        assert report.row("elsewhere_first").mean(metric) == best
        assert report.row(report.auto).mean(metric) >= 0.98 * best


def test_a_version_says_how_much_one_relation_tells_of_the_other(learnt: Recommender) -> None:
    space = learnt.bundle.space()
    assert 0.2 < space.relation("bought").entry.elsewhere["viewed"] < 0.3  # 8 · .9 of 25, less what is held out
    assert space.relation("viewed").entry.elsewhere["bought"] > 0.6


def test_without_learning_there_is_a_bonus_too(run: Path, quick: Recommender) -> None:
    answers = quick.bundle.space().entry.answers("bought")
    assert answers is not None
    assert answers.strategies[answers.auto].weights.elsewhere == ELSEWHERE
    report = report_of(run, quick, "bought")
    assert report.row(report.auto).mean("recall@10") > 1.3 * report.row("unimodal").mean("recall@10")


def test_a_build_measures_it_as_a_baseline(run: Path, quick: Recommender) -> None:
    found = assess(quick, open_graph(run), seed=1)["bought"]
    assert found[0].baselines["elsewhere_first"]["recall@10"] > found[0].baselines["rp3b"]["recall@10"]  # type: ignore[union-attr]


def test_a_newcomer_may_have_nothing_by_the_other_relation(tmp_path: Path) -> None:
    small = trained_shop(tmp_path, users=80, items=80, lookers=20)
    space = built(small, "small", quick=True).bundle.space()
    viewed = follow_task(open_graph(small), "valid", np.random.default_rng(1), relation="viewed", n_users=None)
    others = others_of(space, viewed.of_users(np.arange(50, 80)), np.random.default_rng(1))
    degrees = others["bought"].lists.degrees()
    assert degrees[:10].any()
    assert not degrees[10:].any()


def place_of(recommender: Recommender, item: str, live: LiveEdges, user: str | None) -> int:
    request = RecommendRequest(user=user, k=300, relation="bought")
    return recommender.recommend(request, live).ids().index(item)


@pytest.mark.parametrize("known", [True, False])
def test_an_item_that_is_viewed_now_rises_among_what_may_be_bought(learnt: Recommender, known: bool) -> None:
    space, rises = learnt.bundle.space(), []
    for user in range(0, 400, 20):
        bought = space.relation("bought").targets.row(user).tolist()
        name = space.entities["user"].ids.external(user) if known else None
        before = LiveEdges() if known else LiveEdges(added={"bought": ids_of(space, bought[:3])})
        shown = learnt.recommend(RecommendRequest(user=name, k=300, relation="bought"), before).ids()
        item = shown[100]  # nowhere near the first ones
        viewing = before.merged(LiveEdges(added={"viewed": (item,)}))
        rises.append(100 - place_of(learnt, item, viewing, name))
    assert np.median(rises) > 80


def ids_of(space: Space, rows: list[int]) -> tuple[str, ...]:
    return tuple(space.entities["item"].ids.external(row) for row in rows)


def test_an_answer_says_by_which_relation_the_user_has_it(learnt: Recommender) -> None:
    space = learnt.bundle.space()
    viewed = set(space.relation("viewed").targets.row(3).tolist())
    user = space.entities["user"].ids.external(3)
    slate = learnt.recommend(RecommendRequest(user=user, k=10, relation="bought", explain=True))
    for row, reasons in zip(slate.picks.rows, slate.reasons, strict=True):
        told = [reason.via for reason in reasons if reason.kind == "elsewhere" and reason.share > 0.1]
        assert told == (["viewed"] if row in viewed else [])
    assert viewed & set(slate.picks.rows)

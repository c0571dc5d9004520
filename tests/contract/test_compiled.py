"""What the engine answers is what the recommender's Python answers: candidates, words, and scores to 1e-5."""

import json
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import engine
from bundle.csr import Csr, csr_from_pairs
from bundle.errors import QueryError
from bundle.ids import string_ids
from bundle.manifest import Clock, Neighbours, QueryWeights, RelationEntry, Rescoring, Strategy
from bundle.reader import open_bundle
from bundle.rows import CompactKind, CompactRows, encoded
from bundle.space import Bundle, EntityTable, Relation, Space
from index.builder.devices import find_device
from index.builder.indexes import write_index
from index.builder.spec import IndexSpec
from index.search.exact import ExactSearcher
from index.search.native import PRODUCTS_A_ROW, NativeSearcher, ScanSearcher
from index.search.open import exact_searchers, read_searcher
from index.search.protocol import Hits
from recommend import compiled
from recommend.compiled import Question, Served
from recommend.elsewhere import DatedLists, Elsewhere
from recommend.filters import Filter
from recommend.handles import SpaceHandles
from recommend.plan import Plan, plan_newcomer, plan_user, strategies_of
from recommend.profile import NOBODY, Profile, profile_of_row
from recommend.recommender import Recommender
from recommend.rescoring import FEATURES, features_of
from recommend.types import NO_LIVE_EDGES, NO_MODE, NO_MODES, LiveEdges, RecommendRequest, Slate
from service.encoded_lists import encode_candidate, pieces_of_candidate
from tests.support.service_bundle import (
    N_TAGS,
    N_USERS,
    user_ids,
    with_interests_in_tags,
    with_tags,
    with_views,
    write_toy_bundle,
)

USERS = user_ids()
HOSTILE = ['"', "\\", '\\"', "\x00", "\x1f\n\r\t\b\f", "</script>", "\u2028", "😀", "a" * 256, "'", "{}", ",", "/"]
TAGS = sorted(HOSTILE + [f"tag{i}" for i in range(N_TAGS - len(HOSTILE))], key=lambda text: text.encode())
# Of these users some have no edges to follow by, some none at all, one has very many.
NO_FOLLOWS, NOTHING, BUSY = range(6), range(6, 9), 9


def _network(seed: int, hidden: int = 16, neighbours: Neighbours | None = None) -> Rescoring:
    rng, width = np.random.default_rng(seed), len(FEATURES)
    return Rescoring(
        pool=60,
        features=FEATURES,
        mean=tuple(rng.normal(size=width).tolist()),
        scale=tuple(rng.uniform(0.2, 1.0, width).tolist()),
        hidden=tuple(tuple(row) for row in (0.3 * rng.normal(size=(hidden, width))).tolist()),
        bias=tuple(rng.normal(size=hidden).tolist()),
        out=tuple((0.3 * rng.normal(size=hidden)).tolist()),
        neighbours=neighbours,
    )


def _blind(network: Rescoring) -> Rescoring:
    """The network if it saw nothing: all candidates have one score."""
    return network.model_copy(update={"hidden": tuple((0.0,) * len(row) for row in network.hidden)})


BLEND = QueryWeights(user=0.3, fold_in=0.7, relation=1.0, popularity=0.2, reciprocity=0.5, elsewhere=0.3, recency=0.2)
MODES = QueryWeights(mode=1.0, reciprocity=0.4, elsewhere=-0.1, recency=0.4)
STRATEGIES = {
    "rescored": Strategy(merge="single", weights=BLEND, rescoring=_network(1)),
    "all_alike": Strategy(merge="single", weights=BLEND, rescoring=_blind(_network(3))),
    "with_neighbours": Strategy(
        merge="single", weights=BLEND, rescoring=_network(3, neighbours=Neighbours(users=4, candidates=30))
    ),
    "user_alone": Strategy(merge="single", weights=QueryWeights(user=1.0)),
    "lists_and_followers": Strategy(merge="proportional", mode_vector="centroid", modes=4, weights=MODES),
    "medoids_searched": Strategy(
        merge="proportional", mode_vector="medoid", modes=4, weights=QueryWeights(mode=0.5, user=0.5, relation=1.0)
    ),
    "everything": Strategy(
        merge="proportional",
        mode_vector="personal",
        modes=4,
        weights=QueryWeights(user=0.2, fold_in=0.3, mode=0.5, relation=1, popularity=0.1, reciprocity=0.3),
    ),
    "several_rescored": Strategy(merge="proportional", mode_vector="personal", weights=MODES, rescoring=_network(2)),
}


def _with_edges(relation: Relation, n_sources: int, n_targets: int) -> Relation:
    """Without the edges of those who have none, and with very many of one: more than a sample holds."""
    sources = np.repeat(np.arange(n_sources, dtype=np.int32), relation.targets.degrees())
    targets, weights = relation.targets.indices, relation.targets.weights
    idle = range(NO_FOLLOWS.start, NOTHING.stop) if relation.entry.name == "follows" else NOTHING
    kept = ~np.isin(sources, idle) & (sources != BUSY)
    many = np.setdiff1d(np.arange(n_targets, dtype=np.int32), [BUSY])[: n_targets - 20]
    sources = np.concatenate([sources[kept], np.full(len(many), BUSY, dtype=np.int32)])
    targets = np.concatenate([targets[kept], many])
    weights = None if weights is None else np.concatenate([weights[kept], np.ones(len(many), dtype=np.float32)])
    back = csr_from_pairs(targets, sources, n_targets)
    popular = np.argsort(-back.degrees(), kind="stable")[: len(relation.popular)].astype(np.int32)
    forth = csr_from_pairs(sources, targets, n_sources, weights)
    times = None if relation.times is None else np.resize(relation.times, len(sources))
    return replace(relation, targets=forth, sources=back, popular=popular, times=times)


def _compacted(bundle: Bundle, **kinds: CompactKind) -> Bundle:
    """The version with compact rows of these types."""
    space = bundle.space()
    tables = {name: space.entities[name] for name in kinds}
    made = {
        name: replace(
            one,
            compact=CompactRows(encoded(one.vectors, kinds[name], one.dim), kinds[name], one.dim, space.entry.width),
        )
        for name, one in tables.items()
    }
    return replace(bundle, spaces={space.name: replace(space, entities={**space.entities, **made})})


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The services' toy version with hostile ids, users of every kind, more strategies, and two relations that tell of
    whom a user follows."""
    bundle = open_bundle(write_toy_bundle(tmp_path_factory.mktemp("bundles"), "v1"))
    space = with_views(bundle.space(), "views", "visits")
    sizes = {"user": N_USERS, "hashtag": N_TAGS}
    relations = {
        name: _with_edges(one, sizes[one.entry.source], sizes[one.entry.target])
        for name, one in space.relations.items()
    }
    counting = space.entry.clusters.model_copy(update={"relation_weights": {"follows": 0.5}, "edge_weights": True})
    entry = space.entry.model_copy(
        update={"strategies": {**space.entry.strategies, **STRATEGIES}, "clusters": counting, "auto": "rescored"}
    )
    entities = {**space.entities, "hashtag": replace(space.entities["hashtag"], ids=string_ids(TAGS))}
    changed = replace(space, entry=entry, relations=relations, entities=entities)
    return replace(bundle, spaces={space.name: changed})


@pytest.fixture(scope="module")
def space(toy: Bundle) -> Space:
    return toy.space()


@pytest.fixture(scope="module", params=["exact", "scan", "ivf4"])
def recommender(request: pytest.FixtureRequest, toy: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """Over exact searchers, which answer between two calls of the engine, and over its own, which make them one, the
    last over rows of fewer bytes."""
    searchers = exact_searchers(toy)
    if request.param == "scan":
        searchers = {(at, kind): ScanSearcher(toy.spaces[at].table(kind).vectors) for at, kind in searchers}
    if request.param == "ivf4":
        toy = _compacted(toy, user="int8", hashtag="float16")
        vectors, file = toy.space().entities["user"].vectors, tmp_path_factory.mktemp("index") / "user.ivf4"
        spec = IndexSpec("ivf4", depth=400, refine=4.0, popularity_scale=0.3, lists=16)
        write_index(spec, vectors, vectors[:200], file, seed=1, threads=1, device=find_device())
        searchers["main", "user"] = read_searcher(file, spec.entry(file.name, 50), toy.space().entities["user"].scored)
    return Recommender(toy, searchers, encode_candidate, pieces_of_candidate())


def _compiled(recommender: Recommender, request: RecommendRequest, live: LiveEdges = NO_LIVE_EDGES) -> Served | Slate:
    asked = recommender.ask(request, live, share=1.0)
    return recommender.answers([asked])[0] if isinstance(asked, Plan | Question) else asked


def _judge(recommender: Recommender) -> Recommender:
    """The same without the engine."""
    judge = copy(recommender)
    judge.__dict__["_compiled"] = None
    return judge


def _require_same(recommender: Recommender, answer: Served | Slate, judge: Slate) -> None:
    """Raise AssertionError unless both say the same; candidates whose scores are within 1e-5 may change places."""
    facts = ("version", "strategy", "known", "fallback", "short")
    assert [getattr(answer, fact) for fact in facts] == [getattr(judge, fact) for fact in facts]
    if isinstance(answer, Slate):
        assert list(answer.picks) == list(judge.picks)
        return
    found = json.loads(bytes(answer.candidates))
    clusters = [*judge.modes.clusters.tolist(), None]
    expected = [
        {"id": external, "score": score, "mode": clusters[mode]}
        for external, score, mode in zip(judge.ids(), judge.picks.scores, judge.picks.modes, strict=True)
    ]
    scores = [one["score"] for one in expected]
    assert [one["score"] for one in found] == pytest.approx(scores, rel=1e-5, abs=1e-5)
    close = np.abs(np.subtract.outer(scores, scores)) <= 2e-5 * (1 + np.abs(np.array(scores)))
    for i, (one, other) in enumerate(zip(found, expected, strict=True)):
        if (one["id"], one["mode"]) != (other["id"], other["mode"]):
            assert close[i].sum() > 1, f"place {i} has {one} instead of {other}"


def _check(
    recommender: Recommender, request: RecommendRequest, live: LiveEdges = NO_LIVE_EDGES, *, covered: bool | None = None
) -> None:
    judge = _judge(recommender).recommend(request, live)
    answer = _compiled(recommender, request, live)
    if covered is not None:
        assert isinstance(answer, Served) == covered
    _require_same(recommender, answer, judge)


@pytest.mark.parametrize("relation", ["follows", "uses"])
@pytest.mark.parametrize("user", [0, 7, BUSY, 50, N_USERS - 1, None])
def test_every_strategy_answers_alike(recommender: Recommender, space: Space, user: int | None, relation: str) -> None:
    external = "nobody" if user is None else USERS[user]
    for name in ("auto", *strategies_of(space)):
        for k in (1, 7, 20):
            request = RecommendRequest(user=external, k=k, strategy=name, relation=relation)
            # Of the toy's popular candidates, a hundred are stored: too few for somebody who has seen most of them.
            _check(recommender, request, covered=None if user == BUSY else True)


@pytest.mark.parametrize("k", [1, 5, 60])
def test_of_equal_scores_the_lower_rows_are_answered_in_order(recommender: Recommender, k: int) -> None:
    request = RecommendRequest(user=USERS[50], k=k, strategy="all_alike")
    answer = _compiled(recommender, request)
    assert isinstance(answer, Served)
    found = json.loads(bytes(answer.candidates))
    assert len({one["score"] for one in found}) == 1
    assert [one["id"] for one in found] == list(_judge(recommender).recommend(request).ids())
    rows = [USERS.index(one["id"]) for one in found]
    assert rows == sorted(rows)


@pytest.mark.parametrize("fields", [
    {"k": 500},
    {"k": 50, "exclude": tuple(USERS)},
    {"k": 50, "exclude": (*USERS[10:390], "nobody", "007", "")},
    {"k": 30, "exclude_seen": False},
    {"k": 30, "modes": 1},
    {"k": 30, "modes": 99},
    {"k": 30, "followers": tuple(USERS[20:80])},
    {"k": 30, "depth": 3},
    {"k": 30, "filter": Filter(ids=tuple(USERS[100:110]))},
    {"k": 30, "filter": Filter(ids=()), "exclude": tuple(USERS[:5])},
    {"k": 30, "filter": Filter(min_in_degree=12)},
    {"k": 30, "filter": Filter(not_=Filter(ids=tuple(USERS[::2])))},
    {"k": 30, "user": None, "engagements": LiveEdges(added={"follows": (USERS[30], USERS[31], "nobody")})},
    {"k": 30, "user": None, "engagements": LiveEdges(added={"uses": (TAGS[3],)}), "followers": (USERS[40],)},
    {"k": 30, "user": None, "engagements": LiveEdges(added={"views": (USERS[30],), "follows": (USERS[31],)})},
    {"k": 30, "user": "\ud800"},
    {"k": 30, "user": "0050"},
    {"k": 30, "user": str(2**63)},
    {"k": 30, "user": str(2**64 + 5)},
    {"k": 30, "user": ""},
    {"k": 30, "user": "-1"},
])  # fmt: skip
def test_edge_cases_are_answered_alike(recommender: Recommender, space: Space, fields: dict[str, Any]) -> None:
    for name in ("auto", *strategies_of(space)):
        _check(recommender, RecommendRequest(**{"user": USERS[50], "strategy": name, **fields}))


@pytest.mark.parametrize("live", [
    LiveEdges(added={"follows": tuple(USERS[100:140])}),
    LiveEdges(removed={"follows": tuple(USERS)}),
    LiveEdges(added={"follows": (USERS[3],)}, removed={"follows": (USERS[3],), "uses": tuple(TAGS)}),
    LiveEdges(added={"uses": tuple(TAGS[:9])}, blocked={"user": tuple(USERS[60:90]), "hashtag": (TAGS[0],)}),
    LiveEdges(added={"views": tuple(USERS[100:140]), "visits": tuple(USERS[120:150])}),
    LiveEdges(added={"visits": (USERS[3],)}, removed={"views": tuple(USERS)}, blocked={"user": (USERS[3],)}),
    LiveEdges(added={"of another version": ("1",)}),
    LiveEdges(blocked={"user": ("nobody", USERS[1])}),
])  # fmt: skip
def test_live_engagements_count_alike(recommender: Recommender, space: Space, live: LiveEdges) -> None:
    for name in ("auto", *strategies_of(space)):
        for user in (0, 7, 50):
            for relation in ("follows", "uses"):
                _check(recommender, RecommendRequest(user=USERS[user], k=25, strategy=name, relation=relation), live)


@pytest.fixture(scope="module")
def ageing(toy: Bundle) -> Recommender:
    """The toy with a half-life of a day over two relations of two clocks, of which one is no Unix time."""
    space, rng = toy.space(), np.random.default_rng(8)
    clocks = {"follows": Clock(number=1, per_second=1e3), "uses": Clock(number=2)}
    spans = {"follows": (1_700_000_000_000, 1_700_500_000_000), "uses": (0, 90)}
    relations = {
        name: replace(one, times=rng.integers(*spans[name], len(one.targets.indices))) if name in spans else one
        for name, one in space.relations.items()
    }
    tags = rng.integers(-1, space.entry.clusters.count, N_TAGS).astype(np.int32)
    counting = space.entry.clusters.model_copy(update={"half_life": 86_400_000.0, "clocks": clocks})
    entry = space.entry.model_copy(update={"clusters": counting})
    changed = replace(with_tags(space, tags), entry=entry, relations=relations)
    bundle = replace(toy, spaces={space.name: changed})
    return Recommender(bundle, exact_searchers(bundle), encode_candidate, pieces_of_candidate())


@pytest.mark.parametrize("live", [
    LiveEdges(added={"follows": (USERS[100], USERS[101], "nobody")}, times={"follows": (1.7001e9, 1.7004e9, 9e9)}),
    LiveEdges(added={"follows": tuple(USERS[60:100]), "uses": tuple(TAGS[:9])}, times={"follows": (1.69e9,) * 40}),
    LiveEdges(added={"follows": (USERS[100],)}, removed={"follows": tuple(USERS[:90])}, times={"follows": (0.0,)}),
    LiveEdges(added={"follows": (USERS[70],) * 3}, times={"follows": (1.7e9, 1.701e9, 1.6e9)}),
    LiveEdges(added={"uses": (TAGS[3],)}),
])  # fmt: skip
def test_live_engagements_fade_alike(ageing: Recommender, live: LiveEdges) -> None:
    for name in ("everything", "lists_and_followers", "medoids_searched"):
        for user in (USERS[0], USERS[7], USERS[50], USERS[BUSY], "nobody"):
            _check(ageing, RecommendRequest(user=user, k=25, strategy=name), live)


@pytest.fixture(scope="module")
def parted(toy: Bundle) -> Recommender:
    """The toy with interests in its hashtags beside those in its users, and lists of these."""
    space = with_interests_in_tags(toy.space(), np.random.default_rng(9))
    bundle = replace(toy, spaces={space.name: space})
    return Recommender(bundle, exact_searchers(bundle), encode_candidate, pieces_of_candidate())


@pytest.mark.parametrize("relation", ["uses", "follows"])
@pytest.mark.parametrize("live", [
    NO_LIVE_EDGES,
    LiveEdges(added={"uses": tuple(TAGS[:9])}),
    LiveEdges(added={"follows": tuple(USERS[60:100])}, removed={"uses": tuple(TAGS[20:])}),
    LiveEdges(removed={"uses": tuple(TAGS)}),
])  # fmt: skip
def test_interests_of_several_types_are_drawn_from_alike(parted: Recommender, live: LiveEdges, relation: str) -> None:
    for name in ("everything", "centroids", "medoids_searched"):
        for user in (USERS[0], USERS[7], USERS[50], USERS[BUSY], "nobody"):
            _check(parted, RecommendRequest(user=user, k=25, strategy=name, relation=relation), live)


@pytest.mark.parametrize("live", [NO_LIVE_EDGES, LiveEdges(added={"uses": tuple(TAGS[:9])})])
def test_targets_that_were_not_clustered_are_answered_without_modes_alike(toy: Bundle, live: LiveEdges) -> None:
    space = toy.space()
    named = replace(space.clusters, interests=(replace(space.clusters.interests[0], answers_all=False),))
    bundle = replace(toy, spaces={space.name: replace(space, clusters=named)})
    recommender = Recommender(bundle, exact_searchers(bundle), encode_candidate, pieces_of_candidate())
    for name in ("everything", "centroids", "medoids_searched"):
        for user in (USERS[0], USERS[7], USERS[50], USERS[BUSY], "nobody"):
            request = RecommendRequest(user=user, k=25, strategy=name, relation="uses")
            _check(recommender, request, live)
            slate = _judge(recommender).recommend(request, live)
            assert set(slate.picks.modes) <= {NO_MODE}


@pytest.mark.parametrize("seed", range(5))
def test_random_requests_are_answered_alike(recommender: Recommender, space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)

    def some(pool: list[str], most: int) -> tuple[str, ...]:
        return tuple(rng.choice(pool, int(rng.integers(0, most))).tolist())

    for _ in range(40):
        relation = str(rng.choice(["follows", "uses"]))
        targets = USERS if relation == "follows" else TAGS
        request = RecommendRequest(
            user=None if rng.random() < 0.1 else str(rng.choice([*USERS, "nobody"])),
            engagements=LiveEdges(added={"follows": some(USERS, 5)} if rng.random() < 0.3 else {}),
            k=int(rng.integers(1, 90)),
            relation=relation,
            strategy=str(rng.choice(["auto", *strategies_of(space)])),
            modes=int(rng.integers(1, 7)) if rng.random() < 0.5 else None,
            exclude=some(targets, 60) if rng.random() < 0.5 else (),
            exclude_seen=bool(rng.random() < 0.8),
            filter=Filter(ids=some(targets, len(targets))) if rng.random() < 0.3 else None,
            followers=some(USERS, 30) if relation == "follows" and rng.random() < 0.3 else (),
        )
        live = LiveEdges(
            added={"follows": some(USERS, 20), "uses": some(TAGS, 6), "views": some(USERS, 9)}
            if rng.random() < 0.4
            else {},
            removed={"follows": some(USERS, 200)} if rng.random() < 0.3 else {},
            blocked={"user": some(USERS, 40)} if rng.random() < 0.3 else {},
        )
        if rng.random() < 0.5:
            dates = 1.7e9 + 86_400 * rng.integers(0, 15, len(live.added.get("views", ())))
            live = replace(live, times={"views": tuple(dates.tolist())})
        _check(recommender, request, live)


def test_many_are_answered_as_one_alone(recommender: Recommender, space: Space) -> None:
    requests = [
        RecommendRequest(user=USERS[user], k=10 + user % 3, strategy=name)
        for user in range(0, N_USERS, 40)
        for name in strategies_of(space)
    ]
    asked = [recommender.ask(request) for request in requests]
    waiting = [one for one in asked if isinstance(one, Plan | Question)]
    searched = iter(recommender.answers(waiting))
    together = [next(searched) if isinstance(one, Plan | Question) else one for one in asked]
    for request, answer in zip(requests, together, strict=True):
        _require_same(recommender, answer, _judge(recommender).recommend(request))


@pytest.mark.parametrize("relation", ["follows", "uses"])
def test_lists_for_many_users_are_those_of_each_alone(recommender: Recommender, relation: str) -> None:
    space = recommender.bundle.space()  # which may have its rows in fewer bytes
    users = np.array([*NO_FOLLOWS, *NOTHING, BUSY, *range(40, 60)])
    for name in strategies_of(space, relation):
        for strategy in (name, strategies_of(space, relation)[name]):
            lists = recommender.for_users(users, strategy, 30, relation=relation)
            plans = [plan_user(space, space.relation(relation), user, strategy, 30) for user in users.tolist()]
            _require_lists(recommender, lists, plans)


@pytest.mark.parametrize("relation", ["follows", "uses"])
def test_lists_for_many_newcomers_are_those_of_each_alone(recommender: Recommender, relation: str) -> None:
    space = recommender.bundle.space()
    one, rng = space.relation(relation), np.random.default_rng(4)
    n = 24
    engaged = [np.sort(rng.choice(len(one.sources), size, replace=False)) for size in rng.integers(0, 12, n)]
    followed = [np.sort(rng.choice(N_USERS, size, replace=False)) for size in rng.integers(0, 5, n)]
    followed = followed if one.entry.source == one.entry.target else [NOBODY] * n
    told, followers = _rows_of(engaged), _rows_of(followed)
    for name, strategy in strategies_of(space, relation).items():
        lists = recommender.for_newcomers(told, followers, name, 30, relation=relation)
        plans = [plan_newcomer(space, one, told.row(i), followers.row(i), strategy, 30) for i in range(n)]
        _require_lists(recommender, lists, plans)


def test_newcomers_who_are_known_by_other_relations_too_are_answered_alike(recommender: Recommender) -> None:
    space, rng, n = recommender.bundle.space(), np.random.default_rng(5), 16
    follows = space.relation("follows")
    told, views = (_rows_of([rng.choice(N_USERS, 4, replace=False) for _ in range(n)]) for _ in range(2))
    nobody, days = _rows_of([NOBODY] * n), rng.integers(1, 9, 4 * n)
    others = {"views": DatedLists(views, days), "visits": DatedLists(told)}
    for name, strategy in strategies_of(space, "follows").items():
        lists = recommender.for_newcomers(told, nobody, name, 30, relation="follows", others=others)
        also = [{name: one.row(i) for name, one in others.items()} for i in range(n)]
        plans = [plan_newcomer(space, follows, told.row(i), NOBODY, strategy, 30, also[i]) for i in range(n)]
        _require_lists(recommender, lists, plans)


@pytest.mark.parametrize("fields", [{"explain": True}, {"diversity": 0.3}])
def test_what_python_answers_is_rescored_by_the_engine(recommender: Recommender, fields: dict[str, Any]) -> None:
    for user in (0, BUSY, 50, 61):
        request = RecommendRequest(user=USERS[user], strategy="rescored", k=20, **fields)
        answer, judge = recommender.ask(request), _judge(recommender).recommend(request)
        assert isinstance(answer, Plan)
        found = recommender.answers([answer])[0]
        assert isinstance(found, Slate)
        assert sorted(found.picks.rows) == sorted(judge.picks.rows)
        np.testing.assert_allclose(found.picks.scores, judge.picks.scores, rtol=1e-5, atol=1e-5)
        # Their inputs are the engine's: equal but for the last digits.
        assert _but_for_shares(found.reasons) == _but_for_shares(judge.reasons)
        np.testing.assert_allclose(_shares(found.reasons), _shares(judge.reasons), rtol=1e-5, atol=1e-5)


def _but_for_shares(reasons: Any) -> list[Any]:
    return [
        (one.kind, one.count, one.via, [(other.entity_type, other.row) for other in one.because])
        for each in reasons
        for one in each
    ]


def _shares(reasons: Any) -> list[float]:
    return [share for each in reasons for one in each for share in (one.share, *(other.share for other in one.because))]


def _rows_of(lists: list[Any]) -> Csr:
    owner = np.repeat(np.arange(len(lists), dtype=np.int32), [len(one) for one in lists])
    return csr_from_pairs(owner, np.concatenate(lists).astype(np.int32), len(lists))


def _require_lists(recommender: Recommender, lists: Any, plans: list[Plan]) -> None:
    """The engine's rows are those of the plans' slates, but for the order of those whose scores differ by 1e-5."""
    assert len(lists) == len(plans)
    for rows, plan in zip(lists, plans, strict=True):
        picks = (recommender.at_once(plan) or _judge(recommender).search([plan])[0]).picks
        assert sorted(rows.tolist()) == sorted(picks.rows)
        scores = dict(zip(picks.rows, picks.scores, strict=True))
        by_rank = [scores[row] for row in rows.tolist()]
        np.testing.assert_allclose(by_rank, picks.scores, rtol=1e-5, atol=1e-5)


def test_without_the_engine_python_answers_the_same_lists(
    recommender: Recommender, toy: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, searchers = np.arange(40, 60), exact_searchers(toy)
    by_engine = Recommender(toy, searchers).for_users(users, "rescored", 20, relation="follows")
    monkeypatch.setattr("recommend.recommender.available", lambda: False)
    monkeypatch.setattr("engine.native", lambda: pytest.fail("the engine was asked"))
    in_python = Recommender(toy, searchers).for_users(users, "rescored", 20, relation="follows")
    assert [sorted(rows.tolist()) for rows in by_engine] == [sorted(rows.tolist()) for rows in in_python]


def test_a_share_of_the_depth_is_searched_and_said(recommender: Recommender) -> None:
    request = RecommendRequest(user=USERS[50], strategy="unimodal", k=20)
    whole, half = (_compiled(recommender, request), recommender.ask(request, share=0.5))
    assert isinstance(whole, Served)
    assert whole.searched
    assert isinstance(half, Served | Question)
    lists = recommender.ask(RecommendRequest(user=USERS[50], strategy="centroids", k=5), share=0.5)
    assert isinstance(lists, Served)
    assert not lists.searched


def test_who_has_very_many_edges_is_left_to_the_search_thread(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = RecommendRequest(user=USERS[BUSY], strategy="unimodal", k=20)
    monkeypatch.setattr(compiled, "FEW_EDGES", 2)
    asked = recommender.ask(request, share=1.0)
    assert isinstance(asked, Question)
    _require_same(recommender, recommender.answers([asked])[0], _judge(recommender).recommend(request))


def test_edges_of_other_relations_are_read_too(
    recommender: Recommender, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher = recommender._searchers[space.name, "user"]
    request, asked_for = RecommendRequest(user=USERS[50], strategy="unimodal", k=20), space.relation("follows")
    alone = len(asked_for.targets.row(50)) + len(asked_for.sources.row(50))
    others = sum(len(space.relation(name).targets.row(50)) for name in asked_for.entry.elsewhere)
    assert others
    for few, at_once in ((alone, False), (alone + others, isinstance(searcher, NativeSearcher))):
        monkeypatch.setattr(compiled, "FEW_EDGES", few)
        assert isinstance(recommender.ask(request, share=1.0), Served if at_once else Question)


def test_what_holds_nobody_up_is_searched_at_once_with_a_filter_where_all_rows_are_scored(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher = recommender._searchers["main", "user"]
    plain = RecommendRequest(user=USERS[50], strategy="unimodal", k=20)
    filtered = RecommendRequest(user=USERS[50], strategy="unimodal", k=20, filter=Filter(ids=tuple(USERS[100:180])))
    interests = RecommendRequest(user=USERS[50], strategy="mixture", k=20, modes=2)

    def at_once(request: RecommendRequest, share: float = 1.0) -> bool:
        return isinstance(recommender.ask(request, share=share), Served)

    native, scans = isinstance(searcher, NativeSearcher), isinstance(searcher, ScanSearcher)
    assert (at_once(plain), at_once(filtered), at_once(interests)) == (native, scans, native)
    for request in (plain, filtered, interests):
        prepared = recommender.prepared(request, share=0.5)
        assert prepared is not None
        assert prepared.reduced == (native and not scans and request is not filtered)
    one_query = searcher.size * (searcher.width + PRODUCTS_A_ROW)
    for limit, expected in ((one_query, (native, native and not scans)), (one_query - 1, (native and not scans,) * 2)):
        monkeypatch.setattr("index.search.native.FEW_PRODUCTS", limit)
        assert (at_once(plain), at_once(interests)) == expected


def test_what_a_batch_excludes_is_looked_up_once(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    exclude, looked_up = tuple(USERS[:30]), list[object]()
    find = compiled.Compiled._row
    monkeypatch.setattr(compiled.Compiled, "_row", lambda *given: looked_up.append(given[2]) or find(*given))
    for user in USERS[40:44]:
        _check(recommender, RecommendRequest(user=user, strategy="unimodal", k=20, exclude=exclude))
    assert len(looked_up) < 2 * len(exclude)


def test_what_cannot_be_asked_is_refused_in_the_same_words(recommender: Recommender) -> None:
    for fields in (
        {"relation": "nonsense"},
        {"space": "nonsense"},
        {"strategy": "nonsense"},
        {"relation": "uses", "followers": ("1",)},
        {"candidate_type": "nonsense"},
        {"k": 0},
    ):
        request = RecommendRequest(user=USERS[5], **fields)  # type: ignore[arg-type]
        with pytest.raises(QueryError) as judge:
            _judge(recommender).recommend(request)
        with pytest.raises(QueryError) as error:
            recommender.ask(request)
        assert str(error.value) == str(judge.value)


def test_what_is_to_be_explained_takes_the_path_in_python(recommender: Recommender) -> None:
    asked = recommender.ask(RecommendRequest(user=USERS[50], explain=True), share=1.0)
    assert isinstance(asked, Plan | Slate)


def test_candidates_are_written_as_the_service_writes_them(recommender: Recommender, space: Space) -> None:
    answer = _compiled(recommender, RecommendRequest(user=USERS[7], k=N_TAGS, strategy="popular", relation="uses"))
    assert isinstance(answer, Served)
    found = json.loads(bytes(answer.candidates))
    ours = b"[" + b",".join(encode_candidate(one["id"], one["score"], 0) for one in found) + b"]"
    assert bytes(answer.candidates) == ours.replace(b'"mode":0', b'"mode":null')
    assert {one["id"] for one in found} == set(TAGS)


@pytest.mark.parametrize("n_followers", [0, 1, 2, 17, 600])
@pytest.mark.parametrize("n_targets", [0, 1, 2, 3, 21, 600])
def test_features_are_those_of_the_definition(level: str, space: Space, n_targets: int, n_followers: int) -> None:
    _require_features(space, n_targets, n_followers, 19, None)  # no multiple of any register


@pytest.mark.parametrize("dim", [19, 20, 128])
@pytest.mark.parametrize(("n_targets", "n_followers"), [(0, 0), (1, 17), (5, 0), (21, 600)])
def test_rows_that_are_kept_as_bytes_have_the_features_of_what_they_stand_for(
    level: str, space: Space, n_targets: int, n_followers: int, dim: int
) -> None:
    _require_features(space, n_targets, n_followers, dim, "int8")


def _require_features(space: Space, n_targets: int, n_followers: int, dim: int, kind: CompactKind | None) -> None:
    rng = np.random.default_rng(n_targets + n_followers)
    n = 900
    vectors = rng.normal(size=(n, dim + 1)).astype(np.float32) * np.float32((19 / dim) ** 0.5)
    vectors[5] = 0.0  # a length of nothing
    # Some have hundreds of edges: of their lists and their candidates' only a part is read.
    edges = (n * rng.random((2, 60_000)) ** ((2,), (3,))).astype(np.int32)
    compact = None if kind is None else CompactRows(encoded(vectors, kind, dim), kind, dim, dim + 1)
    relation, handle = _relation(vectors, edges, dim, compact)
    table = EntityTable("node", string_ids(["x"]), vectors, dim, compact=compact)
    small = replace(space, entities={"node": table}, relations={"r": relation})
    targets = np.sort(rng.choice(n, n_targets, replace=False))
    followers = np.sort(rng.choice(n, n_followers, replace=False))
    candidates = rng.permutation(n)[:333].astype(np.int32)
    had = np.sort(rng.choice(n, 10 * n_targets % 700, replace=False))
    elsewhere = Elsewhere(had, *rng.random((2, len(had)), dtype=np.float32))
    for vector in (vectors[3, :dim].copy(), None):
        profile = Profile(
            small, None, vector, targets, ((relation, targets),), NO_MODES, followers, elsewhere=elsewhere
        )
        wanted = features_of(small, relation, profile, candidates)
        found = np.full((len(candidates), len(FEATURES)), np.nan, dtype=np.float32)
        known = targets.astype(np.int32), followers.astype(np.int32), had.astype(np.int32), *elsewhere[1:]
        engine.native().features(handle, -1, vector, *known, candidates, found)
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


def _relation(vectors: Any, edges: Any, dim: int, compact: CompactRows | None = None) -> tuple[Relation, Any]:
    """A relation among the rows of `vectors`, by the pairs of `edges`: for Python, and the engine's handle."""
    n, native = len(vectors), engine.native()
    forth = csr_from_pairs(edges[0], edges[1], n, distinct=True)
    back = forth.transposed(n)
    forward, popular = np.ones(dim, dtype=np.float32), np.arange(0, dtype=np.int32)
    entry = RelationEntry(name="r", source="node", target="node")
    rows = native.rows(vectors) if compact is None else native.coded_rows(compact.stored, dim)
    table = native.entities(native.number_ids(np.arange(n)), rows, dim, None)
    none = native.mixtures(table, np.zeros(n + 1, np.int64), popular, forward[:0])
    edges = forth.indptr, forth.indices, None, back.indptr, back.indices
    handle = native.relation(table, table, forward, *edges, popular, 1.0, 0, 0, None, 0, none)
    return Relation(entry, 0, forward, forward, forth, back, popular), handle


@pytest.mark.parametrize("relation", ["follows", "uses"])
def test_what_the_likest_users_have_is_the_same(recommender: Recommender, space: Space, relation: str) -> None:
    chosen, wanted = space.relation(relation), Neighbours(users=5, candidates=40)
    found = 0
    for user in range(N_USERS):
        profile = profile_of_row(space, chosen, user, NO_LIVE_EDGES, n_modes=0)
        by_engine = recommender.of_neighbours(chosen, profile, wanted)
        np.testing.assert_array_equal(by_engine, _judge(recommender).of_neighbours(chosen, profile, wanted))
        found += len(by_engine)
    assert found > N_USERS


def test_likest_users_are_of_rows_that_are_there(recommender: Recommender, space: Space) -> None:
    native, handles = engine.native(), SpaceHandles(engine.native(), space)
    out, nobody = np.empty(5, dtype=np.int32), np.empty(0, dtype=np.int32)
    follows = handles.relations["follows"]
    assert native.neighbours(follows, -1, nobody, 3, out) == 0
    for row, targets, users in ((N_USERS, [0], 3), (0, [N_USERS], 3), (0, [-1], 3), (0, [1], 0)):
        with pytest.raises(ValueError, match="not there|at least one neighbour"):
            native.neighbours(follows, row, np.array(targets, dtype=np.int32), users, out)


def test_what_the_likest_users_have_joins_what_the_search_finds(recommender: Recommender, space: Space) -> None:
    follows, wanted = space.relation("follows"), Neighbours(users=4, candidates=20)
    by_walk = Rescoring(
        pool=1, features=("walk",), mean=(0.0,), scale=(1.0,), hidden=((1.0,),), bias=(0.0,), out=(1.0,)
    )
    farthest = Strategy(merge="single", weights=QueryWeights(user=-1.0), rescoring=by_walk)
    with_theirs = farthest.model_copy(update={"rescoring": by_walk.model_copy(update={"neighbours": wanted})})
    users = np.arange(40, 60)
    for one in (recommender, _judge(recommender)):
        alone = one.for_users(users, farthest, 1, relation="follows")
        found = one.for_users(users, with_theirs, 15, relation="follows")
        missed = 0
        for user, first, rows in zip(users.tolist(), alone, found, strict=True):
            profile = profile_of_row(space, follows, user, NO_LIVE_EDGES, n_modes=0)
            theirs = one.of_neighbours(follows, profile, wanted)
            missed += first[0] not in theirs
            assert rows[0] in theirs
            assert len(set(rows.tolist())) == 15
            assert not np.isin(rows, [*profile.targets, user]).any()
        assert missed > 15


class FindsNothing(ExactSearcher):
    """As an approximate search may that is asked for few eligible rows."""

    def _search(self, queries: Any, k: int, depth: int | None, exclude: Any, eligible: Any) -> list[Hits]:
        return super()._search(queries, k, depth, [np.arange(self.size)] * len(queries), eligible)


def test_where_the_search_finds_nothing_the_likest_users_answer(toy: Bundle, space: Space) -> None:
    networks = {"alone": _network(3), "with_theirs": _network(3, neighbours=Neighbours(users=4, candidates=30))}
    plain = {
        name: Strategy(merge="single", weights=QueryWeights(user=1.0), rescoring=one) for name, one in networks.items()
    }
    entry = space.entry.model_copy(update={"strategies": {**space.entry.strategies, **plain}})
    bundle = replace(toy, spaces={space.name: replace(space, entry=entry)})
    searchers = {**exact_searchers(toy), ("main", "user"): FindsNothing(space.table("user").vectors)}
    recommender = Recommender(bundle, searchers, encode_candidate, pieces_of_candidate())
    for strategy, fallback in (("alone", "popular"), ("with_theirs", None)):
        request = RecommendRequest(user=USERS[41], strategy=strategy, k=5)
        assert _judge(recommender).recommend(request).fallback == fallback
        _check(recommender, request)

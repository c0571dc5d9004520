"""Filters: what the compiled bitmap keeps is what a plain look at every entity keeps, and no answer is without it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.attributes import Categories, Scalars
from bundle.csr import csr_from_pairs
from bundle.errors import FilterInvalid
from bundle.ids import string_ids
from bundle.space import Bundle, Space
from index.search.eligible import rows_of
from recommend.filters import (
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_VALUES,
    Filter,
    FilterCache,
    _unknown,
    compile_filter,
)
from recommend.recommender import Recommender
from recommend.types import LiveEdges, RecommendRequest, Slate
from tests.support.service_bundle import ATTRIBUTES, N_USERS, STRATEGIES, user_ids

USERS = user_ids()
NAMES = ["auto", *STRATEGIES]
DAY = 86_400


def plain_values(row: int) -> dict[str, list[Any]]:
    """What the entity of `row` has, as lists of Python values."""
    found: dict[str, list[Any]] = {}
    for name, attribute in ATTRIBUTES["user"].items():
        if isinstance(attribute, Categories):
            found[name] = attribute.vocabulary.externals(attribute.codes.row(row))
        elif isinstance(attribute, Scalars) and attribute.has()[row]:
            value = attribute.values[row].item()
            found[name] = [bool(value) if attribute.kind == "boolean" else value]
    return found


PLAIN = [plain_values(row) for row in range(N_USERS)]
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "is": lambda have, value: have == value,
    "in": lambda have, value: have in value,
    "gt": lambda have, value: have > value,
    "gte": lambda have, value: have >= value,
    "lt": lambda have, value: have < value,
    "lte": lambda have, value: have <= value,
}


def keeps(condition: dict[str, Any], row: int, degrees: list[int]) -> bool:
    """Whether the entity of `row` meets `condition`, by the words of docs/recommending.md."""
    parts = []
    if "all" in condition:
        parts.append(all(keeps(one, row, degrees) for one in condition["all"]))
    if "any" in condition:
        parts.append(any(keeps(one, row, degrees) for one in condition["any"]))
    if "not" in condition:
        parts.append(not keeps(condition["not"], row, degrees))
    if "ids" in condition:
        parts.append(USERS[row] in [str(one) for one in condition["ids"]])
    if "min_in_degree" in condition:
        parts.append(degrees[row] >= condition["min_in_degree"])
    if "newer_than" in condition:
        parts.append(PLAIN[row]["joined"][0] > condition["newer_than"])
    if "attribute" in condition:
        have = PLAIN[row].get(condition["attribute"], [])
        if "exists" in condition:
            parts.append(bool(have) == condition["exists"])
        parts += [any(COMPARE[name](one, condition[name]) for one in have) for name in COMPARE if name in condition]
    return all(parts)


def _leaf() -> st.SearchStrategy[dict[str, Any]]:
    categories = {"country": st.sampled_from(["at", "ch", "de"]), "speaks": st.sampled_from(["de", "en"])}
    numbers = st.one_of(st.integers(15, 45), st.sampled_from([18.5, 20.0, 42.25]))
    times = st.integers(-1, N_USERS).map(lambda day: 1_700_000_000 + DAY * day)
    ranges = st.sampled_from(["gt", "gte", "lt", "lte"])
    return st.one_of(
        *(values.map(lambda v, name=name: {"attribute": name, "is": v}) for name, values in categories.items()),
        st.lists(categories["country"], max_size=3).map(lambda v: {"attribute": "country", "in": v}),
        st.tuples(ranges, numbers).map(lambda p: {"attribute": "age", p[0]: p[1]}),
        st.tuples(numbers, numbers).map(lambda p: {"attribute": "age", "gte": p[0], "lt": p[1]}),
        st.lists(numbers, max_size=4).map(lambda v: {"attribute": "age", "in": v}),
        st.tuples(ranges, times).map(lambda p: {"attribute": "joined", p[0]: p[1]}),
        st.booleans().map(lambda value: {"attribute": "bot", "is": value}),
        st.tuples(st.sampled_from(list(ATTRIBUTES["user"])), st.booleans()).map(
            lambda p: {"attribute": p[0], "exists": p[1]}
        ),
        times.map(lambda value: {"newer_than": value}),
        st.integers(0, 30).map(lambda value: {"min_in_degree": value}),
        st.lists(st.sampled_from([*USERS[:30], "nobody", 0]), max_size=6).map(lambda v: {"ids": v}),
    )


CONDITIONS = st.recursive(
    _leaf(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: {"all": parts}),
        st.lists(inner, max_size=3).map(lambda parts: {"any": parts}),
        inner.map(lambda part: {"not": part}),
        st.tuples(inner, st.integers(0, 30)).map(lambda p: {"any": [p[0]], "min_in_degree": p[1]}),
    ),
    max_leaves=8,
)


def decoded(condition: dict[str, Any]) -> Filter:
    return msgspec.json.decode(json.dumps(condition), type=Filter)


def compiled(space: Space, condition: dict[str, Any]) -> list[int]:
    follows = space.relations["follows"]
    bitmap = compile_filter(space, follows, space.entities["user"], decoded(condition))
    rows: list[int] = rows_of(bitmap).tolist()
    return rows


@settings(max_examples=300, deadline=None)
@given(condition=CONDITIONS)
def test_the_bitmap_keeps_whom_a_plain_look_keeps(space: Space, condition: dict[str, Any]) -> None:
    degrees = space.relations["follows"].sources.degrees().tolist()
    assert compiled(space, condition) == [row for row in range(N_USERS) if keeps(condition, row, degrees)]


def test_a_date_is_a_time_of_utc(space: Space) -> None:
    moment = datetime(2024, 3, 1, tzinfo=UTC)
    expected = compiled(space, {"attribute": "joined", "gte": int(moment.timestamp())})
    assert 0 < len(expected) < N_USERS
    for text in (
        "2024-03-01",
        "2024-03-01T00:00:00Z",
        "2024-03-01 00:00 UTC",
        "2024-03-01T01:00:00.000000+01:00",
        "2024-02-29T22:30:00 -0130",
    ):
        assert compiled(space, {"attribute": "joined", "gte": text}) == expected


def test_a_time_between_two_seconds_is_nobodys(space: Space) -> None:
    assert compiled(space, {"attribute": "joined", "is": 1_700_000_000}) == [0]
    assert compiled(space, {"attribute": "joined", "is": 1_700_000_000.5}) == []


def test_in_degrees_of_another_relation_are_counted_where_it_leads_there(space: Space) -> None:
    uses, tags = space.relations["uses"], space.entities["hashtag"]
    bitmap = compile_filter(space, None, tags, decoded({"min_in_degree": 20, "relation": "uses"}))
    assert rows_of(bitmap).tolist() == np.flatnonzero(uses.sources.degrees() >= 20).tolist()


REFUSED = {
    "unknown attribute": ({"all": [{"ids": []}, {"attribute": "nope", "is": 1}]}, "/filter/all/1/attribute"),
    "text for a number": ({"attribute": "age", "is": "18"}, "/filter/is"),
    "truth for a number": ({"attribute": "age", "is": True}, "/filter/is"),
    "a number for a category": ({"attribute": "country", "in": ["at", 3]}, "/filter/in/1"),
    "an unknown category": ({"all": [{"attribute": "country", "is": "nope"}]}, "/filter/all/0/is"),
    "an unknown one of several": (
        {"all": [{"attribute": "country", "in": ["at", "nope"]}, {"ids": []}]},
        "/filter/all/0/in/1",
    ),
    "a category of another case": ({"attribute": "country", "is": "At"}, "/filter/is"),
    "a category of another attribute": ({"attribute": "country", "is": "en"}, "/filter/is"),
    "text without a letter": ({"attribute": "country", "is": ""}, "/filter/is"),
    "a range of categories": ({"any": [{"not": {"attribute": "country", "gt": 1}}]}, "/filter/any/0/not/gt"),
    "a range of truth": ({"attribute": "bot", "lt": 1}, "/filter/lt"),
    "a number for truth": ({"attribute": "bot", "is": 1}, "/filter/is"),
    "no date": ({"attribute": "joined", "lt": "yesterday"}, "/filter/lt"),
    "no such day": ({"attribute": "joined", "lt": "2026-02-31"}, "/filter/lt"),
    "no time": ({"newer_than": "soon"}, "/filter/newer_than"),
    "newer than of a number": ({"newer_than": 1, "attribute": "age"}, "/filter/attribute"),
    "an attribute alone": ({"attribute": "age"}, "/filter/attribute"),
    "a comparison alone": ({"is": 1}, "/filter/attribute"),
    "nothing": ({"all": [{}]}, "/filter/all/0"),
    "a relation alone": ({"relation": "follows"}, "/filter/relation"),
    "a relation that leads elsewhere": ({"min_in_degree": 1, "relation": "uses"}, "/filter/relation"),
    "an unknown relation": ({"min_in_degree": 1, "relation": "nope"}, "/filter/relation"),
    "too large a number": ({"attribute": "age", "is": 10**400}, "/filter/is"),
    "too many conditions": ({"any": [{"ids": []}] * MAX_CONDITIONS}, "/filter"),
    "too many values": ({"attribute": "country", "in": ["x"] * (MAX_VALUES + 1)}, "/filter"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_by_its_place_and_not_repeated(space: Space, name: str) -> None:
    condition, pointer = REFUSED[name]
    with pytest.raises(FilterInvalid) as caught:
        compiled(space, condition)
    assert caught.value.pointer == pointer
    assert not any(word in str(caught.value) for word in ("nope", "yesterday", "soon", "xxxx"))


def test_a_refused_category_is_answered_with_those_there_are(space: Space) -> None:
    with pytest.raises(FilterInvalid, match="there are: at, ch, de$"):
        compiled(space, {"attribute": "country", "is": "Austria"})
    many = Categories(
        string_ids([f"{i:03}" for i in range(50)]),
        csr_from_pairs(np.array([0], dtype=np.int32), np.array([7], dtype=np.int32), 1),
    )
    complaint = _unknown(many, ("x",), "/filter/is")
    assert str(complaint).endswith(" and 30 more: /v1/attributes has them")
    assert "000, 001" in str(complaint)


def test_an_unknown_category_is_passed_over_where_somebody_is_kept(space: Space) -> None:
    """A category that the next version has no longer must not break a request that has candidates without it."""
    at = {"attribute": "country", "is": "at"}
    unknown = {"attribute": "country", "in": ["gone"]}
    assert compiled(space, {"attribute": "country", "in": ["gone", "at"]}) == compiled(space, at)
    assert compiled(space, {"any": [at, unknown]}) == compiled(space, at)
    assert compiled(space, {"all": [at, {"not": unknown}]}) == compiled(space, at)
    assert compiled(space, {"all": [{"ids": []}, {"not": unknown}]}) == []


def test_too_deep_a_filter_is_refused(space: Space) -> None:
    condition: dict[str, Any] = {"ids": []}
    for _ in range(MAX_DEPTH):
        condition = {"not": condition}
    with pytest.raises(FilterInvalid, match="16 deep"):
        compiled(space, condition)


def test_labels_are_not_compared(space: Space) -> None:
    tags = space.entities["hashtag"]
    with pytest.raises(FilterInvalid, match="label"):
        compile_filter(space, None, tags, decoded({"attribute": "title", "is": "Tag 1"}))
    labelled = rows_of(compile_filter(space, None, tags, decoded({"attribute": "title", "exists": True})))
    assert labelled.tolist() == [row for row in range(len(tags)) if row % 5]


def test_the_cache_keeps_the_same_array_until_it_is_full_and_tells_true_from_one(space: Space) -> None:
    users, follows = space.entities["user"], space.relations["follows"]
    cache = FilterCache(kept_bytes=300)
    first = decoded({"attribute": "bot", "is": True})
    bitmap = cache.bitmap(space, follows, users, first)
    assert cache.kept(space, follows, users, first) is bitmap
    assert cache.bitmap(space, follows, users, decoded({"attribute": "bot", "is": True})) is bitmap
    with pytest.raises(FilterInvalid):
        cache.bitmap(space, follows, users, decoded({"attribute": "bot", "is": 1}))
    for number in range(10):
        cache.bitmap(space, follows, users, decoded({"min_in_degree": number}))
    assert len(cache) < 5
    assert cache.kept(space, follows, users, first) is None
    deep = Filter(min_in_degree=1)
    for _ in range(3000):
        deep = Filter(not_=deep)
    for ask in (cache.kept, cache.bitmap):
        with pytest.raises(FilterInvalid, match="deep"):
            ask(space, follows, users, deep)


HALF = {"attribute": "bot", "exists": True, "not": {"attribute": "bot", "is": True}}
FEW = {"all": [{"attribute": "country", "is": "at"}, {"attribute": "age", "lt": 20.5}]}


def _ask(recommender: Recommender, user: str | None = USERS[5], **fields: Any) -> Slate:
    return recommender.recommend(RecommendRequest(user=user, **fields))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("condition", [HALF, FEW], ids=["many are eligible", "few are eligible"])
def test_every_strategy_fills_its_answer_with_eligible_candidates(
    recommender: Recommender, space: Space, name: str, condition: dict[str, Any]
) -> None:
    seen = {5, *space.relations["follows"].targets.row(5).tolist()}
    eligible = set(compiled(space, condition)) - seen
    slate = _ask(recommender, strategy=name, k=20, filter=decoded(condition))
    assert set(slate.rows.tolist()) <= eligible
    assert len(slate.picks) == len(set(slate.rows.tolist())) == min(20, len(eligible))
    assert slate.short == (len(eligible) < 20)


@pytest.mark.parametrize("name", NAMES)
def test_every_eligible_candidate_comes_when_k_asks_for_more(recommender: Recommender, space: Space, name: str) -> None:
    seen = {5, *space.relations["follows"].targets.row(5).tolist()}
    slate = _ask(recommender, strategy=name, k=N_USERS, filter=decoded(HALF))
    assert sorted(slate.rows.tolist()) == sorted(set(compiled(space, HALF)) - seen)


@pytest.mark.parametrize("name", [name for name, one in STRATEGIES.items() if one.merge == "single"])
def test_the_answer_is_the_unfiltered_one_without_the_others(recommender: Recommender, space: Space, name: str) -> None:
    eligible = set(compiled(space, HALF))
    everyone = _ask(recommender, strategy=name, k=N_USERS).rows.tolist()
    filtered = _ask(recommender, strategy=name, k=20, filter=decoded(HALF)).rows.tolist()
    assert filtered == [row for row in everyone if row in eligible][:20]


def test_nobody_eligible_is_a_short_answer(recommender: Recommender) -> None:
    slate = _ask(recommender, filter=decoded({"ids": []}))
    assert (len(slate.picks), slate.short) == (0, True)


def test_newcomers_are_answered_with_eligible_candidates(recommender: Recommender, space: Space) -> None:
    inline = LiveEdges(added={"follows": tuple(USERS[:3])})
    for engagements in (inline, LiveEdges()):
        slate = _ask(recommender, user=None, engagements=engagements, filter=decoded(FEW), k=5)
        assert len(slate.picks) == 5
        assert set(slate.rows.tolist()) <= set(compiled(space, FEW))


def test_plans_of_different_filters_are_not_searched_together(recommender: Recommender, space: Space) -> None:
    conditions = [HALF, FEW, None]
    requests = [
        RecommendRequest(user=USERS[7], strategy="blend", k=5, filter=None if one is None else decoded(one))
        for one in conditions
    ]
    together = recommender.search([recommender.plan(request) for request in requests])
    assert [slate.rows.tolist() for slate in together] == [
        recommender.recommend(request).rows.tolist() for request in requests
    ]


def test_no_value_allowed_keeps_nobody(toy: Bundle) -> None:
    assert compiled(toy.space(), {"attribute": "country", "in": []}) == []

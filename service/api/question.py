"""From what a request for candidates says, in its body or its parameters, to the recommender's question."""

import time
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from bundle.ids import ABSENT
from bundle.space import Bundle, EntityTable, Space
from recommend.filters import Filter
from recommend.plan import choose_relation
from recommend.types import NO_LIVE_EDGES, LiveEdges, RecommendRequest
from service.call import Call
from service.problems import invalid, problem_of_decoding
from service.settings import Limits
from service.wire.common import FUTURE_SECONDS, WRONG_TIME, text_of, texts_of
from service.wire.recommend import BatchBody, Engagement, RecommendBody

_filter = msgspec.json.Decoder(Filter)
# What a batch has of these: engagements, followers, whether reasons are asked for.
NO_INLINE: tuple[Sequence[Engagement], Sequence[str | int], bool] = ((), (), False)
# The parameters that are numbers: written as in JSON, so that 1e3 is no count here either, and nan no number.
_whole, _number = msgspec.json.Decoder(int), msgspec.json.Decoder(float)
_WHOLE = ("k", "modes", "max_per_cluster")
_NUMBERS = (*_WHOLE, "diversity")


def check_limits(body: RecommendBody | BatchBody, limits: Limits) -> None:
    """Raises Problem 422 for more than the settings allow."""
    if body.k > limits.k_max:
        raise invalid("/k", f"at most {limits.k_max}")
    if len(body.exclude) > limits.exclude_max:
        raise invalid("/exclude", f"at most {limits.exclude_max} ids")
    if isinstance(body, RecommendBody):
        if len(body.engagements) > limits.engagements_max:
            raise invalid("/engagements", f"at most {limits.engagements_max} engagements")
        if len(body.followers) > limits.engagements_max:
            raise invalid("/followers", f"at most {limits.engagements_max} ids")


def first_space(bundle: Bundle, body: RecommendBody | BatchBody) -> Space:
    """The space that is asked, or the first of several; one that `spaces` names alone is as one in `space`."""
    if body.spaces and body.space is not None:
        raise invalid("/spaces", "space and spaces exclude each other")
    if len(body.spaces) == 1:
        body.space, body.spaces = body.spaces[0], []
    return bundle.space(body.spaces[0] if body.spaces else body.space)


def request_of(body: RecommendBody | BatchBody, user: str | None, space: Space) -> RecommendRequest:
    """The question of `body` for one user, in the recommender's terms."""
    inline, followers, explain = NO_INLINE
    if isinstance(body, RecommendBody):
        inline, followers, explain = body.engagements, body.followers, body.explain
    return RecommendRequest(
        user=user,
        engagements=_edges_of(inline, body.relation or space.entry.default.relation, time.time())
        if inline
        else NO_LIVE_EDGES,
        k=body.k,
        space=body.space,
        user_type=body.user_type,
        candidate_type=body.candidate_type,
        relation=body.relation,
        strategy=body.strategy,
        modes=body.modes,
        exclude=tuple(texts_of(body.exclude)) if body.exclude else (),
        exclude_seen=body.exclude_seen,
        followers=tuple(texts_of(followers)) if followers else (),
        filter=body.filter,
        diversity=body.diversity,
        max_per_cluster=body.max_per_cluster,
        explain=explain,
    )


def _edges_of(engagements: Sequence[Engagement], default: str, now: float) -> LiveEdges:
    """The engagements of one request as edges to add; `default` is the relation of those that name none. Raises Problem
    422 for a time that none can have.
    """
    added: dict[str, list[tuple[str, float]]] = {}
    for position, engagement in enumerate(engagements):
        at = now if engagement.at is None else engagement.at
        if not 0 <= at <= now + FUTURE_SECONDS:
            raise invalid(f"/engagements/{position}/at", WRONG_TIME)
        added.setdefault(engagement.relation or default, []).append((text_of(engagement.target), at))
    return LiveEdges(
        added={name: tuple([target for target, _ in pairs]) for name, pairs in added.items()},
        times={name: tuple([at for _, at in pairs]) for name, pairs in added.items()},
    )


def body_of_query(call: Call) -> RecommendBody:
    """The query parameters as a body: numbers and truth values are spelt as in JSON."""
    given = call.query()
    condition = given.pop("filter", None)
    spaces = [name for value in call.values("spaces") for name in value.split(",")]
    numbers = {name: _number_of(name, text) for name, text in given.items() if name in _NUMBERS}
    try:
        body = msgspec.convert({**given, **numbers, "user": call.ids["user"]}, RecommendBody, strict=False)
    except msgspec.ValidationError as error:
        raise problem_of_decoding(error, RecommendBody) from None
    body.spaces = spaces
    if condition is not None:
        body.filter = _filter_of(condition)
    excluded = call.values("exclude")
    if excluded:
        space = first_space(call.runtime.versions.serving().bundle, body)
        relation = choose_relation(space, request_of(body, None, space))
        body.exclude = _ids_named(space.entities[relation.entry.target], excluded)
    return body


def _number_of(name: str, text: str) -> int | float:
    """The number that a parameter holds, and nothing else: around a value in JSON there may be white space."""
    whole = name in _WHOLE
    with suppress(msgspec.DecodeError):
        if text == text.strip():
            return _whole.decode(text) if whole else _number.decode(text)
    raise invalid(f"/{name}", "a whole number, in digits" if whole else "a number")


def _filter_of(text: str) -> Filter:
    """The filter that a parameter holds as JSON."""
    try:
        return _filter.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise problem_of_decoding(error, Filter, "/filter") from None


def _ids_named(table: EntityTable, values: list[str]) -> list[str | int]:
    """The ids that the values of one parameter name: a value is one id where the version has it, else a list of them
    between commas, which may be a part of an id.
    """
    known = (table.ids.rows(values) != ABSENT).tolist()
    return [
        one for value, is_one in zip(values, known, strict=True) for one in ([value] if is_one else value.split(","))
    ]

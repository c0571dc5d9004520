"""POST /recommend, GET /recommend/{user}, POST /recommend:batch; POST /v1/versions/{version}/recommend."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import msgspec

from bundle.errors import FilterInvalid, QueryError
from bundle.space import Bundle, EntityTable, Relation, Space
from index.search.eligible import Bitmap
from recommend.compiled import Served
from recommend.filters import Filter
from recommend.plan import choose_relation
from recommend.profile import look_up
from recommend.recommender import Recommender
from recommend.together import Joint, joined, requests_to
from recommend.types import AUTO, SEARCH, LiveEdges, RecommendRequest, Slate
from service.admission import TARGET_SECONDS
from service.api.answers import answer_of, batch_item
from service.api.question import body_of_query, check_limits, first_space, request_of
from service.call import Call, Reply
from service.experiments.live import Entered
from service.first_step import put_off
from service.problems import invalid
from service.search_thread import Answer, Asked
from service.state.events import NO_FOLLOWERS, Followers
from service.versions.loaded import Loaded
from service.wire.common import MAX_ID_CHARACTERS, is_id, text_of, texts_of
from service.wire.recommend import BatchAnswer, BatchBody, RecommendBody

_body = msgspec.json.Decoder(RecommendBody)
_batch = msgspec.json.Decoder(BatchBody)
_encode = msgspec.json.Encoder().encode
Result = TypeVar("Result")
ANSWERS = (Served, Slate)  # the likelier one first: the other would be looked up among its subclasses


def recommend(call: Call) -> Awaitable[Reply]:
    """Candidates for one user."""
    return _recommend(call, call.json(_body))


def recommend_user(call: Call) -> Awaitable[Reply]:
    """The same, asked with the user in the path and the fields in the query."""
    return _recommend(call, body_of_query(call))


async def _recommend(call: Call, body: RecommendBody) -> Reply:
    loaded = call.runtime.versions.serving()
    _check(call, body)
    space = first_space(loaded.bundle, body)
    request = _request_to(space, body)
    if body.spaces:
        return await _together(call, loaded, request, body)
    degraded: list[str] = []
    relation = choose_relation(space, request)
    entered: Entered | None = None
    if body.experiments and call.runtime.experiments.current:
        plain = Routed(loaded, space, relation, request)
        routed = _enter(call, plain, body)
        if body.filter is not None and routed.loaded is not loaded:
            # Whether a filter is good, the serving version decides for all.
            await compiled(loaded, space, relation, space.entities[relation.entry.target], body.filter)
            routed = routed if await _understands(routed, body.filter) else plain
        loaded, space, relation, request, entered = routed
    live, followers = await call.runtime.since(relation.entry, request.user, degraded)
    if live:
        await _looked_up([space], live)
    # Last of what is waited for: a bitmap that was made earlier might have given way to others'.
    if body.filter is not None:
        await compiled(loaded, space, relation, space.entities[relation.entry.target], body.filter)
    asked = await _at_once(call, loaded, _followed(request, followers), live, degraded)
    slate = asked if isinstance(asked, ANSWERS) else (await _search(call, loaded, [asked], degraded))[0]
    _count(call, slate, relation, entered)
    return Reply(_encode(answer_of(slate, degraded, call.request_id, entered, explain=body.explain)))


async def _together(call: Call, loaded: Loaded, request: RecommendRequest, body: RecommendBody) -> Reply:
    """The answer of several spaces; no experiment decides on it."""
    bundle, degraded = loaded.bundle, list[str]()
    requests = requests_to(bundle, request, body.spaces)
    relation = choose_relation(bundle.space(requests[0].space), requests[0])
    live, followers = await call.runtime.since(relation.entry, request.user, degraded)
    if live:
        await _looked_up([bundle.space(one.space) for one in requests], live)
    requests = [_followed(one, followers) for one in requests]
    await _compiled_in_all(loaded, requests, body.filter)
    asked = [await _at_once(call, loaded, one, live, degraded) for one in requests]
    answers = await _answered(call, loaded, asked, degraded)
    answer = joined(bundle, requests, answers, live, body.k)
    _count(call, answer, relation, None)
    return Reply(_encode(answer_of(answer, list(dict.fromkeys(degraded)), call.request_id, None, explain=False)))


async def _looked_up(spaces: Iterable[Space], live: LiveEdges) -> None:
    """Have the rows of much that a user has done found some at a time: others have their turns in between."""
    for space in spaces:
        for _ in look_up(space, live):
            await asyncio.sleep(0)


async def _compiled_in_all(loaded: Loaded, requests: Sequence[RecommendRequest], condition: Filter | None) -> None:
    """Have the filter ready in the space of each request."""
    if condition is None:
        return
    for one in requests:
        space = loaded.bundle.space(one.space)
        relation = choose_relation(space, one)
        await compiled(loaded, space, relation, space.entities[relation.entry.target], condition)


class Routed(NamedTuple):
    """A request, the version that answers it, and the arm that it is in."""

    loaded: Loaded
    space: Space
    relation: Relation
    request: RecommendRequest
    entered: Entered | None = None


def _enter(call: Call, plain: Routed, body: RecommendBody | BatchBody) -> Routed:
    """The request as its user's arm has it, version and strategy; as it is where no experiment is meant for it."""
    if not body.experiments:
        return plain
    loaded, space, relation, request, _ = plain
    entered = call.runtime.experiments.choose(loaded, space, relation.entry.name, request.user, request.strategy)
    if entered is None:
        return plain
    if entered.loaded is loaded:
        if entered.arm.strategy != AUTO:
            request = msgspec.structs.replace(request, strategy=entered.arm.strategy)
        return Routed(loaded, space, relation, request, entered)
    # What was left open is what the serving version means by it: another one may have other defaults.
    name, there = relation.entry.name, entered.loaded.bundle.spaces[space.name]
    request = msgspec.structs.replace(request, strategy=entered.arm.strategy, space=space.name, relation=name)
    return Routed(entered.loaded, there, there.relations[name], request, entered)


async def _understands(routed: Routed, condition: Filter) -> bool:
    """Whether the version of an arm has what a filter is about. The client knows of the serving version alone: where
    another one has not, its user is answered as outside of the experiment.
    """
    loaded, space, relation, _, _ = routed
    try:
        await compiled(loaded, space, relation, space.entities[relation.entry.target], condition)
    except FilterInvalid:
        return False
    return True


async def recommend_in(call: Call) -> Reply:
    """Candidates for one user from a version that is kept beside the serving one; the user's live engagements count."""
    body = call.json(_body)
    _check(call, body)
    bundle = await _beside(call, call.bundle(call.ids["version"]))
    request = _request_to(first_space(bundle, body), body)
    requests = requests_to(bundle, request, body.spaces) if body.spaces else [request]
    degraded: list[str] = []
    relation = choose_relation(bundle.space(requests[0].space), requests[0])
    live, followers = await call.runtime.since(relation.entry, request.user, degraded)
    requests = [_followed(one, followers) for one in requests]

    def answered(recommender: Recommender) -> Slate | Joint:
        slates = [recommender.recommend(one, live) for one in requests]
        return joined(bundle, requests, slates, live, body.k) if body.spaces else slates[0]

    slate = await _beside(call, call.runtime.aside.run(bundle, answered))
    return Reply(_encode(answer_of(slate, degraded, call.request_id, None, explain=body.explain)))


async def _beside(call: Call, work: Awaitable[Result]) -> Result:
    """What is made away from the requests' path: that it takes long is no reason to let in fewer of those."""
    began = time.monotonic()
    result = await work
    call.runtime.admission.waited_elsewhere(time.monotonic() - began)
    return result


def _check(call: Call, body: RecommendBody) -> None:
    check_limits(body, call.runtime.settings.limits)
    if body.user is None and not body.engagements:
        raise invalid("/user", "name a user, or give engagements")


def _request_to(space: Space, body: RecommendBody) -> RecommendRequest:
    return request_of(body, None if body.user is None else text_of(body.user), space)


async def _at_once(
    call: Call, loaded: Loaded, request: RecommendRequest, live: LiveEdges, degraded: list[str]
) -> Answer | Asked:
    """The answer, where it takes no longer than handing the question over would; else the question."""
    share = call.runtime.search.share_of_depth((time.monotonic() - call.since) / TARGET_SECONDS)
    recommender = loaded.recommender
    prepared = recommender.prepared(request, live, share=share)
    if prepared is None:
        return recommender.asked(request, live, None, b"")
    run = partial(_timed, prepared.run)
    reply, seconds = await put_off(run) if prepared.searches else run()
    asked = recommender.asked(request, live, prepared, reply)
    if isinstance(asked, Served) and asked.searched:
        call.runtime.metrics.searched.observe(seconds)
        if prepared.reduced:
            degraded.append("reduced_depth")
    return asked


def _timed(run: Callable[[], bytes]) -> tuple[bytes, float]:
    began = time.monotonic()
    return run(), time.monotonic() - began


async def compiled(
    loaded: Loaded, space: Space, relation: Relation | None, table: EntityTable, condition: Filter | None
) -> Bitmap | None:
    """The bitmap of a filter, made beside the event loop where it is not at hand. Raises FilterInvalid."""
    filters = loaded.recommender.filters
    if condition is None:
        return None
    kept = filters.kept(space, relation, table, condition)
    return await asyncio.to_thread(filters.bitmap, space, relation, table, condition) if kept is None else kept


async def _answered(call: Call, loaded: Loaded, asked: Sequence[Answer | Asked], degraded: list[str]) -> list[Answer]:
    """What was asked, in order, each with its answer instead of what had to be searched for it."""
    waiting = [one for one in asked if isinstance(one, Asked)]
    searched = iter(await _search(call, loaded, waiting, degraded) if waiting else [])
    return [next(searched) if isinstance(one, Asked) else one for one in asked]


async def _answered_by_each(
    call: Call, routed: Sequence[Routed], asked: Sequence[list[Answer | Asked] | QueryError], degraded: list[str]
) -> list[list[Answer] | QueryError]:
    """The same of each user's version. The queue has room for it."""
    waiting: dict[int, tuple[Loaded, list[Asked]]] = {}
    for one, plans in zip(routed, asked, strict=True):
        searches = [] if isinstance(plans, QueryError) else [plan for plan in plans if isinstance(plan, Asked)]
        if searches:
            waiting.setdefault(id(one.loaded), (one.loaded, []))[1].extend(searches)
    jobs = [call.runtime.search.put(loaded, plans, call.deadline) for loaded, plans in waiting.values()]
    found = await asyncio.gather(*(job.future for job in jobs))
    if any(job.reduced for job in jobs):
        degraded.append("reduced_depth")
    searched = {version: iter(answers) for version, answers in zip(waiting, found, strict=True)}
    return [
        plans
        if isinstance(plans, QueryError)
        else [next(searched[id(one.loaded)]) if isinstance(plan, Asked) else plan for plan in plans]
        for one, plans in zip(routed, asked, strict=True)
    ]


async def _search(call: Call, loaded: Loaded, plans: list[Asked], degraded: list[str]) -> list[Answer]:
    """The answers to `plans`, in order, by the search thread."""
    slates, reduced = await call.runtime.search.search(loaded, plans, call.deadline)
    if reduced and "reduced_depth" not in degraded:
        degraded.append("reduced_depth")
    return slates


def _count(call: Call, slate: Answer | Joint, relation: Relation, entered: Entered | None) -> None:
    metrics = call.runtime.metrics
    if isinstance(slate, Served):
        by, searched = "engine", slate.searched
    elif isinstance(slate, Joint):
        by, searched = "python", True
    else:
        by, searched = "python", SEARCH in slate.picks.sources
    source = slate.fallback or ("search" if searched else "stored")
    metrics.answers.count(relation.entry.name, slate.strategy, source, by)
    if slate.fallback is not None:
        metrics.fallback(slate.fallback)
    if entered is not None:
        metrics.experiments.answered(entered.experiment.name, entered.arm.name)
    if slate.short:
        metrics.short.inc()


async def recommend_batch(call: Call) -> Reply:
    """Candidates for many users; each has its own status."""
    body = call.json(_batch)
    loaded, limits = call.runtime.versions.serving(), call.runtime.settings.limits
    check_limits(body, limits)
    if len(body.users) > limits.batch_max:
        raise invalid("/users", f"at most {limits.batch_max} users")
    space = first_space(loaded.bundle, body)
    users = texts_of(body.users)
    degraded: list[str] = []
    shared = request_of(body, None, space)
    each = requests_to(loaded.bundle, shared, body.spaces) if body.spaces else [shared]
    relation = choose_relation(loaded.bundle.space(each[0].space), each[0])
    await _compiled_in_all(loaded, each, body.filter)
    plain = [Routed(loaded, space, relation, msgspec.structs.replace(shared, user=user)) for user in users]
    routed = plain if body.spaces else await _entered(call, plain, body)
    answers = await _answers_to_each(call, routed, each if body.spaces else [], body.k, degraded)
    arms = [one.entered for one in routed]
    for one, entered in zip(answers, arms, strict=True):
        if not isinstance(one, QueryError):
            _count(call, one, relation, entered)
    # Feedback on one user's candidates is not that on another's: each answer has a name of its own.
    items = [
        batch_item(user, one, degraded, arm, f"{call.request_id}:{position}", loaded.version)
        for position, (user, one, arm) in enumerate(zip(users, answers, arms, strict=True))
    ]
    ok = sum(item.status == "ok" for item in items)
    answer = BatchAnswer(
        version=loaded.version, request_id=call.request_id, results=items, ok=ok, failed=len(items) - ok
    )
    return Reply(_encode(answer))


async def _answers_to_each(
    call: Call, routed: Sequence[Routed], several: Sequence[RecommendRequest], k: int, degraded: list[str]
) -> list[Answer | Joint | QueryError]:
    """What each user of a batch is answered: by the user's version, or by `several` spaces together."""
    search, room = call.runtime.search, len(routed) * max(1, len(several))
    search.check_room(room)
    users = [one.request.user if is_id(one.request.user or "") else None for one in routed]
    told = await call.runtime.since_each(
        [(one.relation.entry, user) for one, user in zip(routed, users, strict=True)], degraded
    )
    for one, (live, _) in zip(routed, told, strict=True):
        if live:
            await _looked_up([one.space, *(one.loaded.bundle.space(wanted.space) for wanted in several)], live)
    # Others may have come meanwhile. From here on nothing is waited for until the searches are queued.
    search.check_room(room)
    requests = [
        [msgspec.structs.replace(wanted, user=one.request.user) for wanted in several] or [one.request]
        for one in routed
    ]
    asked = [_ask(*each) for each in zip(routed, requests, told, strict=True)]
    answers = await _answered_by_each(call, routed, asked, degraded)
    if several:
        bundle = routed[0].loaded.bundle
        return [
            _joint(bundle, wanted, found, live, k)
            for wanted, found, (live, _) in zip(requests, answers, told, strict=True)
        ]
    return [found if isinstance(found, QueryError) else found[0] for found in answers]


def _ask(
    routed: Routed, requests: Sequence[RecommendRequest], told: tuple[LiveEdges, Followers]
) -> list[Answer | Asked] | QueryError:
    """What is to be searched for one user of a batch, or the answers."""
    if not is_id(routed.request.user or ""):
        return QueryError(f"user is no id: it has 1 to {MAX_ID_CHARACTERS} characters")
    live, followers = told
    try:
        return [routed.loaded.recommender.ask(_followed(one, followers), live) for one in requests]
    except QueryError as error:
        return error


def _joint(
    bundle: Bundle, requests: Sequence[RecommendRequest], answers: list[Answer] | QueryError, live: LiveEdges, k: int
) -> Joint | QueryError:
    """What several spaces answer together for one user of a batch."""
    if isinstance(answers, QueryError):
        return answers
    try:
        return joined(bundle, requests, answers, live, k)
    except QueryError as error:
        return error


async def _entered(call: Call, questions: Sequence[Routed], body: BatchBody) -> list[Routed]:
    """The questions as their users' arms have them."""
    found = [_enter(call, one, body) for one in questions]
    if body.filter is None:
        return found
    others = {id(one.loaded): one for one in found if one.loaded is not questions[0].loaded}
    deaf = {key for key, one in others.items() if not await _understands(one, body.filter)}
    return [plain if id(one.loaded) in deaf else one for plain, one in zip(questions, found, strict=True)]


def _followed(request: RecommendRequest, followers: Followers) -> RecommendRequest:
    """The request with those who have come to follow the user since, and those who have ended to; what the request says
    itself counts.
    """
    if followers == NO_FOLLOWERS:
        return request
    given = set(request.followers)
    ended = tuple(one for one in followers.removed if one not in given)
    return msgspec.structs.replace(request, followers=request.followers + followers.added, unfollowers=ended)

"""GET /v1/users/{id}/interests."""

import msgspec

from bundle.space import Space
from recommend.interests import Interest, interests_of, one_for_each
from recommend.plan import choose_relation
from recommend.profile import row_of
from recommend.types import RecommendRequest
from service.api.answers import medoid_of
from service.call import Call, Reply
from service.wire import recommend as wire

EXAMPLES = 5
_encode = msgspec.json.Encoder().encode


async def interests(call: Call) -> Reply:
    """The user's modes among the targets of a relation, or of each type of targets: cluster, weight, medoid, and what
    the user engages with there."""
    query = call.query()
    loaded = call.runtime.versions.serving()
    space = loaded.bundle.space(query.get("space"))
    request = RecommendRequest(relation=query.get("relation"), user_type=query.get("user_type"))
    relation = choose_relation(space, request)
    user, degraded = call.user(), list[str]()
    live = await call.runtime.live(relation.entry.source, user, degraded)
    row = row_of(space, relation, user)
    asked = [relation] if request.relation else one_for_each(space, relation)
    answer = wire.InterestsAnswer(
        version=loaded.version,
        request_id=call.request_id,
        user=user,
        known=row is not None,
        interests=[
            _written(space, by.entry.target, one)
            for by in asked
            for one in interests_of(space, by, row, live, EXAMPLES)
        ],
        degraded=degraded,
    )
    return Reply(_encode(answer))


def _written(space: Space, target_type: str, one: Interest) -> wire.Interest:
    examples = [wire.Example(name, space.table(name).ids.external(row)) for name, row in one.examples]
    size = int(space.clusters.sizes[one.cluster])
    types = list(space.clusters.interests_in(target_type).entry.types)
    return wire.Interest(one.cluster, one.share, size, wire.Example(*medoid_of(space, one.cluster)), examples, types)

"""GET /v1/users/{id}/interests."""

import msgspec

from bundle.space import Space
from recommend.interests import Interest, interests_of
from recommend.plan import choose_relation
from recommend.profile import row_of
from recommend.types import RecommendRequest
from service.api.answers import medoid_of
from service.call import Call, Reply
from service.wire import recommend as wire

EXAMPLES = 5
_encode = msgspec.json.Encoder().encode


async def interests(call: Call) -> Reply:
    """The user's modes: cluster, weight, medoid, and examples of what the user engages with there."""
    query = call.query()
    loaded = call.runtime.versions.serving()
    space = loaded.bundle.space(query.get("space"))
    request = RecommendRequest(relation=query.get("relation"), user_type=query.get("user_type"))
    relation = choose_relation(space, request)
    user, degraded = call.ids["id"], list[str]()
    live = await call.runtime.live(relation.entry.source, user, degraded)
    row = row_of(space, relation, user)
    answer = wire.InterestsAnswer(
        version=loaded.version,
        request_id=call.request_id,
        user=user,
        known=row is not None,
        interests=[_written(space, one) for one in interests_of(space, relation, row, live, EXAMPLES)],
        degraded=degraded,
    )
    return Reply(_encode(answer))


def _written(space: Space, one: Interest) -> wire.Interest:
    examples = [wire.Example(name, space.table(name).ids.external(row)) for name, row in one.examples]
    size = int(space.clusters.sizes[one.cluster])
    return wire.Interest(one.cluster, one.share, size, wire.Example(*medoid_of(space, one.cluster)), examples)

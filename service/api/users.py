"""GET /v1/users/{id}/interests."""

import msgspec
import numpy as np

from bundle.space import Relation, Space
from recommend.plan import choose_relation
from recommend.profile import Profile, profile_of_row, row_of
from recommend.types import RecommendRequest
from service.api.answers import medoid_of
from service.call import Call, Reply
from service.wire.recommend import Example, Interest, InterestsAnswer

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
    profile = profile_of_row(space, relation, row_of(space, relation, user), live, space.entry.clusters.modes)
    answer = InterestsAnswer(
        version=loaded.version,
        request_id=call.request_id,
        user=user,
        known=profile.row is not None,
        interests=_interests(space, relation, profile),
        degraded=degraded,
    )
    return Reply(_encode(answer))


def _interests(space: Space, relation: Relation, profile: Profile) -> list[Interest]:
    modes = profile.modes
    return [
        Interest(
            cluster,
            share,
            int(space.clusters.sizes[cluster]),
            Example(*medoid_of(space, cluster)),
            _examples(space, relation, profile, cluster),
        )
        for cluster, share in zip(modes.clusters.tolist(), modes.shares.tolist(), strict=True)
    ]


def _examples(space: Space, relation: Relation, profile: Profile, cluster: int) -> list[Example]:
    """The user's own targets in the cluster; where there are none, the head of the cluster's list."""
    entity_type = relation.entry.target
    assignment = space.clusters.assignment.get(entity_type)
    rows = profile.targets[:0] if assignment is None else profile.targets[assignment[profile.targets] == cluster]
    lists = space.clusters.lists.get((entity_type, "centroid"))
    if not len(rows) and lists is not None:
        rows = lists.rows[cluster].astype(np.int64)
    return [Example(entity_type, external) for external in space.table(entity_type).ids.externals(rows[:EXAMPLES])]

"""POST /v1/edges: what an entity has, and who has it, by relation and direction."""

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt
from jaxtyping import Int64

from bundle.space import EntityTable, Relation, Space
from recommend.profile import current_targets
from recommend.types import NO_LIVE_EDGES, LiveEdges
from service.call import Call, Reply
from service.problems import invalid
from service.wire.common import text_of
from service.wire.lookups import Direction, EdgesAnswer, EdgesBody, EdgesOfRelation, End

Rows = Int64[npt.NDArray[np.int64], " n"]
_edges = msgspec.json.Decoder(EdgesBody)
_encode = msgspec.json.Encoder().encode


async def edges(call: Call) -> Reply:
    """The edges of one entity. Of the serving version, what it did since counts as in `/recommend`."""
    body = call.json(_edges)
    limit = call.runtime.settings.limits.lookup_max
    if body.limit > limit:
        raise invalid("/limit", f"at most {limit}")
    bundle = await call.bundle(body.version)
    space = bundle.space(body.space)
    table, external, degraded = space.table(body.type), text_of(body.id), list[str]()
    wanted = [space.relation(body.relation)] if body.relation is not None else list(space.relations.values())
    serves = bundle is call.runtime.versions.serving().bundle
    live = await call.runtime.live(table.name, external, degraded) if serves else NO_LIVE_EDGES
    row = table.ids.row(external)
    found = [
        (relation, direction, rows)
        for relation, direction, rows in _found(space, wanted, table, row, live)
        if body.direction in (None, direction)
    ]
    answer = EdgesAnswer(
        version=bundle.version,
        request_id=call.request_id,
        type=table.name,
        space=space.name,
        id=external,
        known=row is not None,
        relations=[_page(space, *one, body.offset, body.offset + body.limit) for one in found],
        degraded=degraded,
    )
    return Reply(_encode(answer))


def _found(
    space: Space, relations: list[Relation], table: EntityTable, row: int | None, live: LiveEdges
) -> Iterator[tuple[Relation, Direction, Rows]]:
    """The rows at the other ends; a symmetric relation has every edge in both directions, so it is told once."""
    for relation in relations:
        if relation.entry.source == table.name:
            yield relation, "out", current_targets(space, relation, row, live)
        if relation.entry.target == table.name and not relation.entry.symmetric:
            sources = np.empty(0, dtype=np.int32) if row is None else relation.sources.row(row)
            yield relation, "in", sources.astype(np.int64)


def _page(space: Space, relation: Relation, direction: Direction, rows: Rows, start: int, stop: int) -> EdgesOfRelation:
    entry = relation.entry
    other = space.entities[entry.target if direction == "out" else entry.source]
    shown = rows[start:stop]
    ends = [
        End(external, other.label(row))
        for external, row in zip(other.ids.externals(shown), shown.tolist(), strict=True)
    ]
    return EdgesOfRelation(entry.name, direction, other.name, len(rows), ends)

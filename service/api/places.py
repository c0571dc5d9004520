"""GET /v1/map and /v1/map/{type}, POST /v1/map:entities: where every entity lies, and what lies there."""

from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from bundle.attributes import Categories, Scalars
from bundle.csr import Csr
from bundle.errors import EntityUnknown
from bundle.ids import ABSENT
from bundle.layout import SpaceLayout
from bundle.space import Bundle, EntityTable, Space
from service.api.answers import medoid_of, relation_to
from service.api.caching import etag_of, packed_reply, space_asked
from service.call import OCTETS, Call, Reply
from service.problems import invalid
from service.wire import map as wire
from service.wire.common import texts_of
from service.wire.recommend import Example

_entities = msgspec.json.Decoder(wire.PlacesBody)
_encode = msgspec.json.Encoder().encode
# Places are sent as whole numbers of this many steps from -1 to 1.
STEPS = 65_535
CATEGORIES_SHOWN = 20


async def outline(call: Call) -> Reply:
    """The types on the map and the clusters of the version."""
    bundle, space = await space_asked(call)

    def document() -> bytes:
        # The request's id is no part of a document that is kept.
        sizes = space.clusters.sizes.tolist()
        answer = wire.MapAnswer(
            version=bundle.version,
            request_id="",
            space=space.name,
            types=[
                wire.MapType(name, len(table), _clusters_of(space, name))
                for name, table in space.entities.items()
                if table.coordinates is not None
            ],
            clusters=[
                wire.MapCluster(number, size, Example(*medoid_of(space, number))) for number, size in enumerate(sizes)
            ],
        )
        return _encode(answer)

    return await packed_reply(call, f"{_etag(bundle, space)}-outline", document)


async def places(call: Call) -> Reply:
    """The places of all entities of a type, row by row, then their clusters; 404 when the version has no map."""
    bundle, space = await space_asked(call)
    table = space.table(call.ids["type"])
    if table.coordinates is None:
        raise EntityUnknown("this version was built without a map")
    headers = {"x-twhin-version": bundle.version, "x-twhin-shape": str(len(table))}
    make = _packer(space, table)
    return await packed_reply(call, f"{_etag(bundle, space)}-{table.name}", make, OCTETS, headers)


async def entities(call: Call) -> Reply:
    """Ids, places and clusters of entities by id or by row."""
    body = call.json(_entities)
    limit = call.runtime.settings.limits.lookup_max
    if len(body.ids) + len(body.rows) > limit:
        raise invalid("/ids", f"at most {limit} ids and rows")
    bundle = await call.bundle(body.version)
    space = bundle.space(body.space)
    table = space.table(body.type)
    ids = texts_of(body.ids)
    rows = [*table.ids.rows(ids).tolist(), *(row if row < len(table) else ABSENT for row in body.rows)]
    names: list[str | None] = [*ids, *[None] * len(body.rows)]
    answer = wire.PlacesAnswer(
        version=bundle.version,
        request_id=call.request_id,
        type=table.name,
        space=space.name,
        items=[
            _item(space, table, row, name, attributes=body.attributes) for row, name in zip(rows, names, strict=True)
        ],
    )
    return Reply(_encode(answer))


def _etag(bundle: Bundle, space: Space) -> str:
    """A name for the map of a space that changes when its bytes do: from the digests in the manifest."""
    layout = SpaceLayout(space.name)
    mixtures = [layout.mixtures("clusters", one.among) for one in space.clusters.interests]
    files = [layout.clusters("sizes"), *mixtures, *map(layout.coordinates, space.entities)]
    return etag_of(bundle, space, files)


def _clusters_of(space: Space, entity_type: str) -> wire.ClusterKind:
    if entity_type in space.clusters.assignment:
        return "own"
    return "unknown" if _mixtures(space, entity_type) is None else "heaviest_interest"


def _mixtures(space: Space, entity_type: str) -> Csr | None:
    """The mixtures of a type of users: of the first interests that they have."""
    return next((one.mixtures for one in space.clusters.interests if one.entry.user_type == entity_type), None)


def _clusters(space: Space, table: EntityTable) -> npt.NDArray[np.int32]:
    """The cluster of each entity of a type, or of a user's heaviest interest; -1 where there is none."""
    if table.name in space.clusters.assignment:
        return space.clusters.assignment[table.name]
    clusters = np.full(len(table), -1, dtype=np.int32)
    mixtures = _mixtures(space, table.name)
    if mixtures is not None:
        some = mixtures.degrees() > 0
        clusters[some] = mixtures.indices[mixtures.indptr[:-1][some]]
    return clusters


def _packer(space: Space, table: EntityTable) -> Callable[[], bytes]:
    def pack() -> bytes:
        coordinates = np.clip((np.asarray(table.coordinates) + 1) * (STEPS / 2), 0, STEPS)
        return coordinates.round().astype("<u2").tobytes() + _clusters(space, table).astype("<i4").tobytes()

    return pack


def _item(
    space: Space, table: EntityTable, row: int, name: str | None, *, attributes: bool = False
) -> wire.PlacedEntity:
    if row == ABSENT:
        return wire.PlacedEntity(name, "not_found")
    relation = relation_to(space, table)
    place = None if table.coordinates is None else [round(one, 5) for one in table.coordinates[row].tolist()]
    return wire.PlacedEntity(
        id=table.ids.external(row),
        status="found",
        row=row,
        label=table.label(row),
        x=None if place is None else place[0],
        y=None if place is None else place[1],
        cluster=_cluster_of(space, table.name, row),
        in_degree=None if relation is None else len(relation.sources.row(row)),
        attributes=dict(_attributes_of(table, row)) if attributes else None,
    )


def _attributes_of(table: EntityTable, row: int) -> Iterator[tuple[str, wire.AttributeOf]]:
    """What the entity of `row` has of its type's attributes, its labels left out."""
    for name, one in table.attributes.items():
        if isinstance(one, Categories):
            codes = one.codes.row(row)[:CATEGORIES_SHOWN].tolist()
            if codes:
                yield name, [one.vocabulary.external(code) for code in codes]
        elif isinstance(one, Scalars) and one.present[row >> 3] >> (row & 7) & 1:
            value = one.values[row].item()
            yield name, bool(value) if one.kind == "boolean" else value


def _cluster_of(space: Space, entity_type: str, row: int) -> int | None:
    if entity_type in space.clusters.assignment:
        return int(space.clusters.assignment[entity_type][row])
    mixtures = _mixtures(space, entity_type)
    modes = [] if mixtures is None else mixtures.row(row).tolist()
    return modes[0] if modes else None

"""The JSON of the map, of entities by id or row, of searching for ids, and of the list of versions."""

from typing import Annotated, Any, Literal

import msgspec

from bundle.attributes import AttributeKind
from service.wire.common import Answer, AnyId, Name, Request
from service.wire.recommend import Example

ClusterKind = Literal["own", "heaviest_interest", "unknown"]


class MapType(msgspec.Struct, frozen=True):
    """One entity type of the map. `clusters` says what an entity's cluster is: its own, its heaviest interest, or
    unknown."""

    type: str
    count: int
    clusters: ClusterKind


class MapCluster(msgspec.Struct, frozen=True):
    """One cluster: its members, and the entity at its centre."""

    cluster: int
    size: int
    medoid: Example


class MapAnswer(Answer):
    """What the map has: `/v1/map/{type}` has the places of each type. `types` is empty without a map."""

    space: str
    types: list[MapType]
    clusters: list[MapCluster]


# A number, a truth value, a time in seconds since 1970, or categories.
AttributeOf = float | int | bool | list[str]


class AttributeValue(msgspec.Struct, frozen=True):
    """A value of a category or a truth value, and how many entities have it."""

    value: str
    count: int


class AttributeSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attribute of a type: how many entities have it, and its values (the hundred most frequent of `distinct`), or
    the lowest, the quartiles and the highest of a number or a time in seconds since 1970."""

    name: str
    kind: AttributeKind
    present: int
    values: list[AttributeValue] = []
    distinct: int | None = None
    quantiles: list[float] = []


class AttributesAnswer(Answer):
    """The attributes of each entity type, in the order of its description."""

    space: str
    types: dict[str, list[AttributeSummary]]


class PlacesBody(Request):
    """Entities of one type by `ids`, by `rows` (their positions in `/v1/map/{type}` of the same version), or both."""

    type: Name
    ids: list[AnyId] = []
    rows: list[Annotated[int, msgspec.Meta(ge=0)]] = []
    attributes: bool = False
    version: Name | None = None
    space: Name | None = None


class PlacedEntity(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entity: its row, its place on the map where there is one, its edges that come in under the default relation
    of its type. `id` alone for an unknown one."""

    id: str | None
    status: Literal["found", "not_found"]
    row: int | None = None
    label: str | None = None
    x: float | None = None
    y: float | None = None
    cluster: int | None = None
    in_degree: int | None = None
    attributes: dict[str, AttributeOf] | None = None


class PlacesAnswer(Answer):
    """One item for each id, then for each row, in the order asked."""

    type: str
    space: str
    items: list[PlacedEntity]


class Match(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entity whose id begins with what was asked, or whose label has it."""

    type: str
    id: str
    label: str | None = None


class SearchAnswer(Answer):
    """At most `k` entities of each type: those whose id begins with `q`, then those with `q` in their label."""

    space: str
    matches: list[Match]


class ManifestItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version on disk, from its manifest; `fault` alone where that cannot be read. `parent` is what its training
    began from: a version, or the `run` of one."""

    version: str
    serving: bool
    published: bool
    refused: str | None = None
    fault: str | None = None
    created: str | None = None
    parent: str | None = None
    run: str | None = None
    size_bytes: int | None = None
    code_revision: str | None = None
    graph_digest: str | None = None
    evaluation: dict[str, Any] | None = None
    spaces: dict[str, Any] | None = None


class ManifestsAnswer(Answer):
    """The versions on disk, newest first, at most fifty; what each was measured to do."""

    versions: list[ManifestItem]

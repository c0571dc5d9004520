"""The JSON of embeddings, features, codebooks, edges, similar and score.

Answers with vectors are written straight from arrays, and never made as these types: the document is made from them,
and every answer is held against it by a test.
"""

from typing import Annotated, Literal

import msgspec

from recommend.filters import Filter
from service.wire.common import Answer, AnyId, Encoding, Id, Name, Request
from service.wire.recommend import Count

ItemStatus = Literal["found", "not_found"]
Direction = Literal["out", "in"]
Vector = list[float]


class EmbeddingsBody(Request):
    """Ids of one type. `version` may name an older version that is still kept."""

    type: Name
    ids: Annotated[list[AnyId], msgspec.Meta(min_length=1)]
    encoding: Encoding = "json"
    version: Name | None = None
    space: Name | None = None


class FeaturesBody(Request):
    """Ids of one type; `decoded` gives the vectors that the codes stand for, `codes` the bytes themselves."""

    type: Name
    ids: Annotated[list[AnyId], msgspec.Meta(min_length=1)]
    representation: Literal["decoded", "codes"] = "decoded"
    encoding: Encoding = "json"
    version: Name | None = None
    space: Name | None = None


class VectorItem(msgspec.Struct, frozen=True):
    """One id's vector: an array of numbers, or base64 of little-endian float32 (codes: of bytes)."""

    id: str
    status: ItemStatus
    vector: Vector | str | None


class EmbeddingsAnswer(Answer):
    """One item for each id, in the order asked."""

    type: str
    space: str
    dim: int
    found: int
    missing: int
    items: list[VectorItem]


class FeaturesAnswer(Answer):
    """One item for each id, in the order asked. `dim` counts floats (decoded) or bytes (codes)."""

    type: str
    space: str
    representation: str
    dim: int
    codebook: str
    found: int
    missing: int
    items: list[VectorItem]


class EmbeddingAnswer(Answer):
    """The vector of one entity."""

    type: str
    space: str
    id: str
    dim: int
    vector: Vector | str


class CodebookAnswer(Answer):
    """All that a client needs to decode for itself: `vector = concat(codebooks[m][codes[m]])`, then `@ rotation`."""

    type: str
    space: str
    etag: str
    subquantizers: int
    codewords: int
    dim: int
    codebooks: str
    rotation: str | None


class EntitiesAnswer(Answer):
    """Ids of one type in the order of the version's rows, of `count` in all. `next` is the cursor of the page that
    follows, null on the last one.
    """

    type: str
    space: str
    count: int
    ids: list[str]
    next: str | None


class EdgesBody(Request):
    """The edges of one entity: those of a `relation` and a `direction`, or of all; `limit` of each from `offset` on."""

    type: Name
    id: Id
    relation: Name | None = None
    direction: Direction | None = None
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Count = 20
    version: Name | None = None
    space: Name | None = None


class End(msgspec.Struct, frozen=True, omit_defaults=True):
    """The other end of an edge."""

    id: str
    label: str | None = None


class EdgesOfRelation(msgspec.Struct, frozen=True):
    """`out`: what the entity has under the relation; `in`: who has the entity. `type` is that of the other ends, of
    which there are `count`, in the order of the version's rows."""

    relation: str
    direction: Direction
    type: str
    count: int
    ends: list[End]


class EdgesAnswer(Answer):
    """The edges of an entity by relation and direction. `known`: whether it is in the version."""

    type: str
    space: str
    id: str
    known: bool
    relations: list[EdgesOfRelation]
    degraded: list[str]


class SimilarBody(Request):
    """Neighbours of an entity (`type` and `id`) or of a `vector`, among the entities of `candidate_type`.

    With `sources_of`, a relation that leads to the entity's type, they are those most likely to have the entity next
    under that relation, without those that have it.
    """

    type: Name | None = None
    id: Id | None = None
    vector: Vector | None = None
    candidate_type: Name | None = None
    k: Count = 20
    exclude: list[AnyId] = []
    filter: Filter | None = None
    sources_of: Name | None = None
    space: Name | None = None


class Neighbour(msgspec.Struct, frozen=True):
    """A neighbour and its inner product with the query."""

    id: str
    score: float


class SimilarAnswer(Answer):
    """Neighbours, nearest first."""

    candidate_type: str
    space: str
    neighbours: list[Neighbour]


class Pair(Request):
    """A source and a target of the relation."""

    source: AnyId
    target: AnyId


class ScoreBody(Request):
    """Pairs to score under a relation: eq. 1, `(θs + θr)ᵀ θt`."""

    pairs: Annotated[list[Pair], msgspec.Meta(min_length=1)]
    relation: Name | None = None
    space: Name | None = None


class ScoreItem(msgspec.Struct, frozen=True):
    """One pair's score, or which end is unknown."""

    source: str
    target: str
    status: Literal["scored", "source_not_found", "target_not_found"]
    score: float | None


class ScoreAnswer(Answer):
    """One item for each pair, in the order asked."""

    relation: str
    space: str
    items: list[ScoreItem]

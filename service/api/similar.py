"""POST /v1/similar and POST /v1/score."""

from functools import partial

import msgspec
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64

from bundle.errors import EntityUnknown
from bundle.ids import ABSENT
from bundle.space import EntityTable, Relation, Space
from recommend.profile import known_rows
from service.api.answers import relation_to
from service.api.recommend import compiled
from service.call import Call, Reply
from service.problems import invalid
from service.wire.common import text_of, texts_of
from service.wire.lookups import Neighbour, ScoreAnswer, ScoreBody, ScoreItem, SimilarAnswer, SimilarBody

_similar = msgspec.json.Decoder(SimilarBody)
_score = msgspec.json.Decoder(ScoreBody)
_encode = msgspec.json.Encoder().encode

# Of the numbers of a vector: with larger ones scores may be more than a float32 holds, and their order is lost.
LARGEST = 1e30
Rows = Int64[npt.NDArray[np.int64], " n"]


async def similar(call: Call) -> Reply:
    """The nearest entities to an entity or a vector, by inner product; or who is likely to have an entity."""
    body = call.json(_similar)
    _check(body, call)
    loaded = call.runtime.versions.serving()
    space = loaded.bundle.space(body.space)
    relation = None if body.sources_of is None else _leading_to(space, body.sources_of, body)
    default = body.type or space.entry.default.candidate_type
    target = space.table(body.candidate_type or (default if relation is None else relation.entry.source))
    query, own = _query(space, target, body) if relation is None else _query_of_sources(space, relation, body)
    searcher = loaded.recommender.searcher(space.name, target.name)
    excluded = np.concatenate([own, known_rows(target.ids.rows(texts_of(body.exclude)))])
    eligible = await compiled(loaded, space, relation_to(space, target), target, body.filter)
    search = partial(searcher.search, query, body.k, exclude=[excluded], eligible=eligible)
    hits = (await call.runtime.search.run(search, call.deadline))[0]
    neighbours = map(Neighbour, target.ids.externals(hits.rows), hits.scores.tolist())
    answer = SimilarAnswer(
        version=loaded.version,
        request_id=call.request_id,
        candidate_type=target.name,
        space=space.name,
        neighbours=list(neighbours),
    )
    return Reply(_encode(answer))


def _check(body: SimilarBody, call: Call) -> None:
    limits = call.runtime.settings.limits
    if body.k > limits.k_max:
        raise invalid("/k", f"at most {limits.k_max}")
    if len(body.exclude) > limits.exclude_max:
        raise invalid("/exclude", f"at most {limits.exclude_max} ids")
    if (body.vector is None) == (body.id is None):
        raise invalid("/id", "give an id with its type, or a vector")
    if body.id is not None and body.type is None:
        raise invalid("/type", "an id needs its type")


def _query(
    space: Space, target: EntityTable, body: SimilarBody
) -> tuple[Float32[npt.NDArray[np.float32], "1 width"], Rows]:
    """The query over all columns, and the row to leave out: an entity is not its own neighbour."""
    query = np.zeros((1, space.entry.width), dtype=np.float32)
    if body.vector is not None:
        query[0, : space.entry.dim] = _vector(body.vector, space.entry.dim)
        return query, np.empty(0, dtype=np.int64)
    table = space.table(body.type or "")
    row = table.ids.row(text_of(body.id or ""))
    if row is None:
        raise EntityUnknown("this version has no such entity")
    query[0, : space.entry.dim] = table.embeddings[row]
    return query, np.array([row] if table.name == target.name else [], dtype=np.int64)


def _leading_to(space: Space, name: str, body: SimilarBody) -> Relation:
    """The relation whose sources are asked for. Raises Problem 422 where it does not fit the entity."""
    relation = space.relation(name)
    if body.id is None or body.type != relation.entry.target:
        raise invalid("/sources_of", "an entity is needed, of the type that the relation leads to")
    if body.candidate_type not in (None, relation.entry.source):
        raise invalid("/candidate_type", "the relation comes from another type")
    return relation


def _query_of_sources(
    space: Space, relation: Relation, body: SimilarBody
) -> tuple[Float32[npt.NDArray[np.float32], "1 width"], Rows]:
    """The query that ranks sources, θt + θ'r, and the rows to leave out: those that have the entity, and itself."""
    table = space.table(relation.entry.target)
    row = table.ids.row(text_of(body.id or ""))
    if row is None:
        raise EntityUnknown("this version has no such entity")
    query = np.zeros((1, space.entry.width), dtype=np.float32)
    query[0, : space.entry.dim] = table.embeddings[row] + relation.inverse
    own = [row] if relation.entry.source == relation.entry.target else []
    return query, np.array([*relation.sources.row(row).tolist(), *own], dtype=np.int64)


def _vector(values: list[float], dim: int) -> Float32[npt.NDArray[np.float32], " dim"]:
    if len(values) != dim:
        raise invalid("/vector", f"{dim} numbers are needed; {len(values)} were given")
    doubles = np.array(values, dtype=np.float64)
    if not np.all(np.abs(doubles) <= LARGEST):
        raise invalid("/vector", f"every number must be within -{LARGEST:.0e} and {LARGEST:.0e}")
    return doubles.astype(np.float32)


async def score(call: Call) -> Reply:
    """Eq. 1 for given pairs: `(θs + θr)ᵀ θt`."""
    body = call.json(_score)
    limit = call.runtime.settings.limits.lookup_max
    if len(body.pairs) > limit:
        raise invalid("/pairs", f"at most {limit} pairs")
    loaded = call.runtime.versions.serving()
    space = loaded.bundle.space(body.space)
    relation = space.relation(body.relation or space.entry.default.relation)
    items = _score_pairs(space, relation, body)
    answer = ScoreAnswer(
        version=loaded.version, request_id=call.request_id, relation=relation.entry.name, space=space.name, items=items
    )
    return Reply(_encode(answer))


def _score_pairs(space: Space, relation: Relation, body: ScoreBody) -> list[ScoreItem]:
    source, target = space.entities[relation.entry.source], space.entities[relation.entry.target]
    source_ids = [text_of(pair.source) for pair in body.pairs]
    target_ids = [text_of(pair.target) for pair in body.pairs]
    sources, targets = source.ids.rows(source_ids), target.ids.rows(target_ids)
    present = (sources != ABSENT) & (targets != ABSENT)
    scores = np.zeros(len(body.pairs), dtype=np.float32)
    translated = source.embeddings[sources[present]] + relation.forward
    scores[present] = np.einsum("ij,ij->i", translated, target.embeddings[targets[present]])
    return [
        _item(*ids, known_source, known_target, value)
        for ids, known_source, known_target, value in zip(
            zip(source_ids, target_ids, strict=True),
            (sources != ABSENT).tolist(),
            (targets != ABSENT).tolist(),
            scores.tolist(),
            strict=True,
        )
    ]


def _item(source: str, target: str, known_source: bool, known_target: bool, value: float) -> ScoreItem:
    if not known_source:
        return ScoreItem(source, target, "source_not_found", None)
    if not known_target:
        return ScoreItem(source, target, "target_not_found", None)
    return ScoreItem(source, target, "scored", value)

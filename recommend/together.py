"""Several spaces of one version answer one request together: each gives its best, and the lists are merged by rank.

A candidate's score is `Σ_s w_s / (SMOOTHING + rank_s)` over the spaces s that found it (reciprocal rank fusion;
Cormack, Clarke and Büttcher, 2009), with the weights w that the build has learnt for the relation. By rank, because
scores of different spaces and strategies do not compare; by external id, because each space has its own rows.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from bundle.errors import QueryError
from bundle.ids import ABSENT
from bundle.space import Bundle, Space
from recommend.compiled import Served
from recommend.plan import choose_relation
from recommend.profile import current_targets, row_of
from recommend.types import Fallback, LiveEdges, RecommendRequest, Slate, in_sorted

STRATEGY = "together"
SMOOTHING = 10.0
# Candidates that each space gives.
POOL = 200


class _Found(msgspec.Struct):
    id: str


_ids_of_json = msgspec.json.Decoder(list[_Found]).decode


class Joint(msgspec.Struct, frozen=True):
    """The answer of several spaces, best first; `spaces` has the strategy by which each of them answered."""

    version: str
    ids: list[str]
    scores: list[float]
    spaces: dict[str, str]
    known: bool
    fallback: Fallback | None
    short: bool
    strategy: str = STRATEGY


def requests_to(bundle: Bundle, request: RecommendRequest, names: Sequence[str]) -> list[RecommendRequest]:
    """What to ask each of the spaces `names`, in order, for an answer of `request.k` together.

    Raises QueryError for a space that is not there or named twice, one that has not the relation between the same
    types, and for what one space alone can answer: reasons, diversity.
    """
    if len(set(names)) < len(names):
        raise QueryError("spaces names one space twice")
    if request.explain or request.varied:
        raise QueryError("explain, diversity and max_per_cluster are of one space: name it in space")
    first = choose_relation(bundle.space(names[0]), request).entry
    for name in names[1:]:
        entry = bundle.space(name).relation(first.name).entry
        if (entry.source, entry.target) != (first.source, first.target):
            raise QueryError("the spaces have this relation between different types")
    k = max(request.k, POOL)
    return [msgspec.structs.replace(request, space=name, relation=first.name, k=k) for name in names]


def joined(
    bundle: Bundle, asked: Sequence[RecommendRequest], answers: Sequence[Slate | Served], live: LiveEdges, k: int
) -> Joint:
    """One answer of `k` from those of several spaces to `requests_to`.

    A space that knows nothing of the user is not heard while another does.
    """
    deaf = [not answer.known and answer.fallback == "popular" for answer in answers]
    pairs = list(zip(asked, answers, strict=True))
    counted = [pair for pair, silent in zip(pairs, deaf, strict=True) if not silent] or pairs
    lists = [ids_of(answer) for _, answer in counted]
    weights = weights_of(bundle, asked[0].relation or "", [one.space or "" for one, _ in counted])
    found = fused(lists, weights)
    seen = _seen(bundle, asked, live, list(found)) if asked[0].exclude_seen else set()
    best = [(external, score) for external, score in found.items() if external not in seen][:k]
    first = counted[0][1]
    return Joint(
        version=first.version,
        ids=[external for external, _ in best],
        scores=[score for _, score in best],
        spaces={one.space or "": answer.strategy for one, answer in zip(asked, answers, strict=True)},
        known=any(answer.known for answer in answers),
        fallback=first.fallback,
        short=len(best) < k,
    )


def ids_of(answer: Slate | Served) -> list[str]:
    """The candidates' ids, best first."""
    return answer.ids() if isinstance(answer, Slate) else [one.id for one in _ids_of_json(answer.candidates)]


def weights_of(bundle: Bundle, relation: str, names: Sequence[str]) -> list[float]:
    """What the ranks of each space count under a relation: as learnt, else all alike."""
    learnt = bundle.manifest.together.get(relation)
    weights = [1.0 if learnt is None else learnt.weights.get(name, 0.0) for name in names]
    return weights if any(weights) else [1.0] * len(names)


def fused(lists: Sequence[Sequence[str]], weights: Sequence[float]) -> dict[str, float]:
    """The score of every candidate of the lists, best first; equal ones as they first stand in the lists."""
    scores: dict[str, float] = {}
    for ids, weight in zip(lists, weights, strict=True):
        for place, external in enumerate(ids):
            scores[external] = scores.get(external, 0.0) + weight * share_of_rank(place)
    return dict(sorted(scores.items(), key=lambda pair: -pair[1]))


def share_of_rank(place: int) -> float:
    """What the candidate at a place of a list, from 0, has of its space's weight."""
    return 1.0 / (SMOOTHING + 1 + place)


def _seen(bundle: Bundle, asked: Sequence[RecommendRequest], live: LiveEdges, candidates: list[str]) -> set[str]:
    """Those that the user has by any of the spaces: another may not know it."""
    seen = set()
    for one in asked:
        space: Space = bundle.space(one.space)
        relation = space.relation(one.relation or "")
        targets = current_targets(space, relation, row_of(space, relation, one.user), live.merged(one.engagements))
        rows = space.entities[relation.entry.target].ids.rows(candidates)
        for place in np.flatnonzero((rows != ABSENT) & in_sorted(rows, targets)).tolist():
            seen.add(candidates[place])
    return seen

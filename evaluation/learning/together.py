"""What a build learns about several spaces of one version: how much the ranks of each say when they answer together."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64, Integer

from bundle.errors import UsageError
from bundle.ids import ABSENT
from bundle.manifest import SpaceWeights
from bundle.prepared import PreparedGraph
from bundle.progress import SILENT, Progress
from bundle.space import Space
from evaluation.learning.assess import FEWEST_USERS, JUDGE_USERS, kept
from evaluation.learning.loss import pools_of
from evaluation.learning.weights import fit_linear
from evaluation.rows import CUTS, measure_lists, vectors_under
from evaluation.task import FollowTask, follow_task
from recommend.protocol import Lists
from recommend.recommender import Recommender
from recommend.together import POOL, STRATEGY, fused, share_of_rank
from recommend.types import AUTO, in_sorted

# Of the held-out edges so many may be training edges of another space before nothing can be learnt from them.
MOST_TRAINED = 0.01
Rows = Integer[npt.NDArray[np.integer], " _"]


def assess_together(
    recommender: Recommender, graph: PreparedGraph, seed: int, *, progress: Progress = SILENT
) -> dict[str, SpaceWeights]:
    """Learn for every relation of the first space, whose run has `graph`, how it and the others that have the relation
    between the same types weigh together, each answering by its `auto`.

    One half of the users with validation edges teaches, the other half measures. Where nothing can be learnt the
    weights are alike, and `fallback` says why.
    """
    bundle = recommender.bundle
    found = {}
    with progress.stage("Weighing spaces", len(graph.relations), "relations") as bar:
        for relation in graph.relations:
            spaces = {
                name: space
                for name, space in bundle.spaces.items()
                if (one := space.relations.get(relation.name)) is not None
                and (one.entry.source, one.entry.target) == (relation.source, relation.target)
            }
            if len(spaces) > 1:
                bar.note(relation.name)
                found[relation.name] = _assess(recommender, graph, relation.name, spaces, seed)
            bar.advance()
    return found


def _assess(
    recommender: Recommender, graph: PreparedGraph, relation: str, spaces: Mapping[str, Space], seed: int
) -> SpaceWeights:
    rng = np.random.default_rng(seed)
    try:
        everyone = follow_task(graph, "valid", rng, relation=relation, n_users=2 * JUDGE_USERS, min_known=1)
    except UsageError:
        return _alike(spaces, "nobody has both a validation edge and a training edge")
    if len(everyone.users) < FEWEST_USERS:
        return _alike(spaces, f"fewer than {FEWEST_USERS} users have both a validation edge and a training edge")
    for name, space in spaces.items():
        if _trained_share(everyone, recommender.bundle.space(), space, relation) > MOST_TRAINED:
            return _alike(spaces, f"{name} was trained on edges that the first space holds out: split both runs alike")
    lists = {name: _lists(recommender, everyone, name, relation) for name in spaces}
    order = rng.permutation(len(everyone.users))
    teach, judge = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    weights = _learnt(everyone, {name: [one[i] for i in teach] for name, one in lists.items()}, teach)
    judges, vectors = everyone.of_users(everyone.users[judge]), vectors_under(recommender.bundle.space(), relation)
    judged = {name: [one[i] for i in judge] for name, one in lists.items()}
    judged[STRATEGY] = [_merged(some, list(weights.values())) for some in zip(*judged.values(), strict=True)]
    measured = {
        name: kept(measure_lists(judges, name, [rows[: max(CUTS)] for rows in some], vectors).row)
        for name, some in judged.items()
    }
    return SpaceWeights(weights=weights, measured=measured)


def _alike(spaces: Mapping[str, Space], why: str) -> SpaceWeights:
    return SpaceWeights(weights=dict.fromkeys(spaces, 1.0 / len(spaces)), fallback=why)


def _learnt(task: FollowTask, lists: Mapping[str, Lists], some: Int64[npt.NDArray[np.int64], " n"]) -> dict[str, float]:
    """Weights of the spaces, 0 or more, that sum to 1: what a ranking by them fits best to the held-out edges."""
    each = list(lists.values())
    pools = [np.unique(np.concatenate(rows)) for rows in zip(*each, strict=True)]

    def shares(i: int, pool: Rows) -> Float32[npt.NDArray[np.float32], "n spaces"]:
        return np.column_stack([_shares(pool, of_space[i]) for of_space in each])

    examples = pools_of(task.of_users(task.users[some]), pools, shares, len(each))
    learnt = np.maximum(fit_linear(examples), 0.0) if len(examples.starts) > 1 else np.ones(len(each))
    if not learnt.any():
        learnt = np.ones(len(each))
    return dict(zip(lists, (learnt / learnt.sum()).tolist(), strict=True))


def _shares(pool: Rows, ranked: Rows) -> Float32[npt.NDArray[np.float32], " n"]:
    """What each of the pool has of a space's weight; `pool` is ascending and has all that are ranked."""
    shares = np.zeros(len(pool), dtype=np.float32)
    shares[np.searchsorted(pool, ranked)] = [share_of_rank(place) for place in range(len(ranked))]
    return shares


def _merged(lists: tuple[Rows, ...], weights: list[float]) -> Rows:
    found = fused([[str(row) for row in rows.tolist()] for rows in lists], weights)
    return np.array([int(row) for row in found], dtype=np.int32)


def _lists(recommender: Recommender, task: FollowTask, name: str, relation: str) -> list[Rows]:
    """What a space answers for each user of the task, in rows of the first space; nothing for whom it does not know."""
    first, space = recommender.bundle.space(), recommender.bundle.space(name)
    entry = first.relation(relation).entry
    there = _rows_in(first, space, entry.source, task.users)
    known = np.flatnonzero(there != ABSENT)
    found = recommender.starting_with(name).for_users(there[known], AUTO, POOL, relation=relation)
    lists: list[Rows] = [np.empty(0, dtype=np.int64)] * len(task.users)
    back = _rows_in(space, first, entry.target, np.arange(len(space.entities[entry.target])))
    for place, rows in zip(known.tolist(), found, strict=True):
        mapped = back[rows]
        own = task.known(int(task.users[place]))
        lists[place] = mapped[(mapped != ABSENT) & ~in_sorted(mapped, np.sort(own).astype(np.int64))]
    return lists


def _rows_in(one: Space, other: Space, entity_type: str, rows: Rows) -> Int64[npt.NDArray[np.int64], " n"]:
    """The rows in `other` of the entities that are `rows` in `one`, ABSENT where it does not have them."""
    if one is other:
        return rows.astype(np.int64)
    return other.entities[entity_type].ids.rows(one.entities[entity_type].ids.externals(rows.astype(np.int64)))


def _trained_share(task: FollowTask, first: Space, space: Space, relation: str) -> float:
    """How many of the task's held-out edges a space has among its training edges."""
    entry = first.relation(relation).entry
    users = _rows_in(first, space, entry.source, task.users)
    held_out = trained = 0
    for user, row in zip(task.users.tolist(), users.tolist(), strict=True):
        relevant = task.relevant(user)
        held_out += len(relevant)
        if row != ABSENT:
            targets = _rows_in(first, space, entry.target, relevant)
            trained += int(in_sorted(targets, space.relation(relation).targets.row(row)).sum())
    return trained / max(1, held_out)

"""What is measured: users, what is known of them, and the held-out edges that their lists should contain."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Int32, Int64, Integer

from bundle.csr import Csr, csr_from_pairs
from bundle.errors import UsageError
from bundle.prepared import Edges, PreparedGraph, PreparedRelation
from recommend.protocol import Lists
from recommend.types import in_sorted

# Of graphs with hundreds of relations, so many with the most held-out edges are measured unless others are named.
MOST_RELATIONS = 8
# Edges that are looked through at a time.
BLOCK_EDGES = 1 << 20


@dataclass(frozen=True, slots=True)
class FollowTask:
    """Users to recommend to under one relation. Rows of `train`, `hidden` and `held_out` are all source rows.

    `train` is what every method knows. `hidden` are further known positives that are in nobody's answer:
    the validation edges while the test edges are held out. `train_by_target` is `train` turned round. `elsewhere` has
    the training edges of `users` by other relations between the same types, an edge as often as there are such
    relations; what each weighs is 1, and up to 1 more the newer it is among those of its relation, where these have
    times.
    """

    relation: str
    users: Int64[npt.NDArray[np.int64], " users"]
    train: Csr
    train_by_target: Csr
    hidden: Csr
    held_out: Csr
    same_type: bool
    elsewhere: Csr | None = None

    @property
    def n_targets(self) -> int:
        """Entities that may be recommended."""
        return len(self.train_by_target)

    def of_users(self, users: Int64[npt.NDArray[np.int64], " some"]) -> "FollowTask":
        """The same task for other users."""
        return dataclasses.replace(self, users=np.sort(users))

    def without_held_out(self, edges: Bool[npt.NDArray[np.bool_], " held_out"]) -> "FollowTask":
        """The same task where these of the held-out edges are hidden ones: neither right nor wrong, in nobody's answer.

        Users who have no other held-out edge are left out.
        """

        def pairs(csr: Csr) -> Int32[npt.NDArray[np.int32], "two n"]:
            owners = np.repeat(np.arange(len(csr), dtype=np.int32), csr.degrees())
            return np.stack([owners, csr.indices])

        asked, n = pairs(self.held_out), len(self.held_out)
        owners, targets = np.concatenate([pairs(self.hidden), asked[:, edges]], axis=1)
        held_out = csr_from_pairs(asked[0, ~edges], asked[1, ~edges], n)
        hidden = csr_from_pairs(owners, targets, n)
        users = self.users[held_out.degrees()[self.users] > 0]
        return dataclasses.replace(self, users=users, held_out=held_out, hidden=hidden)

    def relevant(self, user: int) -> Int32[npt.NDArray[np.int32], " n"]:
        """The user's held-out targets."""
        return self.held_out.row(user)

    def one_way(self, user: int) -> Int32[npt.NDArray[np.int32], " n"]:
        """The held-out targets that do not follow the user back in training; all of them where ends differ in type."""
        relevant = self.relevant(user)
        return relevant[~in_sorted(relevant, self.train_by_target.row(user))] if self.same_type else relevant

    def known(self, user: int) -> Int32[npt.NDArray[np.int32], " n"]:
        """What is in no answer for the user: training and hidden targets, and the user."""
        rows = [self.train.row(user), self.hidden.row(user)]
        own = np.full(1 if self.same_type else 0, user, dtype=np.int32)
        return np.concatenate([*rows, own])


def follow_task(
    graph: PreparedGraph,
    held_out: Literal["test", "valid"],
    rng: np.random.Generator,
    *,
    relation: str | None = None,
    n_users: int | None = 2000,
    min_known: int = 3,
    with_elsewhere: bool = True,
) -> FollowTask:
    """Choose `n_users` at random among those with at least `min_known` training edges and a held-out one.

    None takes all such users. What they have by other relations is read from all of these, which takes long where there
    are thousands; not `with_elsewhere` it is left out. Raises UsageError when the graph was prepared without a split or
    no user is left.
    """
    chosen = graph.split_relation() if relation is None else graph.relation(relation)
    n_sources, n_targets = graph.count(chosen.source), graph.count(chosen.target)
    train = _adjacency(chosen, chosen.train, n_sources)
    answers = _adjacency(chosen, chosen.test if held_out == "test" else chosen.valid, n_sources)
    eligible = np.flatnonzero((train.degrees() >= min_known) & (answers.degrees() > 0))
    if len(eligible) == 0:
        held = int(np.count_nonzero(answers.degrees()))
        advice = (
            f"Of {held:,} with a {held_out} edge each has fewer to train on: `twhin evaluate links` ranks edges alone."
        )
        raise UsageError(
            f"{graph.path}: no source of {chosen.name!r} has {min_known} training edges and a {held_out} edge. "
            f"{advice if held else 'Hold out some of its edges in [split].'}"
        )
    users = eligible if n_users is None else np.sort(rng.permutation(eligible)[:n_users])
    nothing = Edges(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32))
    return FollowTask(
        relation=chosen.name,
        users=users.astype(np.int64),
        train=train,
        train_by_target=train.transposed(n_targets),
        hidden=_adjacency(chosen, chosen.valid if held_out == "test" else nothing, n_sources),
        held_out=answers,
        same_type=chosen.source == chosen.target,
        elsewhere=_elsewhere(graph, chosen, users) if with_elsewhere else None,
    )


def relations_held_out(graph: PreparedGraph, held_out: Literal["test", "valid"], first: str) -> list[str]:
    """The relations with held-out edges, `first` first where it is one, then those with most; at most MOST_RELATIONS.

    Raises UsageError when there are none.
    """
    some = [one for one in graph.relations if len(one.part(held_out))]
    if not some:
        raise UsageError(f"{graph.path} {graph.nothing_held_out(held_out)}")
    ordered = sorted(some, key=lambda one: (one.name != first, -len(one.part(held_out))))
    return [one.name for one in ordered[:MOST_RELATIONS]]


def _elsewhere(
    graph: PreparedGraph, asked: PreparedRelation, users: Int64[npt.NDArray[np.int64], " users"]
) -> Csr | None:
    """The edges that `users` have by other relations between the same types; None where there are none.

    Of nobody else: a relation that is asked for may be small beside others, which memory is not counted for.
    """
    ends = asked.source, asked.target
    others = [one for one in graph.relations if one.name != asked.name and (one.source, one.target) == ends]
    if not others:
        return None
    wanted = np.zeros(graph.count(asked.source), dtype=np.bool_)
    wanted[users] = True
    parts = []
    for one in others:
        for near, far in one.train.directed(one.symmetric):
            kept = _places_of(near, wanted)
            parts.append((near[kept], far[kept], _newness(one.train.time, kept)))
    sources, targets, newness = map(np.concatenate, zip(*parts, strict=True))
    return csr_from_pairs(sources, targets, len(wanted), newness)


def _places_of(
    rows: Integer[npt.NDArray[np.integer], " e"], wanted: Bool[npt.NDArray[np.bool_], " n"]
) -> Int64[npt.NDArray[np.int64], " kept"]:
    """Where the wanted ones are among the rows, of which a block is in memory at a time."""
    starts = range(0, len(rows), BLOCK_EDGES)
    none = np.empty(0, dtype=np.int64)
    return np.concatenate(
        [none, *(start + np.flatnonzero(wanted[rows[start : start + BLOCK_EDGES]]) for start in starts)]
    )


def _newness(
    time: Int64[npt.NDArray[np.int64], " e"] | None, kept: Int64[npt.NDArray[np.int64], " kept"]
) -> Float32[npt.NDArray[np.float32], " kept"]:
    """1 for each edge that is kept, and its place by time among these, from 0 to 1, besides; 1 without times."""
    if time is None:
        return np.ones(len(kept), dtype=np.float32)
    _, places = np.unique(time[kept], return_inverse=True)
    return (1.0 + places / max(len(kept), 1)).astype(np.float32)


def _adjacency(relation: PreparedRelation, edges: Edges, n_sources: int) -> Csr:
    sources, targets = map(np.concatenate, zip(*edges.directed(relation.symmetric), strict=True))
    return csr_from_pairs(sources, targets, n_sources)


def also_trained(relation: PreparedRelation, held_out: Literal["test", "valid"]) -> int:
    """How many of the held-out edges are training edges too, as files that were split elsewhere may have them.

    No list can contain them: what the user has is in no answer.
    """

    def keys(edges: Edges) -> Int64[npt.NDArray[np.int64], " e"]:
        ends = np.stack([edges.src, edges.dst]).astype(np.int64)
        low, high = np.sort(ends, axis=0) if relation.symmetric else ends
        pairs: npt.NDArray[np.int64] = low << 32 | high
        return pairs

    return int(np.isin(keys(relation.part(held_out)), keys(relation.train)).sum())


def without_known(
    task: FollowTask, users: Int64[npt.NDArray[np.int64], " users"], lists: Lists, k: int
) -> list[Int32[npt.NDArray[np.int32], " _"]]:
    """The first `k` of each list that the user is not known to have, so that all methods answer the same question."""
    kept = []
    for user, ranked in zip(users.tolist(), lists, strict=True):
        fresh: Bool[npt.NDArray[np.bool_], " listed"] = ~in_sorted(ranked, np.sort(task.known(user)))
        kept.append(np.asarray(ranked[fresh][:k], dtype=np.int32))
    return kept


def slack(task: FollowTask, users: Int64[npt.NDArray[np.int64], " users"]) -> int:
    """How many more candidates to ask for, so that `k` are left when the hidden ones are taken out."""
    return int(task.hidden.degrees()[users].max(initial=0))

"""What is known about one user at the time of a request: the trained vector, the edges, the interests."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64

from bundle.ids import ABSENT
from bundle.space import Relation, Space, interests_among
from recommend.ages import fades, times_of
from recommend.elsewhere import NOTHING_ELSEWHERE, DatedRows, Elsewhere, elsewhere_of
from recommend.mixtures import mixture_of
from recommend.types import NO_MODES, LiveEdges, Modes, Rows, in_sorted

NO_ROWS: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
NOBODY: npt.NDArray[np.int32] = np.empty(0, dtype=np.int32)
NO_OTHERS: Mapping[str, DatedRows] = {}
NOT_ENGAGED = DatedRows(NO_ROWS, None)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The entities that stand for a user: their embeddings, and their clusters (-1 outside every cluster)."""

    vectors: Float32[npt.NDArray[np.float32], "n dim"]
    clusters: Int32[npt.NDArray[np.int32], " n"]

    def __len__(self) -> int:
        return len(self.clusters)


class Profile(msgspec.Struct, frozen=True):
    """One user under one relation. `vector` is θu, None for a user unknown to training; `targets` ascending.

    `represented_by` are the relations whose targets stand for the user: the one asked for, or, when the user has
    no edge of it, the others. `more_followers` have an edge to the user besides the ones in training, `fewer_followers`
    have it no more. `elsewhere` is what the user has by other relations that tell of this one.
    """

    space: Space
    row: int | None
    vector: Float32[npt.NDArray[np.float32], " dim"] | None
    targets: Rows
    represented_by: tuple[tuple[Relation, Rows], ...]
    modes: Modes
    more_followers: Rows = NO_ROWS
    fewer_followers: Rows = NO_ROWS
    elsewhere: Elsewhere = NOTHING_ELSEWHERE

    @property
    def engaged(self) -> bool:
        """Whether there is any edge to represent the user by."""
        return any(len(rows) for _, rows in self.represented_by)

    def followers(self, relation: Relation) -> Int32[npt.NDArray[np.int32], " n"]:
        """Those with an edge of `relation` to the user, ascending; nobody where its ends differ in type."""
        if relation.entry.source != relation.entry.target:
            return NOBODY
        trained = NOBODY if self.row is None else relation.sources.row(self.row)
        if len(self.more_followers):
            trained = np.union1d(trained, self.more_followers).astype(np.int32)
        if len(self.fewer_followers):
            trained = np.setdiff1d(trained, self.fewer_followers, assume_unique=True)
        return trained

    def evidence(self) -> Evidence:
        """The entities that stand for the user; gathered when asked for."""
        parts = [_evidence(self.space, relation, rows) for relation, rows in self.represented_by]
        if len(parts) == 1:
            return parts[0]
        return Evidence(
            np.concatenate([np.empty((0, self.space.entry.dim), dtype=np.float32), *(part.vectors for part in parts)]),
            np.concatenate([np.empty(0, dtype=np.int32), *(part.clusters for part in parts)]),
        )


def row_of(space: Space, relation: Relation, user: str | None) -> int | None:
    """The user's row; None for one whom this version does not know."""
    return None if user is None else space.entities[relation.entry.source].ids.row(user)


def profile_of_row(
    space: Space,
    relation: Relation,
    row: int | None,
    live: LiveEdges,
    n_modes: int,
    followers: tuple[str, ...] = (),
    unfollowers: tuple[str, ...] = (),
) -> Profile:
    """Collect what the version, the live edges and the request say about the user of `row` for `relation`."""
    table = space.entities[relation.entry.source]
    vector = None if row is None else np.asarray(table.scored_embeddings(row))
    targets = current_targets(space, relation, row, live)
    represented_by = ((relation, targets),) if len(targets) else _others(space, relation, row, live)
    modes = _modes(space, relation, row, live, n_modes) if n_modes else NO_MODES
    more = np.sort(known_rows(table.ids.rows(followers))) if followers else NO_ROWS
    fewer = np.sort(known_rows(table.ids.rows(unfollowers))) if unfollowers else NO_ROWS
    elsewhere = elsewhere_of(space, relation, lambda other: _dated(space, other, row, live))
    return Profile(space, row, vector, targets, represented_by, modes, more, fewer, elsewhere)


def profile_of_newcomer(
    space: Space,
    relation: Relation,
    targets: Rows,
    followers: Int64[npt.NDArray[np.int64], " m"],
    n_modes: int,
    others: Mapping[str, DatedRows] = NO_OTHERS,
) -> Profile:
    """Somebody whom this version does not know, by rows: what they engaged with and who follows them, ascending.

    `others` is what they engaged with by other relations, where these tell of this one.
    """
    assignment = space.clusters.assignment.get(relation.entry.target)
    modes = NO_MODES
    if n_modes and assignment is not None:
        clusters = assignment[targets]
        alike = np.ones(len(clusters), dtype=np.float32)
        modes = Modes(*mixture_of(clusters, alike, min(n_modes, space.entry.clusters.modes)))
    elsewhere = elsewhere_of(space, relation, lambda other: others.get(other.entry.name, NOT_ENGAGED))
    return Profile(space, None, None, targets, ((relation, targets),), modes, followers, elsewhere=elsewhere)


def _others(space: Space, asked: Relation, row: int | None, live: LiveEdges) -> tuple[tuple[Relation, Rows], ...]:
    return tuple(
        (relation, current_targets(space, relation, row, live))
        for relation in space.relations.values()
        if relation.entry.source == asked.entry.source and relation is not asked
    )


def look_up(space: Space, live: LiveEdges) -> Generator[None, None, None]:
    """Find, in steps, the rows of all that a user has done: where that is much, a request finds them there."""
    for name in {**live.added, **live.removed}:
        relation = space.relations.get(name)
        if relation is not None:
            ids = space.entities[relation.entry.target].ids
            yield from live.look_up("added", name, ids)
            yield from live.look_up("removed", name, ids)
    for entity_type in live.blocked:
        if entity_type in space.entities:
            yield from live.look_up("blocked", entity_type, space.entities[entity_type].ids)


def current_targets(space: Space, relation: Relation, row: int | None, live: LiveEdges) -> Rows:
    """The user's targets under `relation` now, ascending: trained edges, plus what was added, less what was removed."""
    trained = NO_ROWS if row is None else relation.targets.row(row).astype(np.int64)
    name = relation.entry.name
    if name not in live.added and name not in live.removed:
        return trained
    ids = space.entities[relation.entry.target].ids
    added, removed = live.rows("added", name, ids), live.rows("removed", name, ids)
    return np.setdiff1d(np.union1d(trained, added), removed, assume_unique=False)


def _dated(space: Space, relation: Relation, row: int | None, live: LiveEdges) -> DatedRows:
    """The current targets, and when the user engaged with each."""
    targets = current_targets(space, relation, row, live)
    times = None if relation.times is None else times_of(space, relation, row, targets, live)
    return DatedRows(targets, times)


def known_rows(rows: Rows) -> Int64[npt.NDArray[np.int64], " known"]:
    """The rows that exist: ids of another version are passed over, not misread."""
    known: npt.NDArray[np.int64] = rows[rows != ABSENT]
    return known


def _evidence(space: Space, relation: Relation, targets: Rows) -> Evidence:
    target = relation.entry.target
    assignment = space.clusters.assignment.get(target)
    clusters = np.full(len(targets), -1, dtype=np.int32) if assignment is None else assignment[targets]
    return Evidence(space.entities[target].scored_embeddings(targets), clusters)


def _modes(space: Space, relation: Relation, row: int | None, live: LiveEdges, n_modes: int) -> Modes:
    """The heaviest interests among the relation's targets: the stored mixture, or eq. 3 again where live edges have
    changed the counts. None where the targets were not clustered."""
    interests = interests_among(space.clusters.interests, relation.entry.target)
    if interests is None:
        return NO_MODES
    if relation.entry.source == interests.entry.user_type and row is not None and not changed(space, relation, live):
        stored = interests.mixtures
        return _top(stored.row(row), stored.row_weights(row), n_modes)
    return Modes(*mixture_of(*engaged_clusters(space, relation, row, live), min(n_modes, space.entry.clusters.modes)))


def changed(space: Space, relation: Relation, live: LiveEdges) -> bool:
    """Whether what the user did since can have changed the interests among the relation's targets."""
    if not live:
        return False
    names = {one.entry.name for one in space.counted_with(relation)}
    return not names.isdisjoint(live.added) or not names.isdisjoint(live.removed)


def _top(
    clusters: Int32[npt.NDArray[np.int32], " n"], weights: Float32[npt.NDArray[np.float32], " n"], n_modes: int
) -> Modes:
    if len(clusters) <= n_modes:
        return Modes(np.asarray(clusters), np.asarray(weights))
    kept = weights[:n_modes]
    return Modes(np.asarray(clusters[:n_modes]), kept / kept.sum())


def engaged_clusters(
    space: Space, asked: Relation, row: int | None, live: LiveEdges
) -> tuple[Int32[npt.NDArray[np.int32], " n"], Float32[npt.NDArray[np.float32], " n"]]:
    """The clusters of all that the user engages with now and that counts with the targets of `asked`, and what each
    engagement counts there: as in the build."""
    clusters, weights = [np.empty(0, dtype=np.int32)], [np.empty(0, dtype=np.float32)]
    times, clocks = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int32)]
    counting = space.entry.clusters
    for relation in space.counted_with(asked):
        targets = current_targets(space, relation, row, live)
        clusters.append(space.clusters.assignment[relation.entry.target][targets])
        weights.append(_weights(space, relation, row, targets))
        if counting.half_life is not None:
            clock = counting.clocks.get(relation.entry.name)
            times.append(times_of(space, relation, row, targets, live))
            clocks.append(np.full(len(targets), 0 if clock is None else clock.number, dtype=np.int32))
    inside, counts = np.concatenate(clusters), np.concatenate(weights)
    if counting.half_life is not None:
        counted = np.where(inside >= 0, counts, np.float32(0.0))
        counts = counts * fades(np.concatenate(times), np.concatenate(clocks), counted, counting.half_life)
    return inside, counts


def _weights(
    space: Space, relation: Relation, row: int | None, targets: Rows
) -> Float32[npt.NDArray[np.float32], " n"]:
    """What each edge counts; one that is newer than the version has no weight of its own."""
    counting = space.entry.clusters
    weights = np.full(len(targets), counting.relation_weights.get(relation.entry.name, 1.0), dtype=np.float32)
    if counting.edge_weights and row is not None:
        trained = relation.targets.row(row)
        known = in_sorted(targets, trained)
        weights[known] *= relation.targets.row_weights(row)[np.searchsorted(trained, targets[known])]
    return weights

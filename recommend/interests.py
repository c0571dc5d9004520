"""A user's interests, to be shown: clusters, their shares, and what the user engages with in each."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bundle.space import Relation, Space, interests_among
from recommend.profile import current_targets, profile_of_row
from recommend.types import LiveEdges


class Interest(NamedTuple):
    """One mode of a user. `examples` are entities that the user engages with in this cluster: type and row."""

    cluster: int
    share: float
    examples: tuple[tuple[str, int], ...]


def interests_of(space: Space, relation: Relation, row: int | None, live: LiveEdges, n_examples: int) -> list[Interest]:
    """The interests of the user of `row` among the relation's targets, heaviest first; none where the user engages with
    none of these.

    Examples are the user's own and nobody else's, those of `relation` before those of other relations. An interest
    that smoothing lent from users alike may have none.
    """
    profile = profile_of_row(space, relation, row, live, space.entry.clusters.modes)
    examples: dict[int, list[tuple[str, int]]] = {cluster: [] for cluster in profile.modes.clusters.tolist()}
    for one in sorted(space.counted_with(relation), key=lambda one: one is not relation):
        target_type = one.entry.target
        targets = current_targets(space, one, row, live)
        clusters = space.clusters.assignment[target_type][targets]
        for cluster, known in examples.items():
            inside = [(target_type, target) for target in targets[np.flatnonzero(clusters == cluster)].tolist()]
            known += [target for target in inside if target not in known][: n_examples - len(known)]
    pairs = zip(profile.modes.clusters.tolist(), profile.modes.shares.tolist(), strict=True)
    return [Interest(cluster, share, tuple(examples[cluster])) for cluster, share in pairs]


def one_for_each(space: Space, relation: Relation) -> Iterator[Relation]:
    """Of the relations of `relation`'s users one for each of the interests that there are, `relation` first."""
    others = (one for one in space.relations.values() if one.entry.source == relation.entry.source)
    seen = set[int]()
    for one in (relation, *others):
        own = interests_among(space.clusters.interests, one.entry.target)
        if own is not None and own.first not in seen:
            seen.add(own.first)
            yield one

"""A user's interests, to be shown: clusters, their shares, and what the user engages with in each."""

from typing import NamedTuple

import numpy as np

from bundle.space import Relation, Space
from recommend.profile import current_targets, profile_of_row
from recommend.types import LiveEdges


class Interest(NamedTuple):
    """One mode of a user. `examples` are entities that the user engages with in this cluster: type and row."""

    cluster: int
    share: float
    examples: tuple[tuple[str, int], ...]


def interests_of(space: Space, relation: Relation, row: int | None, live: LiveEdges, n_examples: int) -> list[Interest]:
    """The interests of the user of `row`, heaviest first; none where nothing that the user engages with is clustered.

    Examples are the user's own and nobody else's, those of `relation` before those of other relations. An interest
    that smoothing lent from users alike may have none.
    """
    profile = profile_of_row(space, relation, row, live, space.entry.clusters.modes)
    others = [one for one in space.relations.values() if one.entry.source == relation.entry.source]
    examples: dict[int, list[tuple[str, int]]] = {cluster: [] for cluster in profile.modes.clusters.tolist()}
    for one in sorted(others, key=lambda one: one is not relation):
        target_type = one.entry.target
        assignment = space.clusters.assignment.get(target_type)
        if assignment is None:
            continue
        targets = current_targets(space, one, row, live)
        clusters = assignment[targets]
        for cluster, known in examples.items():
            inside = [(target_type, target) for target in targets[np.flatnonzero(clusters == cluster)].tolist()]
            known += [target for target in inside if target not in known][: n_examples - len(known)]
    pairs = zip(profile.modes.clusters.tolist(), profile.modes.shares.tolist(), strict=True)
    return [Interest(cluster, share, tuple(examples[cluster])) for cluster, share in pairs]

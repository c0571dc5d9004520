"""A version's space with other clusters than its own: for experiments with their number, nothing is written."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bundle.csr import concatenated
from bundle.manifest import InterestsEntry
from bundle.space import Clusters, Interests, Relation, Space
from index.builder.clusters import cluster
from index.builder.config import SEEDS, ClusterConfig
from index.builder.devices import find_device
from index.builder.mixtures import Counting, Engagements, build_mixtures

ITERATIONS = 10


def recluster(space: Space, relation: Relation, count: int, seed: int, *, modes: int = 10) -> Space:
    """The space with `count` clusters made anew over the types of the interests that `relation` is answered by, and
    the `modes` heaviest of each of its users (eq. 3); there are no interests but these.

    Every engagement counts one; there are no stored lists.
    Raises ConfigError for more clusters than entities.
    """
    types, user_type = space.clusters.interests_in(relation.entry.target).entry.types, relation.entry.source
    vectors = {name: space.table(name).embeddings for name in types}
    config = ClusterConfig(count=count, iterations=ITERATIONS)
    clustering = cluster(vectors, _degrees(space, types), types, config, seed % SEEDS, find_device())
    engagements = [
        Engagements(one.targets, clustering.assignment[one.entry.target]) for one in space.counted_with(relation)
    ]
    mixtures = concatenated([*build_mixtures(engagements, len(space.table(user_type)), Counting(modes, count))])
    clusters = Clusters(
        centroids=clustering.centroids,
        medoid_types=clustering.medoid_types,
        medoid_rows=clustering.medoid_rows,
        sizes=clustering.sizes,
        types=types,
        assignment=clustering.assignment,
        interests=(Interests(InterestsEntry(types=types, count=count, user_type=user_type), 0, mixtures),),
        lists={},
    )
    counting = space.entry.clusters.model_copy(
        update={
            "count": count,
            "types": types,
            "mixture_type": user_type,
            "interests": (),
            "modes": modes,
            "relation_weights": {},
            "edge_weights": False,
            "half_life": None,
        }
    )
    return replace(space, clusters=clusters, entry=space.entry.model_copy(update={"clusters": counting}))


def _degrees(space: Space, types: Sequence[str]) -> dict[str, npt.NDArray[np.int64]]:
    """Edges at either end of each entity of some types."""
    degrees = {name: np.zeros(len(space.table(name)), np.int64) for name in types}
    for relation in space.relations.values():
        if relation.entry.source in degrees:
            degrees[relation.entry.source] += relation.targets.degrees()
        if relation.entry.target in degrees and not relation.entry.symmetric:
            degrees[relation.entry.target] += relation.sources.degrees()
    return degrees

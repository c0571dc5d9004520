"""A version's space with other clusters than its own: for experiments with their number, nothing is written."""

from dataclasses import replace

from bundle.csr import concatenated
from bundle.space import Clusters, Space
from index.builder.clusters import cluster
from index.builder.config import ClusterConfig
from index.builder.devices import find_device
from index.builder.mixtures import Counting, Engagements, build_mixtures

ITERATIONS = 10


def recluster(space: Space, count: int, seed: int, *, modes: int = 10) -> Space:
    """The space with `count` clusters made anew over the same types, and every user's `modes` heaviest (eq. 3).

    Every engagement counts one; there are no stored lists.
    Raises ConfigError for more clusters than entities.
    """
    types, user_type = space.entry.clusters.types, space.clusters.mixture_type
    vectors = {name: space.table(name).embeddings for name in types}
    clustering = cluster(vectors, types, ClusterConfig(count=count, iterations=ITERATIONS), seed, find_device())
    engagements = [
        Engagements(relation.targets, clustering.assignment[relation.entry.target])
        for relation in space.relations.values()
        if relation.entry.source == user_type and relation.entry.target in clustering.assignment
    ]
    mixtures = concatenated([*build_mixtures(engagements, len(space.table(user_type)), Counting(modes, count))])
    clusters = Clusters(
        centroids=clustering.centroids,
        medoid_types=clustering.medoid_types,
        medoid_rows=clustering.medoid_rows,
        sizes=clustering.sizes,
        types=types,
        assignment=clustering.assignment,
        mixtures=mixtures,
        mixture_type=user_type,
        lists={},
    )
    counting = space.entry.clusters.model_copy(
        update={"count": count, "modes": modes, "relation_weights": {}, "edge_weights": False, "half_life": None}
    )
    return replace(space, clusters=clusters, entry=space.entry.model_copy(update={"clusters": counting}))

"""From a profile to query vectors: `user·θu + fold_in·mean(θ of u's targets) + mode·v_c + relation·θr`.

The terms and their weights are those of `bundle.manifest.QueryWeights`, learnt at build time. Where a
term has nothing to stand on, its weight moves: no θu, and the fold-in takes it; no engagements, and θu
takes the fold-in's; no interests, and the mode's weight goes to whichever of the two there is.
"""

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.manifest import ModeVector, QueryWeights
from bundle.space import Relation, Space
from recommend.profile import Evidence, Profile
from recommend.types import Modes

Queries = Float32[npt.NDArray[np.float32], "q width"]


def effective_weights(weights: QueryWeights, profile: Profile, modes: Modes) -> QueryWeights | None:
    """The weights after moving those of absent terms; None when the user has neither vector nor engagements."""
    user, fold_in, mode = weights.user, weights.fold_in, weights.mode
    known, engaged = profile.vector is not None, profile.engaged
    if not known and not engaged:
        return None
    if not len(modes):
        user, fold_in, mode = (user, fold_in + mode, 0.0) if engaged else (user + mode, fold_in, 0.0)
    if not known:
        user, fold_in = 0.0, fold_in + user
    if not engaged:
        user, fold_in = user + fold_in, 0.0
    if (user, fold_in, mode) == (weights.user, weights.fold_in, weights.mode):
        return weights
    return weights.model_copy(update={"user": user, "fold_in": fold_in, "mode": mode})


def build_queries(
    space: Space,
    relation: Relation,
    profile: Profile,
    modes: Modes,
    weights: QueryWeights,
    mode_vector: ModeVector | None,
) -> Queries:
    """One query for each mode, or a single one when there are no modes."""
    by_mode = len(modes) > 0 and weights.mode != 0
    evidence = profile.evidence() if weights.fold_in or (by_mode and mode_vector in (None, "personal")) else None
    queries = np.zeros((max(1, len(modes)), space.entry.width), dtype=np.float32)
    embedding = queries[:, : space.entry.dim]
    embedding[:] = _shared_part(relation, profile, evidence, weights)
    if by_mode:
        embedding += np.float32(weights.mode) * _mode_vectors(space, evidence, modes, mode_vector)
    if weights.popularity and space.entry.width > space.entry.dim:
        queries[:, space.entry.dim] = weights.popularity
    return queries


def _shared_part(
    relation: Relation, profile: Profile, evidence: Evidence | None, weights: QueryWeights
) -> Float32[npt.NDArray[np.float32], " dim"]:
    part = np.float32(weights.relation) * relation.forward
    if weights.user and profile.vector is not None:
        part = part + np.float32(weights.user) * profile.vector
    if weights.fold_in and evidence is not None and len(evidence):
        part = part + np.float32(weights.fold_in) * evidence.vectors.mean(axis=0, dtype=np.float32)
    return part.astype(np.float32, copy=False)


def _mode_vectors(
    space: Space, evidence: Evidence | None, modes: Modes, kind: ModeVector | None
) -> Float32[npt.NDArray[np.float32], "modes dim"]:
    """The vector of each mode: the cluster's centroid, its medoid, or this user's own mean inside the cluster."""
    if kind == "medoid":
        return medoid_vectors(space, modes)
    if kind == "centroid" or evidence is None:
        return space.clusters.centroids[modes.clusters]
    return _personal(space, evidence, modes)


def medoid_vectors(space: Space, modes: Modes) -> Float32[npt.NDArray[np.float32], "modes dim"]:
    """The embedding of the member nearest each mode's centroid."""
    clusters = space.clusters
    vectors = np.empty((len(modes), space.entry.dim), dtype=np.float32)
    for position, cluster in enumerate(modes.clusters.tolist()):
        entity_type = clusters.types[int(clusters.medoid_types[cluster])]
        vectors[position] = space.entities[entity_type].scored_embeddings(int(clusters.medoid_rows[cluster]))
    return vectors


def _personal(space: Space, evidence: Evidence, modes: Modes) -> Float32[npt.NDArray[np.float32], "modes dim"]:
    """The mean of the user's own entities in each cluster; the centroid where the evidence has none there."""
    inside = (evidence.clusters == modes.clusters[:, None]).astype(np.float32)
    counts = inside.sum(axis=1)
    means: npt.NDArray[np.float32] = inside @ evidence.vectors
    means /= np.maximum(counts, 1)[:, None]
    if not counts.all():
        absent = np.flatnonzero(counts == 0)
        means[absent] = space.clusters.centroids[modes.clusters[absent]]
    return means

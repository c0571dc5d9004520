"""Rescoring the candidates of a search: a small network over products of embeddings, learnt at build time.

One inner product finds a few hundred candidates among all; those few can afford a score that costs more. Every
feature is arithmetic on the vectors and degrees of the user, of those at the other end of the user's edges,
and of the candidate, or counts the short paths between user and candidate (`recommend/paths.py`).

For a user u and a candidate t the features are:

user                   θu·θt; of a user unknown to training, as fold_in
fold_in                mean(θ of u's targets)·θt
damped_fold_in         the same mean weighted by 1/√(1 + in-degree): rare targets say more
followers              mean(θ of those with an edge to u)·θt
relation               θr·θt
length                 |θt|
nearest_target         max over u's targets w of cos(θw, θt)
three_nearest_targets  mean of the three largest
soft_nearest_target    log mean exp(θw·θt)
nearest_follower       max over those with an edge to u of their cosine with θt
reciprocity            1 when t has an edge to u
in_degree              ln(1 + edges to t)
out_degree             ln(1 + edges from t), 0 when t is of another type than u
user_out_degree        ln(1 + edges from u)
user_in_degree         ln(1 + edges to u)
the numbers of paths   ln(1 + n)
damped paths, walks,
elsewhere              ln(1 + 1000 x)
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import get_args

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Integer

from bundle.manifest import Feature, Rescoring
from bundle.space import Relation, Space
from recommend.elsewhere import FINEST
from recommend.merge import RankedList
from recommend.paths import path_features
from recommend.plan import Plan
from recommend.profile import Profile
from recommend.types import in_sorted

FEATURES: tuple[Feature, ...] = get_args(Feature)
# Where the inputs begin that count paths; a network of an earlier release has none of them.
FIRST_PATH = FEATURES.index("followed_by_targets")
N_COUNTS = 4
MOST_NEIGHBOURS = 512
TINY = np.float32(1e-6)
Vectors = Float32[npt.NDArray[np.float32], "n d"]
Rows = Integer[npt.NDArray[np.integer], " _"]
Features = Float32[npt.NDArray[np.float32], "n features"]
FeaturesByEngine = Callable[[Space, Relation, Profile, Rows], Features]


@dataclass(frozen=True, slots=True)
class Subject:
    """The user as the features see them. `vector` is θu, or the fold-in of one whom training does not know."""

    vector: Float32[npt.NDArray[np.float32], " d"]
    targets: Vectors
    target_weights: Float32[npt.NDArray[np.float32], " n"]
    followers: Float32[npt.NDArray[np.float32], "m d"]
    out_degree: int
    in_degree: int


def rescored(
    plan: Plan, rescoring: Rescoring, ranked: RankedList, by_engine: FeaturesByEngine | None = None
) -> RankedList:
    """The candidates by the network's score, best first; equal scores by row.

    As they were for a user without edges of this relation: the network has nothing to compare them with. Its inputs are
    made by `by_engine`, where there is one and they count paths: in an eighth of the time.
    """
    if not ranked.rows or not len(plan.profile.targets):
        return ranked
    rows = np.array(ranked.rows, dtype=np.int64)
    if by_engine is not None and counts_paths(rescoring):
        inputs = by_engine(plan.space, plan.relation, plan.profile, rows)
    else:
        inputs = features_of(plan.space, plan.relation, plan.profile, rows, with_paths=counts_paths(rescoring))
    scores = network_scores(rescoring, inputs)
    order = np.lexsort((rows, -scores))
    return ranked._replace(rows=rows[order].tolist(), scores=scores[order].tolist())


@lru_cache(maxsize=64)
def counts_paths(rescoring: Rescoring) -> bool:
    """Whether the network has an input that counts paths."""
    return any(FEATURES.index(name) >= FIRST_PATH for name in rescoring.features)


def features_of(
    space: Space, relation: Relation, profile: Profile, candidates: Rows, *, with_paths: bool = True
) -> Float32[npt.NDArray[np.float32], "n features"]:
    """Every feature of `FEATURES`, a row for each candidate of the user of `profile`; 0 for paths without them."""
    followers = profile.followers(relation)
    subject = make_subject(space, relation, profile.vector, profile.targets, followers)
    features = candidate_features(space, relation, subject, candidates, in_sorted(candidates, followers))
    if with_paths:
        paths = path_features(space, relation, profile, candidates)
        paths[N_COUNTS:] *= FINEST
        features[:, FIRST_PATH:] = np.log1p(paths).T
    return features


def make_subject(
    space: Space,
    relation: Relation,
    vector: Float32[npt.NDArray[np.float32], " d"] | None,
    targets: Rows,
    followers: Rows,
) -> Subject:
    """Gather a user's side of the features; `followers` are rows of the candidate type with an edge to the user.

    Of more than MOST_NEIGHBOURS on either side an even sample stands for all.
    """
    table = space.entities[relation.entry.target]
    some_targets, some_followers = _sample(targets), _sample(followers)
    vectors = table.scored_embeddings(some_targets)
    degrees = _degrees(relation.sources.indptr, some_targets)
    weights = (1.0 / np.sqrt(1.0 + degrees)).astype(np.float32)
    # Without a vector the fold-in stands for the user: zeros of nothing.
    own = vector if vector is not None else vectors.sum(axis=0) / np.float32(max(1, len(vectors)))
    return Subject(own, vectors, weights, table.scored_embeddings(some_followers), len(targets), len(followers))


def candidate_features(
    space: Space,
    relation: Relation,
    subject: Subject,
    candidates: Rows,
    reciprocal: Bool[npt.NDArray[np.bool_], " n"],
) -> Float32[npt.NDArray[np.float32], "n features"]:
    """Every feature of `FEATURES` but those of paths, which are 0; `reciprocal` marks those with an edge to u."""
    vectors = space.entities[relation.entry.target].scored_embeddings(candidates)
    lengths = _lengths(vectors)
    queries = np.concatenate([[subject.vector, relation.forward], subject.targets, subject.followers])
    # One product for everything, a row for each query: what follows runs along the candidates, which are many.
    products = queries @ vectors.T
    n_targets = len(subject.targets)
    to_targets, to_followers = products[2 : 2 + n_targets], products[2 + n_targets :]
    out = np.zeros((len(FEATURES), len(candidates)), dtype=np.float32)
    out[0], out[4] = products[:2]
    out[5] = lengths
    if n_targets:
        weights = subject.target_weights
        out[1], out[2] = to_targets.mean(axis=0), weights @ to_targets / weights.sum()
        out[6:9] = _to_targets(to_targets, lengths, _lengths(subject.targets))
    if len(to_followers):
        out[3] = to_followers.mean(axis=0)
        out[9] = (to_followers / _lengths(subject.followers)[:, None]).max(axis=0) / lengths
    out[10] = reciprocal
    out[11] = np.log1p(_degrees(relation.sources.indptr, candidates))
    if relation.entry.source == relation.entry.target:
        out[12] = np.log1p(_degrees(relation.targets.indptr, candidates))
    out[13] = np.log1p(subject.out_degree)
    out[14] = np.log1p(subject.in_degree)
    return out.T


def _to_targets(
    products: Float32[npt.NDArray[np.float32], "m n"],
    lengths: Float32[npt.NDArray[np.float32], " n"],
    target_lengths: Float32[npt.NDArray[np.float32], " m"],
) -> Float32[npt.NDArray[np.float32], "3 n"]:
    """The largest cosine, the mean of the three largest, the log mean exp of the products."""
    cosines = products / target_lengths[:, None]
    few = min(3, len(cosines))
    nearest = cosines.max(axis=0)
    largest = np.partition(cosines, len(cosines) - few, axis=0)[-few:]
    peak = products.max(axis=0)
    above = products - peak
    soft = peak + np.log(np.exp(above, out=above).mean(axis=0))
    return np.stack([nearest / lengths, largest.mean(axis=0) / lengths, soft])


def network_scores(
    rescoring: Rescoring, features: Float32[npt.NDArray[np.float32], "n features"]
) -> Float32[npt.NDArray[np.float32], " n"]:
    """The network's score of each candidate: `out · max(0, W x + b)` with x its standardised features."""
    matrix, bias, out = network_arrays(rescoring)
    active = np.maximum(features @ matrix + bias, np.float32(0.0))
    scores: npt.NDArray[np.float32] = active @ out
    return scores


@lru_cache(maxsize=64)
def network_arrays(
    rescoring: Rescoring,
) -> tuple[
    Float32[npt.NDArray[np.float32], "features hidden"],
    Float32[npt.NDArray[np.float32], " hidden"],
    Float32[npt.NDArray[np.float32], " hidden"],
]:
    """The network as arrays over all of `FEATURES`, standardising folded into its first layer; made once.

    `W (x − mean)·scale + b  =  (W·scale) x + (b − (W·scale) mean)`, computed in float64.
    """
    scaled = np.array(rescoring.hidden) * np.array(rescoring.scale)
    matrix = np.zeros((len(FEATURES), len(scaled)))
    matrix[[FEATURES.index(name) for name in rescoring.features]] = scaled.T
    bias = np.array(rescoring.bias) - scaled @ np.array(rescoring.mean)
    return matrix.astype(np.float32), bias.astype(np.float32), np.array(rescoring.out, dtype=np.float32)


def _lengths(vectors: Vectors) -> Float32[npt.NDArray[np.float32], " n"]:
    lengths: npt.NDArray[np.float32] = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return np.maximum(lengths, TINY)


def _degrees(indptr: npt.NDArray[np.int64], rows: Rows) -> Float32[npt.NDArray[np.float32], " n"]:
    degrees: npt.NDArray[np.int64] = indptr[rows.astype(np.int64) + 1] - indptr[rows]
    return degrees.astype(np.float32)


def _sample(rows: Rows) -> Rows:
    if len(rows) <= MOST_NEIGHBOURS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_NEIGHBOURS).astype(np.int64)]

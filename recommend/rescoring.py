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
elsewhere, recency     ln(1 + 1000 x)
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import get_args

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Integer

from bundle.manifest import Feature, Rescoring
from bundle.rows import in_units
from bundle.space import Relation, Space
from recommend.elsewhere import FINEST
from recommend.merge import RankedList
from recommend.neighbours import of_neighbours
from recommend.paths import path_features
from recommend.plan import Plan
from recommend.profile import Profile
from recommend.tables import tables_of
from recommend.types import in_sorted

FEATURES: tuple[Feature, ...] = get_args(Feature)
# Where the inputs begin that count paths; a network of an earlier release has none of them.
FIRST_PATH = FEATURES.index("followed_by_targets")
N_COUNTS = 4
MOST_NEIGHBOURS = 512
TINY = np.float32(1e-6)
Rows = Integer[npt.NDArray[np.integer], " _"]
Features = Float32[npt.NDArray[np.float32], "n features"]
FeaturesByEngine = Callable[[Space, Relation, Profile, Rows], Features]


def rescored(
    plan: Plan, rescoring: Rescoring, ranked: RankedList, by_engine: FeaturesByEngine | None = None
) -> RankedList:
    """The candidates, and those that the network's neighbours add, by its score, best first; equal scores by row.

    As they were for a user without edges of this relation: the network has nothing to compare them with.
    """
    if not len(plan.profile.targets):
        return ranked
    rows = np.array(ranked.rows, dtype=np.int64)
    if rescoring.neighbours is not None:
        profile, keeps = plan.profile, plan.exclusions.keeps
        more = of_neighbours(plan.space, plan.relation, profile, rescoring.neighbours, keeps)
        rows = np.concatenate([rows, more[~in_sorted(more, np.sort(rows))]])
    scores = network_scores(rescoring, inputs_of(plan, rescoring, rows, by_engine))
    order = np.lexsort((rows, -scores))
    return ranked._replace(rows=rows[order].tolist(), scores=scores[order].tolist())


def inputs_of(plan: Plan, rescoring: Rescoring, rows: Rows, by_engine: FeaturesByEngine | None) -> Features:
    """Every feature of `FEATURES` of some candidates of the plan's user: by `by_engine`, where there is one and the
    network counts paths, in a fifth of the time."""
    if by_engine is not None and counts_paths(rescoring):
        return by_engine(plan.space, plan.relation, plan.profile, rows)
    return features_of(plan.space, plan.relation, plan.profile, rows, with_paths=counts_paths(rescoring))


@lru_cache(maxsize=64)
def counts_paths(rescoring: Rescoring) -> bool:
    """Whether the network has an input that counts paths."""
    return any(FEATURES.index(name) >= FIRST_PATH for name in rescoring.features)


def features_of(
    space: Space, relation: Relation, profile: Profile, candidates: Rows, *, with_paths: bool = True
) -> Features:
    """Every feature of `FEATURES`, a row for each candidate of the user of `profile`; 0 for paths without them."""
    followers = profile.followers(relation)
    # Features are rows while they are made: what is done for all candidates runs along them.
    out = np.zeros((len(FEATURES), len(candidates)), dtype=np.float32)
    fill_products(out, space, relation, profile.vector, profile.targets, followers, candidates)
    if with_paths:
        paths = path_features(space, relation, profile, candidates)
        paths[N_COUNTS:] *= FINEST
        paths += np.float32(1.0)
        np.log(paths, out=out[FIRST_PATH:])
    return out.T


def fill_products(
    out: Float32[npt.NDArray[np.float32], "features n"],
    space: Space,
    relation: Relation,
    vector: Float32[npt.NDArray[np.float32], " d"] | None,
    targets: Rows,
    followers: Rows,
    candidates: Rows,
) -> None:
    """Write the features of `candidates` that are no paths; `out` has zeros. `vector` is θu, or None for one whom
    training does not know.

    `followers` are rows of the candidate type with an edge to the user. Of more than MOST_NEIGHBOURS on either side an
    even sample stands for all.
    """
    tables, table = tables_of(space, relation), space.entities[relation.entry.target]
    some_targets, some_followers = _sample(targets), _sample(followers)
    n_targets, n_own = len(some_targets), len(some_targets) + len(some_followers)
    numbers, factors = in_units(table.scored, np.concatenate([some_targets, some_followers, candidates]), table.dim)
    lengths = np.sqrt(np.vecdot(numbers, numbers))
    own, others = numbers[:n_own], numbers[n_own:]
    if factors is not None:
        lengths *= factors
        own = own * factors[:n_own, None]
    np.maximum(lengths, TINY, out=lengths)
    means = _weights_of_means(tables.rarity.take(some_targets), len(some_followers)) @ own
    # Without a vector the fold-in stands for the user: zeros of nothing.
    queries = np.concatenate([[means[0] if vector is None else vector], means, [relation.forward], own])
    # One product for everything, a row for each query: the five that are features by themselves, and all neighbours.
    products = queries @ others.T
    if factors is not None:
        products *= factors[n_own:]
    of_candidates = lengths[n_own:]
    out[0:5], out[5] = products[:5], of_candidates
    if n_targets:
        _compare_with_targets(out[6:9], products[5 : 5 + n_targets], lengths[:n_targets])
    if n_own > n_targets:
        cosines = products[5 + n_targets :] / lengths[n_targets:n_own, None]
        cosines.max(axis=0, out=out[9])
    out[6:8] /= of_candidates
    out[9] /= of_candidates
    out[10] = in_sorted(candidates, followers)
    tables.log_in.take(candidates, out=out[11], mode="clip")
    tables.log_out.take(candidates, out=out[12], mode="clip")
    out[13], out[14] = math.log1p(len(targets)), math.log1p(len(followers))


def _weights_of_means(rarity: Float32[npt.NDArray[np.float32], " targets"], n_followers: int) -> Features:
    """What each of the targets and followers counts in three means: of targets alike, of targets by rarity, of
    followers. Zeros of nobody."""
    n_targets = len(rarity)
    weights = np.zeros((3, n_targets + n_followers), dtype=np.float32)
    if n_targets:
        weights[0, :n_targets], weights[1, :n_targets] = 1.0 / n_targets, rarity / rarity.sum()
    if n_followers:
        weights[2, n_targets:] = 1.0 / n_followers
    return weights


def _compare_with_targets(
    out: Float32[npt.NDArray[np.float32], "3 n"],
    products: Float32[npt.NDArray[np.float32], "m n"],
    lengths: Float32[npt.NDArray[np.float32], " m"],
) -> None:
    """Write the largest of the products over the targets' `lengths`, the mean of the three largest, and the log mean
    exp of the products, which are lost."""
    cosines = products / lengths[:, None]
    few = min(3, len(cosines))
    cosines.partition(len(cosines) - few, axis=0)
    largest = cosines[len(cosines) - few :]
    largest.max(axis=0, out=out[0])
    np.add.reduce(largest, axis=0, out=out[1])
    out[1] /= few
    peak = products.max(axis=0)
    products -= peak
    np.exp(products, out=products)
    np.log(np.full(len(products), 1.0 / len(products), dtype=np.float32) @ products, out=out[2])
    out[2] += peak


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


def _sample(rows: Rows) -> Rows:
    if len(rows) <= MOST_NEIGHBOURS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_NEIGHBOURS).astype(np.int64)]

"""Learning to rescore: the network of `recommend.rescoring`, fitted to validation edges."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64, Integer
from scipy.optimize import minimize

import engine
from bundle.manifest import Neighbours, QueryWeights, Rescoring, Strategy
from bundle.strategies import walk
from evaluation.baselines import BETAS, CHOSEN_AT
from evaluation.learning.loss import Examples, pools_of, ranking_loss
from evaluation.metrics import hit_ranks, recall
from evaluation.task import FollowTask
from recommend.profile import Profile
from recommend.protocol import Lists
from recommend.recommender import Recommender
from recommend.rescoring import FEATURES, network_scores
from recommend.types import in_sorted

POOL = 300
HIDDEN = 16
# Whose likest users add candidates, and how many: as many lists as are read in the time of nothing.
NEIGHBOURS = Neighbours(users=16, candidates=50)
# Networks that begin differently, whose mean is asked: what one of them has by chance counts a part of that.
FITS = 3
# Candidates of a pool that teach what is wrong.
NEGATIVES = 100
# Spread over the pools that teach: a few hundred pools are fitted too closely by what thousands need.
L2 = 3.5
# More passes fit the teachers, not the judges.
PASSES = 60
Rows = Integer[npt.NDArray[np.integer], " _"]


def learn_rescoring(
    recommender: Recommender, task: FollowTask, profiles: Sequence[Profile], pools: Lists, rng: np.random.Generator
) -> Rescoring | None:
    """The network that puts the held-out candidates of `pools` first; None when no pool can teach anything.

    `profiles[i]` and `pools[i]` belong to `task.users[i]`, whose neighbours' candidates join the pool; the inputs come
    from the recommender's first space.
    """
    relation = recommender.bundle.space().relation(task.relation)
    thinned = []
    for user, profile, pool in zip(task.users.tolist(), profiles, pools, strict=True):
        # Of somebody who plays a newcomer training knows a row, which a newcomer's neighbours do not have.
        more = recommender.of_neighbours(relation, msgspec.structs.replace(profile, row=user), NEIGHBOURS)
        more = more[~np.isin(more, pool) & ~in_sorted(more, np.sort(task.known(user)))]
        thinned.append(_thinned(np.concatenate([pool, more]), task.relevant(user), rng))
    examples = pools_of(task, thinned, lambda i, pool: recommender.features(relation, profiles[i], pool), len(FEATURES))
    if len(examples.starts) < 2:
        return None
    return mean_network([fit_network(examples, rng) for _ in range(FITS)])


def learn_walk(
    recommender: Recommender, task: FollowTask, profiles: Sequence[Profile], pools: Lists, weights: QueryWeights
) -> Strategy:
    """`walk` with the β that puts most of the held-out candidates of `pools` among the first CHOSEN_AT."""
    relation = recommender.bundle.space().relation(task.relation)
    tried = [walk(weights, beta) for beta in sorted(BETAS)]
    networks = [one.rescoring for one in tried if one.rescoring is not None]
    found = np.zeros(len(tried))
    for user, profile, pool in zip(task.users.tolist(), profiles, pools, strict=True):
        inputs, relevant = recommender.features(relation, profile, pool), task.relevant(user)
        for place, network in enumerate(networks):
            scores = network_scores(network, inputs)
            ranked = pool[np.lexsort((pool, -scores))[:CHOSEN_AT]]
            found[place] += recall(hit_ranks(ranked, relevant), len(relevant), CHOSEN_AT)
    return tried[int(found.argmax())]


def mean_network(networks: Sequence[Rescoring]) -> Rescoring:
    """One network, whose score is the mean of theirs; they have the same inputs, in the same units."""
    first, n = networks[0], len(networks)
    return first.model_copy(
        update={
            "hidden": tuple(row for one in networks for row in one.hidden),
            "bias": tuple(value for one in networks for value in one.bias),
            "out": tuple(value / n for one in networks for value in one.out),
        }
    )


def _thinned(pool: Rows, relevant: Rows, rng: np.random.Generator) -> Rows:
    """The pool with no more than NEGATIVES of its other candidates: more users teach more than longer pools do."""
    positive = in_sorted(pool, relevant)
    others = np.flatnonzero(~positive)
    chosen = rng.permutation(others)[:NEGATIVES]
    kept: npt.NDArray[np.integer] = pool[np.sort(np.concatenate([np.flatnonzero(positive), chosen]))]
    return kept


def fit_network(examples: Examples, rng: np.random.Generator, *, hidden: int = HIDDEN) -> Rescoring:
    """Minimise the ranking loss of a network of one hidden layer of `hidden` units by L-BFGS, with L2 over the number
    of pools as weight decay.
    """
    l2 = L2 / (len(examples.starts) - 1)
    mean, deviation = examples.features.mean(axis=0), examples.features.std(axis=0)
    scale = np.where(deviation > 1e-6, 1.0 / np.maximum(deviation, 1e-6), 0.0).astype(np.float32)
    x = (examples.features - mean) * scale
    width = x.shape[1]
    start = np.concatenate(
        [rng.normal(0.0, width**-0.5, hidden * width), np.zeros(hidden), rng.normal(0.0, 0.1, hidden)]
    )

    loss_of = compiled_loss if engine.available() else network_loss

    def objective(packed: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        loss, gradient = loss_of(packed, x, examples, hidden)
        return loss + l2 * float(packed @ packed), gradient + 2.0 * l2 * packed

    minimum = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": PASSES, "maxcor": 20})
    matrix, bias, out = _unpack(minimum.x, hidden, width)
    return Rescoring(
        pool=POOL,
        features=FEATURES,
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        hidden=tuple(tuple(row) for row in matrix.tolist()),
        bias=tuple(bias.tolist()),
        out=tuple(out.tolist()),
        neighbours=NEIGHBOURS,
    )


def compiled_loss(
    packed: Float64[npt.NDArray[np.float64], " p"],
    x: Float32[npt.NDArray[np.float32], "n f"],
    examples: Examples,
    hidden: int,
) -> tuple[float, Float64[npt.NDArray[np.float64], " p"]]:
    """`network_loss` by the engine."""
    gradient = np.empty(len(packed))
    of_examples = examples.starts, examples.positive, examples.importance
    return engine.native().ranking_loss(x, *of_examples, packed, gradient), gradient


def network_loss(
    packed: Float64[npt.NDArray[np.float64], " p"],
    x: Float32[npt.NDArray[np.float32], "n f"],
    examples: Examples,
    hidden: int,
) -> tuple[float, Float64[npt.NDArray[np.float64], " p"]]:
    """`ranking_loss` of the network's scores of `x`, and its gradient by `packed`: weights, biases, the way out."""
    # float32 in the products over all candidates, where the time goes; float64 in the sums.
    matrix, bias, out = (part.astype(np.float32) for part in _unpack(packed, hidden, x.shape[1]))
    active = np.maximum(x @ matrix.T + bias, 0.0)
    loss, slopes = ranking_loss((active @ out).astype(np.float64), examples)
    slope = slopes.astype(np.float32)
    back = (slope[:, None] * out) * (active > 0)
    parts = ((back.T @ x).ravel(), back.sum(axis=0), slope @ active)
    return loss, np.concatenate(parts).astype(np.float64)


def _unpack(
    packed: Float64[npt.NDArray[np.float64], " p"], hidden: int, width: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    cut = hidden * width
    return packed[:cut].reshape(hidden, width), packed[cut : cut + hidden], packed[cut + hidden :]

"""Learning how much each term of a query counts: from validation edges, never from test edges.

Candidates come from the version itself, by a first set of weights; a linear ranking of them is fitted by
L-BFGS to put the held-out ones first. Its coefficients are the weights of `bundle.manifest.QueryWeights`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64, Integer
from scipy.optimize import minimize

from bundle.manifest import QueryWeights
from bundle.space import Relation, Space
from bundle.strategies import FIRST_GUESS
from evaluation.learning.loss import Examples, pools_of, ranking_loss
from evaluation.task import FollowTask
from recommend.profile import Profile
from recommend.protocol import Lists

TERMS = ("user", "fold_in", "relation", "popularity", "reciprocity", "elsewhere", "recency")
L2 = 1e-3
Rows = Integer[npt.NDArray[np.integer], " n"]


def learn_weights(space: Space, task: FollowTask, profiles: Sequence[Profile], pools: Lists) -> QueryWeights:
    """The weights that rank the held-out candidates of `pools` first; the first guess when no pool holds both a
    held-out candidate and another one. `profiles[i]` and `pools[i]` belong to `task.users[i]`.
    """
    relation = space.relation(task.relation)
    examples = pools_of(task, pools, lambda i, pool: terms(space, relation, profiles[i], pool), len(TERMS))
    if len(examples.starts) < 2:
        return FIRST_GUESS
    learnt = fit_linear(examples)
    return QueryWeights(**{term: float(weight) for term, weight in zip(TERMS, learnt, strict=True)})


def fit_linear(examples: Examples, l2: float = L2) -> Float64[npt.NDArray[np.float64], " f"]:
    """Minimise the ranking loss of `features @ w` plus `l2·‖w·σ‖²`, σ the features' deviations: scale-free."""
    features = examples.features.astype(np.float64)
    deviations = features.std(axis=0)
    # A feature that never varies cannot rank; it gets no weight.
    scale = np.where(deviations > 1e-9, 1.0 / np.maximum(deviations, 1e-9), 0.0)
    scaled = (features - features.mean(axis=0)) * scale

    def objective(w: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        loss, gradient = ranking_loss(scaled @ w, examples)
        return loss + l2 * float(w @ w), gradient @ scaled + 2.0 * l2 * w

    minimum = minimize(objective, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    weights: npt.NDArray[np.float64] = minimum.x * scale
    return weights


def terms(
    space: Space, relation: Relation, profile: Profile, pool: Rows
) -> Float32[npt.NDArray[np.float32], "n terms"]:
    """What each weight multiplies for one user, in the order of `TERMS`; reciprocity is 1 where t has an edge to u.

    For `elsewhere` and `recency` see `recommend/elsewhere.py`.
    """
    targets = space.table(relation.entry.target)
    vectors, nothing = targets.scored[pool], np.zeros(targets.dim, dtype=np.float32)
    own = nothing if profile.vector is None else profile.vector
    fold_in = targets.scored_embeddings(profile.targets).mean(axis=0) if len(profile.targets) else nothing
    parts = np.stack([own, fold_in, relation.forward]) @ vectors[:, : targets.dim].T
    popularity = vectors[:, targets.dim] if vectors.shape[1] > targets.dim else np.zeros(len(pool), dtype=np.float32)
    reciprocity = np.isin(pool, profile.followers(relation))
    return np.column_stack([parts.T, popularity, reciprocity, *profile.elsewhere.terms_of(pool)]).astype(np.float32)

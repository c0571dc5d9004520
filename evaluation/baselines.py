"""The simple methods that every report stands beside, each a few lines over sparse matrices.

A baseline is a function from user rows to dense scores, higher is better; `top_rows` turns scores into lists.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64
from scipy import sparse
from scipy.linalg import lapack

from bundle.csr import Csr, empty_csr
from evaluation.metrics import hit_ranks, recall
from evaluation.task import FollowTask

Users = Int64[npt.NDArray[np.int64], " users"]
Scores = Float32[npt.NDArray[np.float32], "users targets"]
Score = Callable[[Users], Scores]
Damping = Float32[npt.NDArray[np.float32], " targets"]

# Dense scores that are held at a time: 64 MiB.
CHUNK_FLOATS = 1 << 24
# Above any number of paths, and small enough that float32 still counts them.
ALWAYS_FIRST = np.float32(1 << 20)
# Of RP3β: the power of in-degree where no edges tell, the powers tried where some do, and what following the user adds.
BETA = 0.3
BETAS = (0.3, 0.0, 0.15, 0.45, 0.6, 0.8)
FOLLOWERS_SHARE = 0.2
# Users with hidden edges who choose β, and λ of EASE: of fewer chance would, more than MOST_CHOOSERS choose no better.
FEWEST_CHOOSERS, MOST_CHOOSERS = 20, 500
CHOSEN_AT = 10
# Of EASE: the regulariser λ where no edges tell, and those tried where some do; and how many of users or targets,
# whichever are fewer, its dense inverse takes at most, and at most for each of these.
EASE_L2 = 200.0
EASE_L2S = (EASE_L2, 25.0, 50.0, 100.0, 400.0, 800.0)
MOST_EASE, MOST_EASE_CHOSEN = 20_000, 4_000


@dataclass(frozen=True, slots=True)
class Baseline:
    """A named method. `missing` says why it cannot run here; then `score` is None."""

    name: str
    score: Score | None
    missing: str | None = None


def baselines(task: FollowTask, rng: np.random.Generator, *, with_ease: bool = True) -> list[Baseline]:
    """Every baseline that the task's relation allows, the unavailable ones with the reason.

    EASE inverts a dense matrix of all targets or users, which takes most of the time where both are many.
    """
    follows = matrix(task.train, task.n_targets)
    dense = ease_chosen(task, follows) if with_ease else Baseline("ease", None, "it was skipped")
    return [*quick_baselines(task, rng), dense, als(task, follows)]


def quick_baselines(task: FollowTask, rng: np.random.Generator) -> list[Baseline]:
    """The baselines that need no training of their own."""
    follows = matrix(task.train, task.n_targets)
    walk = remembered(rp3b_chosen(task, follows))
    methods = [Baseline("random", lambda users: rng.random((len(users), task.n_targets), dtype=np.float32))]
    methods.append(Baseline("popularity", popularity(task)))
    if task.same_type:
        methods.append(Baseline("followees_of_followees", paths(follows)))
        methods.append(Baseline("reciprocate_first", reciprocate_first(follows)))
    methods.append(Baseline("item_knn", item_knn(follows)))
    methods.append(Baseline("user_knn", user_knn(follows)))
    methods.append(Baseline("rp3b", walk))
    if task.same_type:
        methods.append(Baseline("rp3b_followers", with_followers(follows, walk)))
    if task.elsewhere is not None:
        methods.append(Baseline("elsewhere_first", elsewhere_first(task.elsewhere, task.n_targets, walk)))
    return methods


def matrix(csr: Csr, n_columns: int) -> sparse.csr_array:
    """The 0/1 matrix of an adjacency."""
    ones = np.ones(len(csr.indices), dtype=np.float32)
    return sparse.csr_array((ones, csr.indices, csr.indptr), shape=(len(csr), n_columns))


def popularity(task: FollowTask) -> Score:
    """The number of training edges that point to the target."""
    degrees = task.train_by_target.degrees().astype(np.float32)
    return lambda users: np.broadcast_to(degrees, (len(users), len(degrees))).copy()


def paths(follows: sparse.csr_array) -> Score:
    """Followees of followees: how many paths of two edges lead from the user to the target, `(A²)[u, t]`."""
    return lambda users: _dense(follows[users] @ follows)


def reciprocate_first(follows: sparse.csr_array) -> Score:
    """Those who follow the user before all others; among equals, followees of followees."""
    followers = follows.T.tocsr()
    return lambda users: _dense(follows[users] @ follows + followers[users] * ALWAYS_FIRST)


def item_knn(follows: sparse.csr_array) -> Score:
    """Item-based collaborative filtering: the sum over the user's targets of their cosine with the candidate.

    Targets are compared by who follows them: `A N Aᵀ A N` with N = diag(1 / √in-degree).
    """
    degrees = np.maximum(np.asarray(follows.sum(axis=0)).ravel(), 1.0).astype(np.float32)
    scaled = (follows @ sparse.diags_array(1.0 / np.sqrt(degrees))).tocsr()
    followers = scaled.T.tocsr()
    return lambda users: _dense(follows[users] @ followers @ scaled)


def user_knn(follows: sparse.csr_array) -> Score:
    """User-based collaborative filtering: the sum over all users of their cosine with the user, `N A Aᵀ N A`, where the
    candidate is among their targets; N = diag(1 / √out-degree).
    """
    degrees = np.maximum(np.asarray(follows.sum(axis=1)).ravel(), 1.0).astype(np.float32)
    scaled = (sparse.diags_array(1.0 / np.sqrt(degrees)) @ follows).tocsr()
    sources = scaled.T.tocsr()
    return lambda users: _dense(scaled[users] @ sources @ follows)


def rp3b(follows: sparse.csr_array, *, beta: float = BETA) -> Score:
    """RP3β (Paudel et al., 2017): a walk u→i←v→t of three random steps, its probability over in-degree(t)^β."""
    out, into = (np.maximum(np.asarray(follows.sum(axis=axis)).ravel(), 1.0) for axis in (1, 0))
    first = (sparse.diags_array(1.0 / out) @ follows).tocsr().astype(np.float32)
    back = (sparse.diags_array(1.0 / into) @ follows.T.tocsr()).tocsr().astype(np.float32)
    damping = damped(into, beta)
    return lambda users: np.multiply(_dense(first[users] @ back @ first), damping)


def rp3b_chosen(task: FollowTask, follows: sparse.csr_array) -> Score:
    """RP3β with the β that the hidden edges choose: while test edges are held out, the validation edges."""
    walk, into = rp3b(follows, beta=0.0), np.maximum(task.train_by_target.degrees(), 1)

    @cache
    def damping() -> Damping:  # when it is asked, as with EASE
        return damped(into, chosen_beta(task, walk))

    return lambda users: np.multiply(walk(users), damping())


def chosen_beta(task: FollowTask, walk: Score) -> float:
    """The β of BETAS with which the undamped `walk` finds most of the hidden edges; BETA where they are too few."""
    into, undamped = np.maximum(task.train_by_target.degrees(), 1), remembered(walk)
    return BETAS[_chosen(task, [_times(undamped, damped(into, beta)) for beta in BETAS])]


def _chosen(task: FollowTask, scores: Sequence[Score]) -> int:
    """Which of the scores finds most of the hidden edges, by mean recall@CHOSEN_AT of up to MOST_CHOOSERS users with
    such; the first where these are fewer than FEWEST_CHOOSERS. Never looks at what is held out.
    """
    users = np.flatnonzero((task.train.degrees() > 0) & (task.hidden.degrees() > 0))
    if len(users) < FEWEST_CHOOSERS:
        return 0
    users = users[:: -(-len(users) // MOST_CHOOSERS)]
    asked = dataclasses.replace(task, hidden=empty_csr(len(task.train)), held_out=task.hidden)
    found = np.zeros(len(scores))
    for chunk in chunks(asked, users):
        for place, score in enumerate(scores):
            lists = top_rows(asked, score, chunk, CHOSEN_AT)
            for user, ranked in zip(chunk.tolist(), lists, strict=True):
                relevant = asked.relevant(user)
                found[place] += recall(hit_ranks(ranked, relevant), len(relevant), CHOSEN_AT)
    return int(found.argmax())


def _times(score: Score, damping: Damping) -> Score:
    return lambda users: np.multiply(score(users), damping)


def damped(into: npt.NDArray[np.number], beta: float) -> Damping:
    """What RP3β multiplies the walk's probability with: in-degree to the power of -β."""
    return (into.astype(np.float64) ** -beta).astype(np.float32)


def with_followers(follows: sparse.csr_array, score: Score, *, share: float = FOLLOWERS_SHARE) -> Score:
    """By `score`, and those who follow the user get that share of the user's best besides."""
    followers = follows.T.tocsr()

    def scores_of(users: Users) -> Scores:
        scores = score(users)
        best: Scores = scores.max(axis=1, keepdims=True)
        bonus: Scores = np.float32(share) * best * _dense(followers[users])
        return scores + bonus

    return scores_of


def elsewhere_first(elsewhere: Csr, n_targets: int, score: Score) -> Score:
    """What the user has by other relations before all else, by most of them first and newer first; among equals by
    `score`.
    """
    engaged = matrix(elsewhere, n_targets)
    if elsewhere.weights is not None:
        engaged.data = elsewhere.weights

    def scores_of(users: Users) -> Scores:
        scores = score(users)
        above = np.maximum(np.float32(2.0) * scores.max(axis=1, keepdims=True), np.float32(1e-6))
        first: Scores = scores + above * _dense(engaged[users])
        return first

    return scores_of


def remembered(score: Score) -> Score:
    """The same scores, those of the last users kept: for whoever builds on them."""
    last: list[tuple[Users, Scores]] = []

    def scores_of(users: Users) -> Scores:
        if not last or not np.array_equal(last[0][0], users):
            last[:] = [(users, score(users))]
        return last[0][1]

    return scores_of


def ease_chosen(task: FollowTask, follows: sparse.csr_array) -> Baseline:
    """EASE with the λ that the hidden edges choose, where it is quick enough to be tried with several."""
    if min(follows.shape) > MOST_EASE_CHOSEN:
        return ease(follows)

    @cache
    def chosen() -> Score:  # when it is asked, so that a watcher sees what takes so long
        tried = [score for l2 in EASE_L2S if (score := ease(follows, l2=l2).score) is not None]
        return tried[_chosen(task, tried)]

    return Baseline("ease", lambda users: chosen()(users))


def ease(follows: sparse.csr_array, *, l2: float = EASE_L2) -> Baseline:
    """EASE (Steck, 2019): the item-item regression `B = I − P / diag(P)`, P = (AᵀA + λI)⁻¹; a dense inverse, so that
    it is left out where there are more than MOST_EASE targets and as many users.

    Where users are fewer, theirs is inverted, K = (AAᵀ + λI)⁻¹: `A P = K A` and `diag(P) = (1 − diag(Aᵀ K A)) / λ`.
    """
    n_users, n_targets = follows.shape
    if min(n_users, n_targets) > MOST_EASE:
        return Baseline("ease", None, f"{n_users:,} users and {n_targets:,} targets are more than {MOST_EASE:,}")
    solve = cache(lambda: _ease_of_users(follows, l2) if n_users < n_targets else _ease_of_targets(follows, l2))
    return Baseline("ease", lambda users: solve()(users))


def _ease_of_targets(follows: sparse.csr_array, l2: float) -> Score:
    inverse = _inverse((follows.T @ follows).toarray(), l2)
    regression = np.asarray(-inverse / np.diag(inverse), dtype=np.float32)
    np.fill_diagonal(regression, 0.0)
    return lambda users: np.asarray(follows[users] @ regression, dtype=np.float32)


def _ease_of_users(follows: sparse.csr_array, l2: float) -> Score:
    inverse, columns = _inverse((follows @ follows.T).toarray(), l2), follows.tocsc()
    step = max(1, CHUNK_FLOATS // follows.shape[0])
    parts = [columns[:, start : start + step] for start in range(0, follows.shape[1], step)]
    explained = np.concatenate([part.multiply(inverse @ part).sum(axis=0) for part in parts])
    diagonal = ((1.0 - explained) / l2).astype(np.float32)
    return lambda users: np.asarray(follows[users].toarray() - (inverse[users] @ follows) / diagonal, dtype=np.float32)


def _inverse(gram: npt.NDArray[np.float32], l2: float) -> npt.NDArray[np.float32]:
    """The inverse of a symmetric matrix plus λ on its diagonal."""
    gram = np.asarray(gram, dtype=np.float32)
    gram[np.diag_indices(len(gram))] += np.float32(l2)
    # By Cholesky, half the work of a general inverse; LAPACK leaves the other triangle as it was.
    lower = lapack.spotri(lapack.spotrf(gram, lower=1, overwrite_a=1)[0], lower=1, overwrite_c=1)[0]
    return np.asarray(np.tril(lower) + np.tril(lower, -1).T, dtype=np.float32)


def als(task: FollowTask, follows: sparse.csr_array, *, factors: int = 128, iterations: int = 15) -> Baseline:
    """Implicit ALS by the `implicit` package, which is optional, with the confidence 1 + 40·r of its paper.

    Hu, Koren and Volinsky 2008; with the package's own default of 1 it finds half as much on ego-twitter.
    """
    name = f"implicit_als_{factors}"
    try:
        from implicit.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits
    except ImportError:
        return Baseline(name, None, "the package `implicit` is not installed")
    with threadpool_limits(1, "blas"):  # its own threads and those of BLAS get in each other's way
        model = AlternatingLeastSquares(factors=factors, alpha=40, iterations=iterations, random_state=1, num_threads=1)
        model.fit(sparse.csr_matrix(follows), show_progress=False)
    sources = np.asarray(model.user_factors, dtype=np.float32)
    targets = np.asarray(model.item_factors, dtype=np.float32)
    return Baseline(name, lambda users: sources[users] @ targets.T)


def top_rows(task: FollowTask, score: Score, users: Users, k: int) -> list[Int32[npt.NDArray[np.int32], " _"]]:
    """The `k` best rows by `score` that each user is not known to have; ties go to the lower row."""
    lists: list[npt.NDArray[np.int32]] = []
    for chunk in chunks(task, users):
        for user, scores in zip(chunk.tolist(), score(chunk), strict=True):
            lists.append(_best(scores, task.known(user), k))
    return lists


def chunks(task: FollowTask, users: Users) -> Iterator[Users]:
    """The users, so many at a time as have dense scores together."""
    step = max(1, CHUNK_FLOATS // max(1, task.n_targets))
    for start in range(0, len(users), step):
        yield users[start : start + step]


def _best(
    scores: Float32[npt.NDArray[np.float32], " targets"], excluded: Int32[npt.NDArray[np.int32], " _"], k: int
) -> Int32[npt.NDArray[np.int32], " _"]:
    scores = scores.copy()
    scores[excluded] = -np.inf
    k = min(k, len(scores))
    # Most scores of most methods are 0, and a partition of equals is slow: where enough are above, these are looked at.
    rows = np.flatnonzero(scores > 0)
    if len(rows) < k:
        rows = np.flatnonzero(scores > -np.inf)
        k = min(k, len(rows))
    if not k:
        return rows.astype(np.int32)
    found = scores[rows]
    # Keep everything that ties with the k-th, so that the cut among equals does not depend on the partition.
    kept = found >= np.partition(found, len(found) - k)[len(found) - k]
    best: npt.NDArray[np.int64] = rows[kept][np.argsort(-found[kept], kind="stable")[:k]]
    return best.astype(np.int32)


def _dense(product: sparse.csr_array) -> Scores:
    return np.asarray(product.toarray(), dtype=np.float32)

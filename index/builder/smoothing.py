"""Smoothing mixtures over neighbours (kNN-Embed, El-Kishky et al., 2022): a user also likes what similar users like."""

from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64

from bundle.csr import Csr
from index.builder.mixtures import Counting, Counts, Keys, heaviest, summed
from index.builder.sample import sample_rows

BLOCK_USERS = 1 << 14
# Rows that share an inverted list when neighbours are searched, and the lists looked into.
ROWS_A_LIST = 256
PROBES = 16
TRAINING_A_LIST = 64


@dataclass(frozen=True, slots=True)
class Smoothing:
    """P'(c|u) = (1 − share) · P(c|u) + share · mean of P(c|v) over the `neighbours` users v nearest u by cosine."""

    neighbours: int
    share: float


def smooth(
    mixtures: Csr, users: Float32[npt.NDArray[np.float32], "users d"], smoothing: Smoothing, counting: Counting
) -> Iterator[Csr]:
    """The smoothed mixtures, cut to the heaviest modes again, a block of users at a time. A user without engagements
    still has none.
    """
    engaged = np.flatnonzero(mixtures.degrees())
    if len(engaged) < 2 or smoothing.share == 0:
        yield mixtures
        return
    index = _neighbour_index(users, engaged)
    n_neighbours = min(smoothing.neighbours, len(engaged) - 1)
    for start in range(0, len(mixtures), BLOCK_USERS):
        rows = np.arange(start, min(start + BLOCK_USERS, len(mixtures)))
        near = _neighbours(index, users, engaged, rows, n_neighbours)
        keys, counts = _block(mixtures, rows, near, smoothing, counting)
        yield heaviest(keys, counts, len(rows), counting)


def _neighbour_index(
    users: Float32[npt.NDArray[np.float32], "users d"], engaged: Int64[npt.NDArray[np.int64], " _"]
) -> faiss.Index:
    index = faiss.index_factory(
        users.shape[1], f"IVF{max(1, len(engaged) // ROWS_A_LIST)},SQ8", faiss.METRIC_INNER_PRODUCT
    )
    ivf = faiss.extract_index_ivf(index)
    ivf.cp.min_points_per_centroid = 1
    ivf.nprobe = PROBES
    index.train(_unit(users[engaged[sample_rows(len(engaged), TRAINING_A_LIST * ivf.nlist, np.random.default_rng(1))]]))
    for start in range(0, len(engaged), BLOCK_USERS):
        index.add(_unit(users[engaged[start : start + BLOCK_USERS]]))
    return index


def _unit(vectors: Float32[npt.NDArray[np.float32], "_ d"]) -> Float32[npt.NDArray[np.float32], "_ d"]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-12))


def _neighbours(
    index: faiss.Index,
    users: Float32[npt.NDArray[np.float32], "users d"],
    engaged: Int64[npt.NDArray[np.int64], " _"],
    rows: Int64[npt.NDArray[np.int64], " block"],
    n_neighbours: int,
) -> Int64[npt.NDArray[np.int64], "block neighbours"]:
    """The nearest engaged users of each of `rows`, itself left out, -1 where the search found fewer."""
    labels = index.search(_unit(users[rows]), n_neighbours + 1)[1]
    near = np.where(labels >= 0, engaged[labels], -1)
    near[near == rows[:, np.newaxis]] = -1
    # Whoever was not among his own neighbours has one too many: the last and farthest goes.
    order = np.argsort(near < 0, axis=1, kind="stable")[:, :n_neighbours]
    nearest: npt.NDArray[np.int64] = np.take_along_axis(near, order, axis=1)
    return nearest


def _block(
    mixtures: Csr,
    rows: Int64[npt.NDArray[np.int64], " block"],
    near: Int64[npt.NDArray[np.int64], "block neighbours"],
    smoothing: Smoothing,
    counting: Counting,
) -> tuple[Keys, Counts]:
    """Own and neighbours' shares of a block of users, summed by (user, cluster)."""
    engaged = mixtures.indptr[rows + 1] > mixtures.indptr[rows]
    counts = (near >= 0) & engaged[:, np.newaxis]
    user, place = np.nonzero(counts)
    each = smoothing.share / np.maximum(1, counts.sum(axis=1))
    # A user whom the search gave no neighbour keeps the own mixture, also where neighbours are to have all of it.
    own = np.where(counts.any(axis=1), 1.0 - smoothing.share, 1.0)
    members = np.concatenate([np.flatnonzero(engaged), user])
    sources = np.concatenate([rows[engaged], near[user, place]])
    weights = np.concatenate([own[engaged], each[user]])
    return _expanded(mixtures, members, sources, weights, counting)


def _expanded(
    mixtures: Csr,
    members: Int64[npt.NDArray[np.int64], " n"],
    sources: Int64[npt.NDArray[np.int64], " n"],
    weights: npt.NDArray[np.float64],
    counting: Counting,
) -> tuple[Keys, Counts]:
    """Every mode of `sources[i]`, weighted by `weights[i]`, as an engagement of `members[i]`."""
    # Rows of different lengths are laid end to end without a loop: output j belongs to the row i whose run it falls
    # into, and the entry it copies is `indptr[sources[i]]` plus j less where i's run begins, Σ of the lengths before.
    # `starts` repeats that difference over each run, so that adding j gives the entry.
    lengths = mixtures.indptr[sources + 1] - mixtures.indptr[sources]
    starts = np.repeat(mixtures.indptr[sources] - np.cumsum(lengths) + lengths, lengths)
    entries = starts + np.arange(len(starts))
    keys = np.repeat(members, lengths) * counting.n_clusters + mixtures.indices[entries]
    shares = np.ones(len(entries)) if mixtures.weights is None else mixtures.weights[entries].astype(np.float64)
    return summed(keys, shares * np.repeat(weights, lengths))

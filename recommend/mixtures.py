"""A user as a mixture of interests (eq. 3 of the TwHIN paper) and how interests share a slate."""

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32


def mixture_of(
    clusters: Int32[npt.NDArray[np.int32], " engagements"],
    weights: Float32[npt.NDArray[np.float32], " engagements"],
    n_modes: int,
) -> tuple[Int32[npt.NDArray[np.int32], " modes"], Float32[npt.NDArray[np.float32], " modes"]]:
    """The heaviest `n_modes` clusters of a user's engagements and their shares, heaviest first.

    Eq. 3: `P(c|u) = count(u, c) / Σ_{c' ∈ top m} count(u, c')`, with `weights` summed as the counts.
    Engagements with a target outside every cluster (-1) do not count; ties go to the lower cluster.
    """
    inside = clusters >= 0
    distinct, positions = np.unique(clusters[inside], return_inverse=True)
    counts = np.bincount(positions, weights=weights[inside], minlength=len(distinct))
    top = np.argsort(-counts, kind="stable")[:n_modes]
    total = counts[top].sum()
    if total <= 0:
        return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
    return distinct[top].astype(np.int32), (counts[top] / total).astype(np.float32)


def split(weights: list[float], n_candidates: int) -> list[int]:
    """Split `n_candidates` among interests in proportion to `weights`, which need not sum to one.

    Largest-remainder rounding: the parts sum exactly to `n_candidates`, none is a whole candidate away
    from its exact share, and equal remainders go to the heavier, then to the earlier interest.
    In plain numbers: for the handful of interests of one user several times as fast as arrays.
    """
    if len(weights) == 1:
        return [n_candidates]
    total = sum(weights)
    exact = [n_candidates * (weight / total) for weight in weights]
    shares = [int(part) for part in exact]
    left = n_candidates - sum(shares)
    for mode in sorted(range(len(weights)), key=lambda mode: (shares[mode] - exact[mode], -weights[mode]))[:left]:
        shares[mode] += 1
    return shares

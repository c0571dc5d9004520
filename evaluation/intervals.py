"""Intervals of shares and of differences: Wilson's, paired bootstrap, and two separate intervals put together."""

import math
from statistics import NormalDist

from evaluation.metrics import Interval, PerUser, bootstrap

LEVEL = 0.95


def wilson(share: float, n: int, level: float = LEVEL) -> Interval:
    """The score interval of a share of `n` (Wilson, 1927): within 0 and 1, and honest for shares near either.

    For a mean of `n` values between 0 and 1 it is at least as wide as it should be: none with this mean vary more than
    zeros and ones. NaN of nobody.
    """
    if n == 0 or math.isnan(share):
        return Interval(math.nan, math.nan, math.nan, 0)
    z = NormalDist().inv_cdf((1.0 + level) / 2.0)
    centre = (share + z * z / (2.0 * n)) / (1.0 + z * z / n)
    half = z / (1.0 + z * z / n) * math.sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n))
    # At either end one limit is the share itself, but for rounding.
    return Interval(share, centre - half if share > 0.0 else 0.0, centre + half if share < 1.0 else 1.0, n)


def paired(before: PerUser, after: PerUser, seed: int) -> Interval:
    """The mean of `after` less `before` over the users that both have a value of, and its bootstrap interval.

    What varies between users and not between the two cancels out, so the interval is far narrower than that of two
    separate samples.
    """
    return bootstrap(after - before, seed)


def unpaired(before: Interval, after: Interval) -> Interval:
    """The difference of two separate estimates (Zou and Donner, 2008): each limit lies as far from it as the limits of
    both that pull that way, squared and added. Of Wilson's intervals it is Newcombe's (1998, method 10).

    For estimates of the same users it is wider than it should be. NaN where either is not known.
    """
    difference = after.mean - before.mean
    low = difference - math.hypot(after.mean - after.low, before.high - before.mean)
    high = difference + math.hypot(after.high - after.mean, before.mean - before.low)
    return Interval(difference, low, high, min(before.n, after.n))

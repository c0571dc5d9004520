"""Series of the metrics bound to where their numbers are kept: to count without what the library does for all kinds of
them at each call, which is more than the rest of what is counted once a request costs.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence

from prometheus_client import Counter, Histogram

Add = Callable[[float], None]


def adding_to(counter: Counter) -> Add:
    """What adds to a counter whose labels, if any, have their values."""
    add: Add = counter._value.inc
    return add


class Times:
    """A histogram of seconds with the upper `bounds`, whose labels, if any, have their values. Any thread may add."""

    __slots__ = ("_bounds", "_buckets", "_sum")

    def __init__(self, of: Histogram, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._buckets: list[Add] = [bucket.inc for bucket in of._buckets]
        self._sum: Add = of._sum.inc

    def observe(self, seconds: float) -> None:
        """Add one."""
        self._buckets[bisect_left(self._bounds, seconds)](1)
        self._sum(seconds)

"""Counts of what happens at every request, kept as plain numbers on the event loop and told to the metrics a few times
a second: the library itself takes locks and passes over all buckets, which is more than the request it counts costs.
"""

from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client import Counter, Histogram


class Count:
    """What a counter has not been told yet."""

    __slots__ = ("_of", "untold")

    def __init__(self, of: Counter) -> None:
        self._of = of
        self.untold = 0

    def tell(self) -> None:
        """Tell it."""
        if self.untold:
            self._of.inc(self.untold)
            self.untold = 0


class Times:
    """The same of a histogram of seconds with the upper `bounds`."""

    __slots__ = ("_bounds", "_of", "_sum", "_untold")

    def __init__(self, of: Histogram, bounds: Sequence[float]) -> None:
        self._of = of
        self._bounds = bounds
        self._untold = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Note one."""
        self._untold[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def tell(self) -> None:
        """Tell the histogram."""
        if not any(self._untold):
            return
        # It takes one at a time; what it makes of each is this.
        self._of._sum.inc(self._sum)
        for bucket, number in zip(self._of._buckets, self._untold, strict=True):
            if number:
                bucket.inc(number)
        self._untold, self._sum = [0] * len(self._untold), 0.0

"""Refusals of a full service, counted as they are made and told together: it refuses most of what it reads."""

import logging
from collections import Counter
from collections.abc import Callable

from service.metrics import Metrics, RouteMetrics

log = logging.getLogger("twhin.access")
# How long a request had waited is looked up for one refusal of so many: asking costs as much as an eighth of one.
SAMPLED = 16


class Refusals:
    """Counts refusals by route and reason. Belongs to one event loop."""

    def __init__(self, metrics: Metrics, *, logged: bool) -> None:
        self._metrics = metrics
        self._logged = logged
        self._untold: Counter[tuple[RouteMetrics, str]] = Counter()
        self._number = 0

    def count(self, route: RouteMetrics, reason: str, waited: Callable[[], float]) -> None:
        """Count one. `waited` asks for how many seconds its request had waited."""
        self._untold[route, reason] += 1
        if self._number % SAMPLED == 0:
            self._metrics.refused_after.observe(waited())
        self._number += 1

    def tell(self) -> None:
        """Tell the metrics and the log, a line a route and reason, of those since the last call."""
        untold, self._untold = self._untold, Counter()
        for (route, reason), number in untold.items():
            route.refused(number)
            self._metrics.shed(reason, number)
            if self._logged:
                log.info("refused", extra={"route": route.label, "status": 503, "reason": reason, "count": number})

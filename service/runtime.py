"""The running service: its settings, versions, store, search thread and metrics, made and ended together."""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeVar

from bundle.errors import StateError, TwhinError
from bundle.manifest import RelationEntry
from recommend.types import NO_LIVE_EDGES, LiveEdges
from service.admission import Admission
from service.auth import Keys
from service.background import begin, closed
from service.experiments.live import Experiments
from service.first_step import all_of
from service.low_priority import LowPriority
from service.metrics import Metrics
from service.origins import Origins
from service.otlp_metrics import open_metrics_export
from service.packed import PackedDocuments
from service.refusals import Refusals
from service.search_thread import SearchThread
from service.settings import Settings
from service.shared_metrics import SharedMetrics
from service.shared_turn import SharedTurn
from service.state.events import NO_FOLLOWERS, Followers
from service.state.sqlite import SqliteStore
from service.state.store import StateStore
from service.tracing import open_tracing
from service.versions.aside import Aside
from service.versions.versions import Versions
from service.versions.watcher import follow_once, watch

log = logging.getLogger("twhin.service")
LAG_SECONDS = 0.05
TURNS_A_SECOND = 20
Result = TypeVar("Result")


class NotClosed(TwhinError):
    """The service has ended, and not in order."""


class Runtime:
    """Everything a request may need. `start` and `stop` are called by the application's lifespan."""

    state: StateStore
    search: SearchThread

    def __init__(self, settings: Settings, shared: SharedMetrics | None = None, worker: int = 0) -> None:
        """`shared` is what several workers have in common, of which this is number `worker`."""
        self.settings = settings
        self.metrics = Metrics(shared, worker)
        self.keys = Keys(settings)
        self.origins = Origins(settings)
        turn = contextlib.nullcontext if shared is None else shared.one_at_a_time
        self.versions = Versions(settings, self.metrics.versions, turn)
        self.aside = Aside(verify=settings.verify)
        self.experiments = Experiments(settings.experiments_path, self.metrics.experiments, self.versions)
        self.tracing = open_tracing(settings)
        self._metrics_export = open_metrics_export(settings, self.metrics.collect) if worker == 0 else None
        self.started_at = time.time()
        self.draining = False
        self.admission = Admission(settings.limits.concurrency_max)
        self.refusals = Refusals(self.metrics, logged=settings.access_log != "none")
        self.packed = PackedDocuments()
        self.exposition = SharedTurn[bytes]()
        self.arriving_bytes = 0
        self.low_priority = LowPriority(lambda: self.admission.in_work)
        self._watches: list[asyncio.Task[None]] = []  # for ever
        self._looks: set[asyncio.Task[None]] = set()
        self._unmeasured: set[str] = set()

    async def start(self) -> None:
        """Open the store, load the published version, and go on watching. Raises StateError."""
        limits = self.settings.limits
        self.state = open_store(self.settings, self.metrics, self.low_priority)
        self.search = SearchThread(
            self.metrics,
            batch=self.settings.search_batch,
            queue_max=limits.search_queue_max,
            depth_floor=self.settings.depth_floor,
        )
        self.experiments.look()
        await follow_once(self.versions)
        seconds = self.settings.watch_seconds
        self._watches = [
            begin("the watch over versions", watch(self.versions, seconds)),
            begin("the watch over experiments", self.experiments.watch(seconds)),
            begin("the measurement of the load", self._measure_load()),
        ]

    async def stop(self) -> None:
        """End the background work, finish what waits, let go of files. Every part is closed that can be. Raises
        NotClosed at the end where one could not.
        """
        tasks = [*self._watches, *self._looks]
        for task in tasks:
            task.cancel()
        self._measured(self.refusals.tell)
        await asyncio.gather(*tasks, return_exceptions=True)  # one that ended otherwise was logged
        done = [
            await closed("the search thread", self.search.close),
            await closed("the store of live engagements", self.state.close),
            await closed("the version that is asked aside", self.aside.close),
            await closed("the loader of versions", self.versions.close),
        ]
        # Beside the event loop: where no collector answers, what else is to end does not wait for it.
        senders = [sender for sender in (self.tracing, self._metrics_export) if sender is not None]
        done += await asyncio.gather(
            *(closed("what sends to a collector", partial(asyncio.to_thread, sender.close)) for sender in senders)
        )
        if not all(done):
            raise NotClosed("A part of the service could not be closed at its end. The log says which.")

    def look_at_current(self) -> None:
        """Look at CURRENT now, and try what it names also where that was refused before; and at the experiments."""
        self.experiments.look(again=True)
        for work in (follow_once(self.versions, again=True), self.experiments.open(again=True)):
            look = begin("a look at what is published", work)
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)

    async def _measure_load(self) -> None:
        for turn in itertools.count():
            due = time.monotonic() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            # Not the loop's own time, which stands still while it works.
            self.admission.lag = max(0.0, time.monotonic() - due)
            self.metrics.lag.set(self.admission.lag)
            self.metrics.inflight.set(self.admission.inflight)
            self.metrics.beat()
            if turn % TURNS_A_SECOND == 0:
                self.measure()

    def measure(self) -> None:
        """Bring the figures up to date that are not counted as they happen."""
        self.metrics.inflight.set(self.admission.inflight)
        self._measured(self._measure_store)
        self.metrics.experiments.pinned(len(self.versions.pinned))
        self._measured(self.metrics.process.measure)
        self._measured(self.refusals.tell)

    def _measure_store(self) -> None:
        self.metrics.store_degraded.set(not self.state.describe()["healthy"])

    def _measured(self, figure: Callable[[], None]) -> None:
        """Measure one. A fault of ours costs that one alone, and is logged when it begins."""
        name = figure.__qualname__
        try:
            figure()
            self._unmeasured.discard(name)
        except Exception:
            if name not in self._unmeasured:
                self._unmeasured.add(name)
                log.exception("a figure cannot be measured")

    @property
    def ended(self) -> list[str]:
        """What works in the background and does no more: nothing, while all is well."""
        threads = [] if self.search.alive else ["the search thread"]
        return threads + self.state.ended + [task.get_name() for task in self._watches if task.done()]

    @property
    def ready(self) -> bool:
        """Whether this worker should get traffic: a version is loaded and it is not on its way out."""
        return self.versions.active is not None and not self.draining

    async def live(self, user_type: str, user: str | None, degraded: list[str]) -> LiveEdges:
        """What the user did since the version was built. Without the store the answer goes on, and says so."""
        return await self._elsewhere(self._live(user_type, user, degraded))

    def since(
        self, relation: RelationEntry, user: str | None, degraded: list[str]
    ) -> Awaitable[tuple[LiveEdges, Followers]]:
        """What the user did since the version was built, and who has come to have an edge of `relation` to the user, or
        has ended to, where users have such edges. What the store does not tell is none, and `degraded` says so.
        """
        return self._elsewhere(self._since(relation, user, degraded))

    async def since_each(
        self, asked: Iterable[tuple[RelationEntry, str | None]], degraded: list[str]
    ) -> list[tuple[LiveEdges, Followers]]:
        """The same of several users. At once where the store is at a distance: one after the other would be as many
        round trips. A local store answers most without a task, and nobody else comes in between; those whose many
        events have to be added up wait together.
        """
        each = (self._since(*one, degraded) for one in asked)
        with self.low_priority.one_request():
            return await self._elsewhere(all_of(each) if self.state.local else asyncio.gather(*each))

    async def _elsewhere(self, work: Awaitable[Result]) -> Result:
        """What others tell: the time that it takes is none that answers are in the making here."""
        asked = time.monotonic()
        try:
            return await work
        finally:
            self.admission.waited_elsewhere(time.monotonic() - asked)

    async def _live(self, user_type: str, user: str | None, degraded: list[str]) -> LiveEdges:
        if user is None:
            return NO_LIVE_EDGES
        try:
            return await self.state.edges_of(user_type, user)
        except StateError:
            _once(degraded, "engagements_unavailable")
            return NO_LIVE_EDGES

    async def _since(
        self, relation: RelationEntry, user: str | None, degraded: list[str]
    ) -> tuple[LiveEdges, Followers]:
        if user is None or relation.source != relation.target:
            return await self._live(relation.source, user, degraded), NO_FOLLOWERS
        try:
            live, followers = await self.state.since(relation.source, user, relation.name)
        except StateError:
            live, followers = NO_LIVE_EDGES, None
        if followers is None:
            _once(degraded, "engagements_unavailable")
            return live, NO_FOLLOWERS
        return live, followers


def _once(flags: list[str], flag: str) -> None:
    if flag not in flags:
        flags.append(flag)


def open_store(settings: Settings, metrics: Metrics, low_priority: LowPriority | None = None) -> StateStore:
    """The store of live engagements that the settings ask for; what it takes long for gives way as `low_priority` says.
    Raises StateError.
    """
    limit = settings.limits.events_per_user_max
    url = settings.shared_store_url()
    if url is None:
        return SqliteStore(settings.state_path, limit, metrics.shed)
    # Imported where it is asked for: the client is a tenth of what starting the service costs, and brings OpenTelemetry
    # where that is installed.
    from service.state.redis import RedisStore
    from service.state.redis_address import redis_addresses
    from service.state.redis_cluster import RedisCluster

    node = partial(
        RedisStore,
        prefix=settings.redis_prefix,
        timeout=settings.redis_timeout_ms / 1000,
        write_timeout=settings.redis_write_timeout_ms / 1000,
        connections=settings.redis_connections,
        retry_seconds=settings.redis_retry_seconds,
        events_per_user_max=limit,
        metrics=metrics.redis,
        shed=metrics.shed,
        low_priority=low_priority,
    )
    first, *others = redis_addresses(url)
    if first.clustered:
        return RedisCluster((first, *others), node, settings.redis_prefix, settings.redis_retry_seconds)
    return node(first)

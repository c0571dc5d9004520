"""One thread that searches: it takes whatever waits already, never waits for more, and searches it in one call.

The event loop stays free while a library works, and one long-lived thread gives the library one set of
buffers. What waits is bounded; under load the search gets shallower before anyone is refused.
"""

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from index.search.protocol import Hits
from recommend.compiled import Question, Served
from recommend.plan import Plan
from recommend.types import Slate
from service.admission import TARGET_SECONDS
from service.metrics import Metrics
from service.problems import overloaded
from service.versions.loaded import Loaded

log = logging.getLogger("twhin.service")
Found = TypeVar("Found")
Asked = Plan | Question
Answer = Slate | Served


@dataclass(slots=True)
class Job:
    """Plans of one request, all of one version, and where the slates go."""

    loaded: Loaded
    plans: list[Asked]
    future: "asyncio.Future[list[Answer]]"
    deadline: float
    reduced: bool = False
    placed: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Errand:
    """A search that is not a plan: done alone, in its turn."""

    work: Callable[[], list[Hits]]
    future: "asyncio.Future[list[Hits]]"
    deadline: float
    placed: float = field(default_factory=time.monotonic)


class SearchThread:
    """Made and used inside one event loop; `close` it there."""

    def __init__(self, metrics: Metrics, *, batch: int, queue_max: int, depth_floor: float) -> None:
        """`batch` and `queue_max` count plans."""
        self._metrics = metrics
        self._batch = batch
        self._queue_max = queue_max
        self._depth_floor = depth_floor
        self._share = 1.0  # as the metric has it
        self._loop = asyncio.get_running_loop()
        self._waiting = 0  # plans that are queued or searched: none that is still to be made
        self._gathered: list[Job | Errand] = []
        self._tasks: deque[Job | Errand] = deque()
        # One True for each task, and None at the end: the thread sleeps on this.
        self._tokens: queue.SimpleQueue[bool | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="twhin-search", daemon=True)
        self._thread.start()

    async def search(self, loaded: Loaded, plans: list[Asked], deadline: float) -> tuple[list[Answer], bool]:
        """The answers to `plans`, and whether they were searched less deep than usual. Raises Problem 503 when full.

        `deadline` is by the monotonic clock.
        """
        self.check_room(len(plans))
        job = self.put(loaded, plans, deadline)
        return await job.future, job.reduced

    def put(self, loaded: Loaded, plans: list[Asked], deadline: float) -> Job:
        """Queue the search of `plans`, for which there is room."""
        job = Job(loaded, plans, self._loop.create_future(), deadline)
        self._gather_up(job, len(plans))
        return job

    async def run(self, work: Callable[[], list[Hits]], deadline: float) -> list[Hits]:
        """What `work` finds, done on the search thread. Raises Problem 503 when full, and what `work` raises."""
        errand = Errand(work, self._loop.create_future(), deadline)
        self.check_room(1)
        self._gather_up(errand, 1)
        return await errand.future

    @property
    def full(self) -> bool:
        """Whether there is no room for a single search."""
        return self._waiting >= self._queue_max

    def check_room(self, plans: int) -> None:
        """Raises Problem 503 where the queue has no room for so many plans. Asked before they are made, which costs
        more than saying no; what is said holds until the caller next waits.
        """
        # A batch larger than the queue is let in when nobody waits.
        if self._waiting and self._waiting + plans > self._queue_max:
            self._metrics.shed("search_queue")
            raise overloaded("the search queue is full")

    def _gather_up(self, task: Job | Errand, plans: int) -> None:
        self._waiting += plans
        task.future.add_done_callback(lambda _: self._leave(plans))
        # What one turn of the loop asks for goes over together: the thread wakes once, and searches it in one call.
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(task)

    def _leave(self, plans: int) -> None:
        self._waiting -= plans

    def _hand_over(self) -> None:
        gathered, self._gathered = self._gathered, []
        for task in gathered:
            self._tasks.append(task)
            self._tokens.put(True)

    async def close(self) -> None:
        """Finish what waits and end the thread."""
        self._hand_over()
        self._tokens.put(None)
        await asyncio.to_thread(self._thread.join)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        running = True
        while running:
            running, tasks = self._gather()
            wanted = [task for task in tasks if not self._too_late(task)]
            try:
                self._do(wanted)
            except Exception as error:  # a fault of ours: it costs those who wait for this, and nobody after them
                log.exception("a turn of the search thread failed")
                self._loop.call_soon_threadsafe(_run_all, [_failed(task.future, error) for task in wanted])

    def _do(self, tasks: Sequence[Job | Errand]) -> None:
        jobs = [task for task in tasks if isinstance(task, Job)]
        if jobs:
            self._answer(jobs)
        for task in tasks:
            if isinstance(task, Errand):
                self._loop.call_soon_threadsafe(_run_errand(task))

    def _gather(self) -> tuple[bool, list[Job | Errand]]:
        """Whether to go on afterwards, and what waits: as much as is searched together, one task at least."""
        tasks: list[Job | Errand] = []
        plans = 0
        token = self._tokens.get()
        while token is not None:
            # The oldest first. When that one is late already, the newest: somebody will still want the answer.
            late = time.monotonic() - self._tasks[0].placed > TARGET_SECONDS
            tasks.append(self._tasks.pop() if late else self._tasks.popleft())
            plans += len(tasks[-1].plans) if isinstance(tasks[-1], Job) else 1
            if plans >= self._batch:
                return True, tasks
            try:
                token = self._tokens.get_nowait()
            except queue.Empty:
                return True, tasks
        return False, tasks

    def _too_late(self, task: Job | Errand) -> bool:
        """Nobody waits for this answer any more."""
        # Not the loop's own time, which stands still while it works.
        return task.future.cancelled() or time.monotonic() > task.deadline

    def _answer(self, jobs: Sequence[Job]) -> None:
        started = time.perf_counter()
        self._shallower(jobs, time.monotonic() - min(job.placed for job in jobs))
        done: list[Callable[[], None]] = []
        for group in _by_version(jobs):
            done += _search(group)
        self._metrics.searched.observe(time.perf_counter() - started)
        self._metrics.together.observe(len(jobs))
        self._loop.call_soon_threadsafe(_run_all, done)

    def share_of_depth(self, pressure: float) -> float:
        """The share of the depth that is searched to: less, the nearer the `pressure` is to 1."""
        share = 1.0 if pressure < 0.25 else max(self._depth_floor, 1.25 - pressure)
        if share != self._share:  # asked at every request, and nearly always the same
            self._share = share
            self._metrics.quality.set(share)
        return share

    def _shallower(self, jobs: Sequence[Job], waited: float) -> None:
        """Lower the depth as the queue fills, or those in it wait, down to the floor: before anyone is refused."""
        behind = self._waiting - sum(len(job.plans) for job in jobs)
        quality = self.share_of_depth(max(behind / self._queue_max, waited / TARGET_SECONDS))
        if quality == 1.0:
            return
        for job in jobs:
            reduced = [with_share_of_depth(plan, quality) for plan in job.plans]
            job.reduced = any(after is not before for after, before in zip(reduced, job.plans, strict=True))
            job.plans = reduced


def with_share_of_depth(plan: Asked, share: float) -> Asked:
    """The plan with less depth than asked for or measured, whatever k is: for inverted lists k is no depth. The same
    plan where all rows are scored.
    """
    entry = plan.space.entry.indexes[plan.candidate_type]
    if entry.kind == "exact":
        return plan
    depth = plan.depth or entry.depth
    return msgspec.structs.replace(plan, depth=max(1, int(depth * share)))


def _by_version(jobs: Sequence[Job]) -> list[list[Job]]:
    groups: dict[int, list[Job]] = {}
    for job in jobs:
        groups.setdefault(id(job.loaded), []).append(job)
    return list(groups.values())


def _search(jobs: Sequence[Job]) -> list[Callable[[], None]]:
    """Search the plans of all `jobs` together. Returns what the event loop must do with the answers."""
    plans = [plan for job in jobs for plan in job.plans]
    try:
        answers = iter(jobs[0].loaded.recommender.answers(plans))
    except Exception as error:
        return [_failed(job.future, error) for job in jobs]
    return [_found(job.future, [next(answers) for _ in job.plans]) for job in jobs]


def _run_errand(errand: Errand) -> Callable[[], None]:
    """Do the errand. Returns what the event loop must do with what it found."""
    try:
        return _found(errand.future, errand.work())
    except Exception as error:
        return _failed(errand.future, error)


def _found(future: "asyncio.Future[Found]", found: Found) -> Callable[[], None]:
    return lambda: None if future.done() else future.set_result(found)


def _failed(future: "asyncio.Future[Any]", error: Exception) -> Callable[[], None]:
    return lambda: None if future.done() else future.set_exception(error)


def _run_all(steps: Sequence[Callable[[], None]]) -> None:
    for step in steps:
        step()

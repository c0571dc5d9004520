"""The partitions in memory: swaps with the disk happen on one background thread while the present bucket trains."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

from training.buckets import Buckets
from training.checkpoint import PartitionStore, Tables
from training.edges import BucketEdges
from training.partition import BucketId


@dataclass(frozen=True, slots=True)
class Loaded:
    """A bucket with everything its training needs."""

    groups: tuple[BucketEdges, ...]
    sources: Tables
    targets: Tables


class PartitionBuffer:
    """Holds the partitions of the present bucket and fetches the next one's. One thread does all reading and writing,
    in order, so a partition is always written before it is read again and at most three are in memory."""

    def __init__(self, store: PartitionStore, buckets: Buckets) -> None:
        self._store, self._buckets = store, buckets
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="swap")
        self._held: dict[int, Tables] = {}
        self._coming: dict[int, Future[Tables]] = {}
        self._edges: dict[BucketId, Future[tuple[BucketEdges, ...]]] = {}
        self._leaving: list[Future[None]] = []

    def __enter__(self) -> "PartitionBuffer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._disk.shutdown(wait=True, cancel_futures=True)

    def open(self, bucket: BucketId, following: BucketId | None, ahead: BucketId | None = None) -> Loaded:
        """Bring in `bucket`, send away what it does not need, and start fetching for `following`; for `ahead`, whose
        partitions others still train, its edges alone.

        Raises what an earlier swap raised, such as OSError for want of room.
        """
        for partition in set(self._held) - _needed(bucket, following):
            self._leaving.append(self._disk.submit(self._store.save, partition, self._held.pop(partition)))
        self._fetch(bucket, most=2)
        for partition in set(bucket) - set(self._held):
            self._held[partition] = self._coming.pop(partition).result()
        groups = self._edges[bucket].result()
        self._check()
        if following != bucket:  # a graph of one bucket keeps its edges from epoch to epoch
            del self._edges[bucket]
        if following is not None:
            self._fetch(following, most=1)
        if ahead is not None:
            self._fetch(ahead, most=0)
        return Loaded(groups, self._held[bucket.source], self._held[bucket.target])

    def save(self) -> None:
        """Write every partition in memory; afterwards the store holds the present state."""
        for partition, tables in self._held.items():
            self._leaving.append(self._disk.submit(self._store.save, partition, tables))
        self._check(wait=True)

    def empty(self) -> None:
        """Write and forget every partition."""
        self.save()
        self._held.clear()
        self._coming.clear()

    def use(self, buckets: Buckets) -> None:
        """From now on edges are those of `buckets`; no partition may be in memory."""
        self._edges.clear()
        self._buckets = buckets

    def _fetch(self, bucket: BucketId, most: int) -> None:
        for partition in sorted(set(bucket) - set(self._held) - set(self._coming))[:most]:
            self._coming[partition] = self._disk.submit(self._store.load, partition)
        if bucket not in self._edges:
            self._edges[bucket] = self._disk.submit(self._buckets.load, bucket)

    def _check(self, wait: bool = False) -> None:
        for future in self._leaving:
            if wait or future.done():
                future.result()
        self._leaving = [future for future in self._leaving if not future.done()]


def _needed(bucket: BucketId, following: BucketId | None) -> set[int]:
    """What stays in memory: a bucket of one partition leaves room for another that is needed next."""
    return {*bucket, *(following or ())} if bucket.source == bucket.target else set(bucket)

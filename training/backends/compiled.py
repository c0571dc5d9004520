"""The compiled backend: hands a bucket's arrays to the C++ kernel and runs it on as many threads as asked."""

import ctypes
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import numpy.typing as npt

from bundle.errors import RunError
from training.backends.base import BucketWork, SpanResult, relation_rate
from training.backends.kernel.build import load_kernel
from training.checkpoint import PartitionStore
from training.config import TrainConfig
from training.edges import BucketEdges
from training.model import EmbeddingTable

POINTER = ctypes.c_void_p
LANES = 32


class _Table(ctypes.Structure):
    _fields_ = [("vectors", POINTER), ("accumulator", POINTER), ("previous", POINTER)]


class _Group(ctypes.Structure):
    _fields_ = [
        *((name, POINTER) for name in ("src", "dst", "rel", "weight")),
        ("edges", ctypes.c_int64),
        *((name, POINTER) for name in ("out_offsets", "in_offsets", "in_neighbour", "in_relation", "order")),
        ("n_source", ctypes.c_int64),
        ("n_target", ctypes.c_int64),
        ("source_table", ctypes.c_int32),
        ("target_table", ctypes.c_int32),
        ("one_relation", ctypes.c_int32),
    ]


class _Work(ctypes.Structure):
    _fields_ = [
        ("groups", ctypes.POINTER(_Group)),
        ("tables", ctypes.POINTER(_Table)),
        *((name, POINTER) for name in ("relations", "relation_accumulator", "relation_weight")),
        *((name, POINTER) for name in ("chunk_group", "chunk_start")),
        ("end", ctypes.c_int64),
        ("seed", ctypes.c_uint64),
        ("n_relations", ctypes.c_int64),
        *(
            (name, ctypes.c_int32)
            for name in ("dim", "chunk", "negatives_in_batch", "negatives_uniform", "negatives_prevalence")
        ),
        *((name, ctypes.c_int32) for name in ("chunks_per_update", "logistic", "inverse_relations", "mask_all")),
        *((name, ctypes.c_float) for name in ("learning_rate", "relation_learning_rate", "l2_previous", "l2")),
    ]


class _Result(ctypes.Structure):
    _fields_ = [("loss", ctypes.c_double), ("edges", ctypes.c_int64), ("diverged_at", ctypes.c_int64)]


class KernelBackend:
    """Trains with the compiled kernel. One thread is deterministic; more write to the tables without locks."""

    name = "compiled"

    def __init__(self, config: TrainConfig, threads: int) -> None:
        self._config = config
        library = load_kernel(-(-config.dim // LANES) * LANES, config.products)
        self._run = library.twhin_run
        self._run.argtypes = [ctypes.POINTER(_Work), POINTER, ctypes.POINTER(_Result)]
        self._run.restype = ctypes.c_int32
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="train")

    def open(self, work: BucketWork) -> "KernelSession":
        """See Backend."""
        return KernelSession(self, work)

    def store(self, store: PartitionStore) -> PartitionStore:
        """See Backend."""
        return store

    def room(self) -> None:
        """See Backend."""

    def call(self, native: _Work, begin: int) -> list[_Result]:
        """Run the kernel on every thread until the chunks are used up."""
        counter = ctypes.c_int64(begin)
        results = [_Result() for _ in range(self._threads)]
        calls = [self._pool.submit(self._run, native, ctypes.addressof(counter), result) for result in results]
        try:
            statuses = [call.result() for call in calls]
        except BaseException:  # Ctrl-C: the arrays must outlive the threads
            counter.value = native.end
            wait(calls)
            raise
        if any(statuses):
            raise RunError("There was no memory left for the kernel's buffers. Use fewer threads or negatives.")
        return results

    def native(self, work: BucketWork) -> _Work:
        """The kernel's view of a bucket; it borrows the arrays."""
        config, schedule = self._config, work.schedule
        # In a bucket of one partition sources and targets are the same arrays, which the kernel must know.
        tables = {id(table.vectors): table for table in (*work.sources, *work.targets)}
        number = {key: i for i, key in enumerate(tables)}
        groups = []
        for edges, order in zip(work.groups, schedule.order, strict=True):
            source, target = work.sources[edges.source_type], work.targets[edges.target_type]
            groups.append(_group(edges, order, number[id(source.vectors)], number[id(target.vectors)]))
        return _Work(
            groups=(_Group * len(groups))(*groups),
            tables=(_Table * len(tables))(*map(_table, tables.values())),
            relations=_address(work.relations.vectors),
            relation_accumulator=_address(work.relations.accumulator),
            relation_weight=_address(work.relation_weights),
            chunk_group=_address(schedule.group),
            chunk_start=_address(schedule.start),
            end=0,
            seed=schedule.seed,
            n_relations=len(work.relations.vectors),
            dim=config.dim,
            chunk=config.chunk,
            negatives_in_batch=config.negatives_in_batch,
            negatives_uniform=config.negatives_uniform,
            negatives_prevalence=config.negatives_prevalence,
            chunks_per_update=config.chunks_per_update,
            logistic=config.loss == "logistic",
            inverse_relations=config.inverse_relations,
            mask_all=config.masks == "all",
            learning_rate=config.learning_rate,
            relation_learning_rate=relation_rate(config),
            l2_previous=config.l2_previous,
            l2=config.l2,
        )


class KernelSession:
    """A bucket's arrays, borrowed by the kernel."""

    def __init__(self, backend: KernelBackend, work: BucketWork) -> None:
        self._backend, self._work = backend, work
        self._native = backend.native(work)

    def run(self, begin: int, end: int) -> SpanResult:
        """See BucketSession."""
        self._native.end = end
        results = self._backend.call(self._native, begin)
        diverged = [result.diverged_at for result in results if result.diverged_at >= 0]
        loss, edges = sum(result.loss for result in results), sum(result.edges for result in results)
        return SpanResult(float(loss), int(edges), min(diverged, default=None))

    def sync(self) -> None:
        """See BucketSession: the kernel works on the arrays themselves."""


def _address(array: npt.NDArray[np.generic] | None) -> int | None:
    if array is None:
        return None
    if not array.flags.c_contiguous:
        raise ValueError("the kernel needs contiguous arrays")
    return array.ctypes.data


def _table(table: EmbeddingTable) -> _Table:
    return _Table(_address(table.vectors), _address(table.accumulator), _address(table.previous))


def _group(edges: BucketEdges, order: npt.NDArray[np.int32], source: int, target: int) -> _Group:
    return _Group(
        src=_address(edges.src),
        dst=_address(edges.dst),
        rel=_address(edges.rel),
        weight=_address(edges.weight),
        edges=len(edges),
        out_offsets=_address(edges.out.offsets),
        in_offsets=_address(edges.into.offsets),
        in_neighbour=_address(edges.into.neighbour),
        in_relation=_address(edges.into.relation),
        order=_address(order),
        n_source=edges.n_source,
        n_target=edges.n_target,
        source_table=source,
        target_table=target,
        one_relation=len(edges) > 0 and bool(edges.rel.min() == edges.rel.max()),
    )

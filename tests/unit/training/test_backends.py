"""Both backends against the definitions of `training/model.py`: the same negatives, masks, loss and tables."""

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.graphs import distinct_pairs
from tests.support.reference_backend import ReferenceBackend
from training.backends.base import Backend, BucketWork
from training.backends.compiled import KernelBackend
from training.backends.kernel import build
from training.backends.kernel.build import find_compiler
from training.backends.torch_backend import TorchBackend
from training.chunks import make_schedule
from training.config import TrainConfig
from training.edges import BucketEdges, index_edges
from training.model import EmbeddingTable, Relations

DIM = 20  # not a multiple of a register: the padding is tested too
RELATIVE, ABSOLUTE = 2e-3, 2e-5
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler here")


@dataclass(frozen=True)
class World:
    """Two entity types of 60 and 40 rows; friends join the first type, likes lead from the first to the second."""

    groups: tuple[BucketEdges, ...]
    sources: tuple[EmbeddingTable, ...]
    targets: tuple[EmbeddingTable, ...]
    relations: Relations
    config: TrainConfig


def table(n: int, rng: np.random.Generator, previous: bool) -> EmbeddingTable:
    vectors = rng.normal(size=(n, DIM)).astype(np.float32) * np.float32(0.5)
    old = rng.normal(size=(n, DIM)).astype(np.float32) if previous else None
    return EmbeddingTable(vectors, rng.uniform(0, 0.1, n).astype(np.float32), old)


def group(
    types: tuple[int, int], sizes: tuple[int, int], relations: list[int], rng: np.random.Generator
) -> BucketEdges:
    pairs = [distinct_pairs(*sizes, 150, rng) for _ in relations]
    rel = np.repeat(np.array(relations, dtype=np.int32), 150)
    columns = np.concatenate(pairs)[:, 0].copy(), np.concatenate(pairs)[:, 1].copy(), rel
    return index_edges(types, sizes, columns, rng.uniform(0.2, 3, len(rel)).astype(np.float32))


def world(diagonal: bool = True, previous: bool = False, **settings: Any) -> World:
    rng = np.random.default_rng(3)
    groups = group((0, 0), (60, 60), [0, 1], rng), group((0, 1), (60, 40), [2], rng)
    sources = table(60, rng, previous), table(40, rng, previous)
    targets = sources if diagonal else (table(60, rng, previous), table(40, rng, previous))
    vectors = rng.normal(size=(3, 2, DIM)).astype(np.float32) * np.float32(0.3)
    relations = Relations(vectors, np.zeros_like(vectors))
    defaults = {"dim": DIM, "chunk": 16, "negatives_in_batch": 10, "negatives_uniform": 21, "negatives_prevalence": 6}
    defaults |= {"products": "float32"}
    return World(groups, sources, targets, relations, TrainConfig.model_validate({**defaults, **settings}))


def trained(start: World, backend: Backend, chunks: int | None = None) -> tuple[float, list[np.ndarray]]:
    """The loss and all tables after one pass of `backend`, or `chunks` of it, over copies of the world's tables."""
    copies = {
        id(t): EmbeddingTable(t.vectors.copy(), t.accumulator.copy(), t.previous)
        for t in (*start.sources, *start.targets)
    }
    relations = Relations(start.relations.vectors.copy(), start.relations.accumulator.copy())
    sources = tuple(copies[id(t)] for t in start.sources)
    targets = tuple(copies[id(t)] for t in start.targets)
    schedule = make_schedule(start.groups, start.config.chunk, 5)
    weights = np.array([1.0, 0.5, 2.0], dtype=np.float32)
    session = backend.open(BucketWork(start.groups, sources, targets, relations, weights, schedule))
    result = session.run(0, chunks or len(schedule))
    session.sync()
    assert chunks or result.edges == sum(map(len, start.groups))
    arrays = [a for t in (*sources, *targets) for a in (t.vectors, t.accumulator)]
    return result.loss, [*arrays, relations.vectors, relations.accumulator]


CASES: dict[str, dict[str, Any]] = {
    "softmax": {},
    "eq. 2": {"loss": "logistic"},
    "single vector": {"inverse_relations": False},
    "eq. 2, single vector": {"loss": "logistic", "inverse_relations": False},
    "two partitions": {"diagonal": False},
    "several chunks an update": {"chunks_per_update": 3},
    "chunks longer than a tile": {"chunk": 100, "negatives_in_batch": 100},
    "in-batch alone": {"negatives_uniform": 0, "negatives_prevalence": 0},
    "uniform alone": {"negatives_in_batch": 0, "negatives_prevalence": 0},
    "masks of the chunk alone": {"masks": "chunk"},
    "pull to zero": {"l2": 0.01},
    "pull to the version before": {"previous": True, "l2_previous": 0.05},
    "rates": {"learning_rate": 0.03, "relation_learning_rate": 0.2},
}


@cache
def judged(case: str) -> tuple[float, list[np.ndarray]]:
    start = world(**CASES[case])
    return trained(start, ReferenceBackend(start.config))


BACKENDS: dict[str, Callable[[TrainConfig], Backend]] = {
    "compiled": lambda config: KernelBackend(config, 1),
    "torch": lambda config: TorchBackend(config, 1),
    "torch as on a device": lambda config: TorchBackend(config, 1, copies=True),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_a_backend_agrees_with_the_definition(case: str, backend: str) -> None:
    if backend == "compiled" and find_compiler() is None:
        pytest.skip("no C++ compiler here")
    start = world(**CASES[case])
    loss, expected = judged(case)
    found_loss, found = trained(start, BACKENDS[backend](start.config))
    assert found_loss == pytest.approx(loss, rel=1e-4)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE)


@needs_compiler
def test_true_pairs_of_hubs_are_masked() -> None:
    """Lists of more than twice the candidates are looked up as bits, in both directions."""
    rng, rows = np.random.default_rng(4), np.arange(1, 191, dtype=np.int32)
    hub, few = np.zeros(190, dtype=np.int32), distinct_pairs(200, 200, 60, rng)
    src, dst = np.concatenate([hub, rows, few[:, 0]]), np.concatenate([rows, hub, few[:, 1]])
    rel = rng.integers(0, 2, len(src)).astype(np.int32) * (np.arange(len(src)) >= 380)
    edges = index_edges((0, 0), (200, 200), (src, dst, rel.astype(np.int32)), None)
    tables = (table(200, rng, False),)
    start = world(negatives_in_batch=10, negatives_uniform=56, negatives_prevalence=4)
    start = replace(start, groups=(edges,), sources=tables, targets=tables)
    loss, expected = trained(start, ReferenceBackend(start.config))
    found_loss, found = trained(start, KernelBackend(start.config, 1))
    assert found_loss == pytest.approx(loss, rel=1e-4)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE)


def test_tables_on_another_device_come_back() -> None:
    """What a GPU does, on the CPU: a session works on copies of the tables and `sync` brings them back."""
    start = world(diagonal=False, previous=True, l2_previous=0.05)
    loss, expected = trained(start, TorchBackend(start.config, 1))
    copied_loss, copied = trained(start, TorchBackend(start.config, 1, copies=True))
    assert copied_loss == loss
    for one, other in zip(copied, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_bfloat16_products_learn_nearly_the_same() -> None:
    """Eight bits of mantissa in the products, float32 tables: within 2% of the loss, 5% of every table."""
    start = world()
    loss, expected = trained(start, TorchBackend(start.config, 1))
    rough_loss, rough = trained(start, TorchBackend(start.config.model_copy(update={"products": "bfloat16"}), 1))
    assert rough_loss == pytest.approx(loss, rel=0.02)
    for one, other in zip(rough, expected, strict=True):
        assert np.linalg.norm(one - other) < 0.05 * np.linalg.norm(other)


@needs_compiler
@pytest.mark.parametrize("case", CASES)
def test_int16_products_learn_nearly_the_same(case: str) -> None:
    """11 to 15 bits, against the definition: within 0.1% of the loss, 5% of every table.

    The first step of a row without state is as long as the learning rate whatever its gradient, so that a gradient near
    zero may go the other way: that is nearly all of the difference, in bfloat16 too.
    """
    start = world(**CASES[case], products="int16")
    loss, expected = judged(case)
    found_loss, found = trained(start, KernelBackend(start.config, 1))
    assert found_loss == pytest.approx(loss, rel=1e-3)
    for one, other in zip(found, expected, strict=True):
        assert np.linalg.norm(one - other) < 0.05 * np.linalg.norm(other)


@needs_compiler
@pytest.mark.parametrize("loss", ["softmax", "logistic"])
def test_int16_sums_do_not_overflow(loss: str) -> None:
    """The worst case: all vectors point along one coordinate, so that each product is the largest there is."""
    start = world(loss=loss, products="int16", chunk=100, negatives_in_batch=100, negatives_uniform=300)
    for table in start.sources:
        table.vectors[:] = 0
        table.vectors[:, 3] = 1
    start.relations.vectors[:] = 0
    found_loss, found = trained(start, KernelBackend(start.config, 1), chunks=1)
    exact = start.config.model_copy(update={"products": "float32"})
    loss, expected = trained(start, TorchBackend(exact, 1), chunks=1)
    assert found_loss == pytest.approx(loss, rel=1e-4)
    for one, other in zip(found[:-2], expected, strict=False):  # the relations' gradients cancel to nothing
        assert np.linalg.norm(one - other) <= 0.01 * np.linalg.norm(other)


def runs_here(march: str) -> bool:
    """Whether this processor runs code for `march`."""
    needed = {
        "x86-64": set(),
        "haswell": {"avx2", "fma", "bmi2"},
        "skylake-avx512": {"avx512bw", "avx512dq", "avx512vl"},
    }
    cpuinfo = Path("/proc/cpuinfo")
    found = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.exists() else set()
    return platform.machine() == "x86_64" and needed[march] <= found


@needs_compiler
@pytest.mark.parametrize("march", ["x86-64", "haswell", "skylake-avx512"])
def test_other_processors_compute_the_same(march: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With shorter registers and without VNNI: each path of the kernel that this processor can run, in both numbers."""
    if not runs_here(march):
        pytest.skip(f"this processor does not run code for {march}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    flags = [f"-march={march}" if flag.startswith("-march") else flag for flag in build.FLAGS if flag != "-O3"]
    monkeypatch.setattr(build, "FLAGS", (*flags, "-O1"))
    start = world(chunk=100, negatives_in_batch=100)
    _, expected = judged("chunks longer than a tile")
    for products, tolerance in (("float32", 1e-4), ("int16", 0.05)):
        config = start.config.model_copy(update={"products": products})
        for one, other in zip(trained(start, KernelBackend(config, 1))[1], expected, strict=True):
            assert np.linalg.norm(one - other) < tolerance * np.linalg.norm(other)


@needs_compiler
def test_one_thread_is_deterministic() -> None:
    start = world()
    first, second = (trained(start, KernelBackend(start.config, 1))[1] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@needs_compiler
def test_several_threads_train_every_edge_and_learn_as_well() -> None:
    start = world()
    alone, _ = trained(start, KernelBackend(start.config, 1))
    together, _ = trained(start, KernelBackend(start.config, 3))
    assert together == pytest.approx(alone, rel=0.05)


def test_on_another_device_a_loss_that_is_no_number_is_found_at_the_end_of_the_span() -> None:
    """The first bad chunk is named, what came before is counted, and the host's tables stay as they were."""
    start = world()
    vectors = start.sources[1].vectors.copy()
    vectors[3] = np.nan
    tables = start.sources[0], EmbeddingTable(vectors, start.sources[1].accumulator)
    start = replace(start, sources=tables, targets=tables)
    schedule = make_schedule(start.groups, start.config.chunk, 5)
    ones, before = np.ones(3, dtype=np.float32), start.sources[0].vectors.copy()
    work = BucketWork(start.groups, start.sources, start.targets, start.relations, ones, schedule)
    at_once = TorchBackend(start.config, 1, copies=True).open(work).run(0, len(schedule))
    np.testing.assert_array_equal(start.sources[0].vectors, before)
    one_by_one = TorchBackend(start.config, 1).open(work).run(0, len(schedule))
    assert (at_once.diverged_at, at_once.edges) == (one_by_one.diverged_at, one_by_one.edges)
    assert at_once.loss == pytest.approx(one_by_one.loss)


@pytest.mark.parametrize("name", ["compiled", "torch"])
def test_a_loss_that_is_no_number_stops_before_it_spreads(name: str) -> None:
    if name == "compiled" and find_compiler() is None:
        pytest.skip("no C++ compiler here")
    start = world()
    broken = start.sources[0].vectors.copy()
    broken[:] = np.nan
    start = replace(start, sources=(EmbeddingTable(broken, start.sources[0].accumulator), start.sources[1]))
    start = replace(start, targets=start.sources)
    backend: Backend = KernelBackend(start.config, 1) if name == "compiled" else TorchBackend(start.config, 1)
    schedule = make_schedule(start.groups, start.config.chunk, 5)
    ones = np.ones(3, dtype=np.float32)
    work = BucketWork(start.groups, start.sources, start.targets, start.relations, ones, schedule)
    result = backend.open(work).run(0, len(schedule))
    assert result.diverged_at == 0
    assert np.isfinite(start.relations.vectors).all()
    assert np.isfinite(start.sources[1].vectors).all()

"""The metrics of several workers: added up, kept when a worker is replaced, harmless when there is no room."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import generate_latest

from service.metrics import Metrics
from service.shared_metrics import REGION_BYTES, SharedMetrics, merged, value_class

Values = type


@pytest.fixture
def shared() -> SharedMetrics:
    return SharedMetrics(2)


def worker(shared: SharedMetrics, number: int) -> Values:
    """A worker takes its region, a former one's or a new one."""
    shared.regions[number].take_over()
    return value_class(shared.regions[number])


def exposed(shared: SharedMetrics) -> dict[str, float]:
    lines = generate_latest(shared).decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_counters_add_up_and_outlive_their_worker(shared: SharedMetrics) -> None:
    first, second = worker(shared, 0), worker(shared, 1)
    first("counter", "asked", "asked_total", ("route",), ("a",), "Asked").inc(2)
    second("counter", "asked", "asked_total", ("route",), ("a",), "Asked").inc(3)
    second("counter", "asked", "asked_total", ("route",), ("b",), "Asked").inc(1)
    assert exposed(shared) == {'asked_total{route="a"}': 5, 'asked_total{route="b"}': 1}
    shared.regions[1].retire()
    again = worker(shared, 1)
    again("counter", "asked", "asked_total", ("route",), ("a",), "Asked").inc(1)
    assert exposed(shared) == {'asked_total{route="a"}': 6, 'asked_total{route="b"}': 1}


def test_gauges_are_those_of_workers_that_live(shared: SharedMetrics) -> None:
    for mode, value in (("livemin", 2.0), ("livemax", 3.0), ("livesum", 5.0)):
        for number, given in enumerate((2.0, 3.0)):
            value_class(shared.regions[number])("gauge", mode, mode, ("v",), ("x",), "", mode).set(given)
            shared.regions[number]._words[1] = 1
        assert exposed(shared)[f'{mode}{{v="x"}}'] == value
    shared.regions[0].retire()
    assert exposed(shared) == {f'{mode}{{v="x"}}': 3.0 for mode in ("livemin", "livemax", "livesum")}
    worker(shared, 1)  # knows nothing yet of what its predecessor said
    assert exposed(shared) == {}


def test_a_histogram_is_what_numpy_counts(shared: SharedMetrics) -> None:
    rng, bounds = np.random.default_rng(1), (0.1, 1.0, 2.5, float("inf"))
    seen = []
    for number in range(2):
        values = worker(shared, number)
        total = values("histogram", "took", "took_sum", (), (), "")
        buckets = [values("histogram", "took", "took_bucket", ("le",), (f"{bound}",), "") for bound in bounds]
        for value in rng.exponential(1.0, 200):
            total.inc(value)
            buckets[int(np.searchsorted(bounds, value))].inc(1)
            seen.append(value)
    got = exposed(shared)
    assert got["took_sum"] == pytest.approx(sum(seen))
    assert got["took_count"] == 400
    for bound, text in zip(bounds, ("0.1", "1.0", "2.5", "+Inf"), strict=True):
        assert got[f'took_bucket{{le="{text}"}}'] == sum(value <= bound for value in seen)


def test_a_full_region_stops_no_request(shared: SharedMetrics) -> None:
    values = worker(shared, 0)
    made = [values("counter", "m", "m_total", ("l",), (f"{i:0500}",), "") for i in range(REGION_BYTES // 500)]
    for value in made:
        value.inc(1)
        assert value.get() == 1
    kept = exposed(shared)
    assert 0.8 * len(made) < len(kept) < len(made)
    assert set(kept.values()) == {1.0}


def test_keys_of_any_length_are_read_back(shared: SharedMetrics) -> None:
    values = worker(shared, 0)
    for length in range(40):
        values("counter", "m", "m_total", ("l",), ("ü" * length,), "").inc(length)
    assert exposed(shared) == {f'm_total{{l="{"ü" * length}"}}': length for length in range(40)}
    assert len(list(merged(shared.regions))) == 1


def test_another_process_reads_and_writes_the_same_and_a_lock_keeps_them_apart(tmp_path: Path) -> None:
    program = """
import multiprocessing, time
from service.metrics import Metrics
from service.shared_metrics import SharedMetrics, value_class
def work(shared):
    shared.regions[1].take_over()
    with shared.one_at_a_time():
        value_class(shared.regions[1])("counter", "m", "m_total", (), (), "").inc(7)
        time.sleep(60)
if __name__ == "__main__":
    shared = SharedMetrics(2)
    child = multiprocessing.get_context("spawn").Process(target=work, args=(shared,))
    child.start()
    while not list(shared.regions[1].values()):
        time.sleep(0.01)
    time.sleep(0.05)
    child.kill()  # and lets go of the lock
    with shared.one_at_a_time():
        print(list(shared.regions[1].values())[0][1])
"""
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "7.0\n", done.stderr


@pytest.mark.parametrize("workers", [0, 2])
def test_what_the_serving_version_no_longer_has_is_counted_no_more(workers: int) -> None:
    shared = SharedMetrics(workers) if workers else None
    for region in () if shared is None else shared.regions:
        region.take_over()
    every = [Metrics(shared, worker) for worker in range(workers or 1)]
    for entities in ({("a", "user"): 3, ("a", "item"): 5}, {("b", "user"): 4, ("a", "item"): 6}, {("a", "user"): 7}):
        for metrics in every:
            metrics.versions.serving("v", "dot", created=1.0, now=2.0, recall=1.0, load_seconds=1.0, entities=entities)
        counted = {
            (sample.labels["space"], sample.labels["type"]): sample.value
            for family in every[0].collect()
            for sample in family.samples
            if sample.name == "twhin_entities"
        }
        assert counted == entities

"""Choosing a searcher: the cheapest that is good enough, within the limit, and honest when nothing is."""

import dataclasses

import numpy as np
import pytest

from index.builder.choose import Trial, choose, deeper, pareto, undecided
from index.builder.config import IndexConfig
from index.builder.measure import Measurement, Truth, find_truth, recall_of
from index.builder.queries import RealQueries
from index.builder.spec import SMALL_TYPE, IndexSpec, specs_for
from index.search.protocol import Hits
from index.search.ranking import ranked


def trial(recall: float, cpu_us: float, bytes_per_vector: float, standard_error: float = 0.001) -> Trial:
    return Trial(
        IndexSpec("hnsw", depth=1), Measurement(recall, standard_error, {}, float(cpu_us)), float(bytes_per_vector), 1.0
    )


SLOW_AND_SURE = trial(1.0, 8000, 512, 0.0)
QUICK = trial(0.97, 100, 660)
SMALL = trial(0.965, 150, 34)
POOR = trial(0.6, 10, 20)
ALL = [SLOW_AND_SURE, QUICK, SMALL, POOR]


def test_the_quickest_that_reaches_the_target_is_chosen() -> None:
    assert choose(ALL, IndexConfig(target_recall=0.95)) is QUICK
    assert choose(ALL, IndexConfig(target_recall=0.99)) is SLOW_AND_SURE
    assert choose(ALL, IndexConfig(target_recall=0.5)) is POOR


def test_the_memory_limit_comes_first() -> None:
    assert choose(ALL, IndexConfig(target_recall=0.95, memory_limit_bytes_per_vector=100)) is SMALL
    assert choose(ALL, IndexConfig(target_recall=0.95, prefer="memory")) is SMALL


def test_when_nothing_reaches_the_target_the_nearest_is_taken_and_the_gate_will_tell() -> None:
    limited = IndexConfig(target_recall=0.99, memory_limit_bytes_per_vector=100)
    assert choose(ALL, limited) is SMALL
    assert choose([QUICK, POOR], IndexConfig(memory_limit_bytes_per_vector=1)) is POOR


def test_what_reaches_the_target_by_luck_is_avoided() -> None:
    lucky, sure = (trial(0.9558, 1, 1, standard_error) for standard_error in (0.004, 0.002))
    assert choose([lucky, QUICK], IndexConfig(target_recall=0.95)) is QUICK
    assert choose([sure, QUICK], IndexConfig(target_recall=0.95)) is sure


def test_more_queries_are_asked_of_what_would_be_chosen_if_it_were_sure() -> None:
    lucky, unlucky = trial(0.9558, 2, 1, standard_error=0.004), trial(0.947, 1, 1, standard_error=0.004)
    dearer, hopeless = trial(0.951, 200, 1, standard_error=0.004), trial(0.93, 1, 1, standard_error=0.004)
    config = IndexConfig(target_recall=0.95)
    assert undecided([lucky, QUICK, unlucky, dearer, hopeless], config) == [unlucky, lucky]
    assert undecided([dearer, hopeless], config) == [dearer]
    assert undecided([QUICK, POOR], config) == []
    assert undecided([lucky, SMALL], IndexConfig(memory_limit_bytes_per_vector=0.5)) == [lucky]


def test_what_missed_its_floor_gives_way_to_what_found_more() -> None:
    assert deeper(ALL, SMALL) == [SLOW_AND_SURE, QUICK]
    assert deeper(ALL, SLOW_AND_SURE) == []
    perfect = trial(1.0, 10, 10)
    assert deeper([*ALL, perfect], perfect) == [SLOW_AND_SURE]


def test_the_pareto_table_leaves_out_what_another_beats() -> None:
    beaten = trial(0.96, 200, 700)
    assert pareto([*ALL, beaten]) == [POOR, SMALL, QUICK, SLOW_AND_SURE]


def test_equal_trials_do_not_beat_each_other() -> None:
    assert len(pareto([QUICK, QUICK])) == 2


def test_small_types_are_searched_exactly() -> None:
    assert [spec.kind for spec in specs_for(SMALL_TYPE, IndexConfig(), with_hnsw=True)] == ["exact"]


@pytest.mark.parametrize("n", [SMALL_TYPE + 1, 100_000, 50_000_000])
def test_larger_types_try_every_kind(n: int) -> None:
    specs = specs_for(n, IndexConfig(), with_hnsw=True)
    assert {spec.kind for spec in specs} == {"exact", "ivf4", "pq", "ivf_pq", "ivf_sq8", "hnsw"}
    assert all(spec.lists <= n // 39 and spec.depth <= max(spec.lists, 1000) for spec in specs)


def test_every_parameter_can_be_fixed() -> None:
    fixed = IndexConfig(kind="ivf_pq", depth=7, refine=3.0, ivf_lists=100, pq_subquantizers=16, popularity_scale=0.5)
    assert specs_for(10_000, fixed, with_hnsw=True) == [
        IndexSpec("ivf_pq", depth=7, refine=3.0, popularity_scale=0.5, lists=100, subquantizers=16)
    ]
    graph = IndexConfig(kind="hnsw", depth=70, hnsw_links=8, hnsw_build_depth=50)
    assert specs_for(100, graph, with_hnsw=False) == [
        IndexSpec("hnsw", depth=70, popularity_scale=0.3, links=8, build_depth=50)
    ]


def test_a_graph_from_a_gpu_is_a_file_of_faiss() -> None:
    spec = specs_for(10_000, IndexConfig(kind="hnsw"), with_hnsw=True, cagra=True)[0]
    assert spec.extension == "faiss"
    assert dataclasses.replace(spec, cagra=False).extension == "hnsw"


def test_recall_counts_any_of_equal_rows() -> None:
    queries = RealQueries(np.zeros((1, 2), dtype=np.float32), ("a",), np.zeros(1, dtype=np.int64))
    truth = Truth(queries, 2, np.array([5.0], dtype=np.float32), 1.0)
    tied = Hits(np.array([7, 9], dtype=np.int32), np.array([6.0, 5.0], dtype=np.float32))
    short = Hits(np.array([7, 8], dtype=np.int32), np.array([6.0, 4.9], dtype=np.float32))
    assert recall_of([tied], truth).tolist() == [1.0]
    assert recall_of([short], truth).tolist() == [0.5]


@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-5])
def test_recall_is_the_same_of_shorter_vectors(size: float) -> None:
    rng = np.random.default_rng(1)
    vectors, asked = (rng.normal(0, size, (n, 8)).astype(np.float32) for n in (500, 40))
    truth = find_truth(vectors, RealQueries(asked, ("a",), np.zeros(40, dtype=np.int64)), 10)
    every = [np.sort(rng.permutation(500)[:250]) for _ in asked]  # half of the rows: of the best ten about five
    hits = [ranked(vectors, query, rows, 10) for query, rows in zip(asked, every, strict=True)]
    assert 0.4 < recall_of(hits, truth).mean() < 0.6

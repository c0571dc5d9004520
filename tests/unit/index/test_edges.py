"""Edges grouped by row in blocks: the same arrays as sorting them all at once, whatever the block."""

from pathlib import Path

import numpy as np
import pytest

from bundle.arrays import map_array
from bundle.csr import csr_from_pairs
from bundle.layout import SpaceLayout
from bundle.prepared import Edges
from bundle.writer import BundleWriter
from index.builder.edges import SORTING_BYTES, Stream, Work, sorted_rows, stage_edges
from index.builder.stage import in_sorted_rows
from tests.support.memory import peak_bytes

LAYOUT = SpaceLayout("default")


def random_edges(n: int, n_rows: int) -> Edges:
    """Distinct pairs with weights and times, in no order."""
    rng = np.random.default_rng(1)
    pairs = np.unique(rng.integers(0, n_rows, (n, 2)), axis=0)
    rng.shuffle(pairs)
    src, dst = np.ascontiguousarray(pairs.T.astype(np.int32))
    return Edges(src, dst, rng.random(len(src), dtype=np.float32), 1000 * src.astype(np.int64) + dst)


def test_values_are_found_in_sorted_rows_all_at_once() -> None:
    rng = np.random.default_rng(1)
    edges = random_edges(300, 40)
    lists = csr_from_pairs(edges.src, edges.dst, 50)
    rows, values = rng.integers(0, 50, 500).astype(np.int32), rng.integers(0, 40, 500)
    expected = [value in lists.row(row).tolist() for row, value in zip(rows.tolist(), values.tolist(), strict=True)]
    assert 0 < sum(expected) < 500
    assert in_sorted_rows(lists, rows, values).tolist() == expected


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("block", [1, 40, 1 << 20])
def test_both_directions_are_csr_in_order(block: int, threads: int, tmp_path: Path) -> None:
    edges, work = random_edges(300, 25), Work(tmp_path, threads, threads * block)
    with BundleWriter(tmp_path, "v") as writer:
        stage_edges(writer, LAYOUT, 0, edges, (25, 25), False, work, tmp_path / "times.npy")
        indptr, indices, weights = (map_array(writer.path(name)) for name in LAYOUT.edges(0, "targets"))
        back_indptr, back_indices, _ = LAYOUT.edges(0, "sources")
        expected = csr_from_pairs(edges.src, edges.dst, 25, edges.weight)
        assert indptr.tolist() == expected.indptr.tolist()
        assert indices.tolist() == expected.indices.tolist()
        assert expected.weights is not None
        assert weights.tolist() == expected.weights.tolist()
        # The times of these edges are numbers made of both ends.
        assert edges.time is not None
        sources = np.repeat(np.arange(25), np.diff(indptr))
        assert map_array(tmp_path / "times.npy").tolist() == (1000 * sources + indices).tolist()
        reverse = csr_from_pairs(edges.dst, edges.src, 25)
        assert map_array(writer.path(back_indptr)).tolist() == reverse.indptr.tolist()
        assert map_array(writer.path(back_indices)).tolist() == reverse.indices.tolist()
    assert not [*tmp_path.glob("*.edges")]


def test_a_symmetric_relation_has_both_directions_once(tmp_path: Path) -> None:
    # 0–1 is stored both ways, 2–2 is a loop, 1–2 is stored one way
    edges = Edges(np.array([0, 1, 2, 1], dtype=np.int32), np.array([1, 0, 2, 2], dtype=np.int32))
    with BundleWriter(tmp_path, "v") as writer:
        stage_edges(writer, LAYOUT, 0, edges, (3, 3), True, Work(tmp_path, edges=1))
        indptr, indices, _ = LAYOUT.edges(0, "targets")
        assert map_array(writer.path(indptr)).tolist() == [0, 1, 3, 5]
        assert map_array(writer.path(indices)).tolist() == [1, 0, 2, 1, 2]


def test_a_relation_without_edges_is_written(tmp_path: Path) -> None:
    empty = Edges(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))
    with BundleWriter(tmp_path, "v") as writer:
        stage_edges(writer, LAYOUT, 0, empty, (3, 2), False, Work(tmp_path))
        assert map_array(writer.path(LAYOUT.edges(0, "targets")[0])).tolist() == [0, 0, 0, 0]
        assert writer.files[LAYOUT.edges(0, "targets")[2]].shape == (0,)
        assert writer.files[LAYOUT.edges(0, "sources")[1]].shape == (0,)


def test_one_row_with_more_edges_than_a_block_still_fits(tmp_path: Path) -> None:
    rows = np.zeros(50, dtype=np.int32)
    stream = Stream(rows, np.arange(50, dtype=np.int32))
    blocks = list(sorted_rows([stream], 3, Work(tmp_path, edges=10)))
    assert [(block.first, block.indptr.tolist()) for block in blocks] == [(0, [0, 50]), (1, [0, 0, 0])]


def test_many_rows_with_few_edges_take_no_more_than_edges_would(tmp_path: Path) -> None:
    n_rows, edges = 3_000_000, 1 << 16
    few = np.arange(0, n_rows, 10_000, dtype=np.int32)
    blocks: list[int] = []

    def counted() -> None:
        blocks[:] = [
            len(block.indptr) - 1 for block in sorted_rows([Stream(few, few)], n_rows, Work(tmp_path, edges=edges))
        ]

    peak = peak_bytes(counted)
    assert (sum(blocks), max(blocks) <= edges) == (n_rows, True)
    assert peak < 2 * SORTING_BYTES * edges  # the offsets of all would be three times this

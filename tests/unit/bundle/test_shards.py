"""Shards: the hash that Spark computes, shards that depend on the id alone, edges sorted by cell."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.arrays import map_array
from bundle.cells import CellSorter, SortedEdges
from bundle.hashing import hashes, xxh64_of_numbers, xxh64_of_strings
from bundle.ids import IntIds, StringIds, string_ids
from bundle.sharded import BLOCK, CellEdges, ShardedGraph, deal
from bundle.shards import shard_count, shard_of
from tests.support.memory import peak_bytes


def of_bytes(text: bytes, seed: int = 42) -> int:
    offsets = np.array([0, len(text)], dtype=np.int64)
    return int(xxh64_of_strings(offsets, np.frombuffer(text, dtype=np.uint8), seed)[0])


def test_it_is_the_hash_of_sparks_documentation() -> None:
    """`xxhash64` of several columns takes each one's hash as the seed of the next; an int is hashed as four bytes."""
    assert of_bytes(b"ABC") == 4105715581806190027
    assert of_bytes(b"DEF", of_bytes(b"ABC")) == 3233247871021311208
    after = of_bytes((123).to_bytes(4, "little"), of_bytes(b"Spark"))
    assert of_bytes((2).to_bytes(4, "little"), after) == 5602566077635097486


def test_known_hashes_of_numbers_and_of_text_of_every_kind_of_length() -> None:
    """Made with the `xxhash` package, which wraps the reference implementation; seed 42."""
    numbers = {
        0: 13194218611613725804,
        1: 11445071438006506034,
        42: 11570577783400690398,
        2**53 + 1: 2178404700979030276,
        2**63 - 1: 15200148018071253766,
    }
    assert xxh64_of_numbers(np.array(list(numbers), dtype=np.int64)).tolist() == list(numbers.values())
    texts = {
        "a": 9864288744972464332,
        "item-7": 16241328214396009831,
        "Ελλάδα": 14880459154049678565,
        "x" * 32: 1299777543150008824,
        "y" * 100: 5011348227102350976,
    }
    table = string_ids(list(texts))
    assert dict(zip(table.externals(np.arange(5)), hashes(table, 0, 5).tolist(), strict=True)) == texts


def test_a_number_is_hashed_as_its_eight_bytes() -> None:
    number = 0x0102030405060708
    assert of_bytes(number.to_bytes(8, "little")) == xxh64_of_numbers(np.array([number]))[0]


def test_an_entity_keeps_its_shard_whatever_else_is_in_the_graph() -> None:
    few, many = IntIds(np.array([5, 700, 10**12])), IntIds(np.array([1, 5, 6, 700, 10**12, 10**12 + 1]))
    assert shard_of(few, 256).tolist() == shard_of(many, 256)[[1, 3, 4]].tolist()
    signed = xxh64_of_numbers(few.values).view(np.int64).tolist()
    assert shard_of(few, 256).tolist() == [hashed % 256 for hashed in signed]  # as pmod(xxhash64(id), 256) in Spark


@pytest.mark.parametrize(
    ("entities", "shards"), [(0, 256), (1 << 24, 256), ((1 << 24) + 1, 512), (10**8, 2048), (10**12, 4096)]
)
def test_how_many_shards_a_graph_has(entities: int, shards: int) -> None:
    assert shard_count(entities) == shards


def test_shards_are_even() -> None:
    counts = deal(IntIds(np.arange(256_000, dtype=np.int64) * 8), 256).rows.counts
    assert counts.sum() == 256_000
    assert 850 < counts.min() <= counts.max() < 1150


def test_text_and_numbers_are_dealt_alike() -> None:
    """Of each type: rows by shard hold every row once, ascending in a shard, and places lead back."""
    for ids in (IntIds(np.arange(1000, dtype=np.int64) ** 2), string_ids([f"id {i}" for i in range(1000)])):
        assert isinstance(ids, IntIds | StringIds)
        dealt = deal(ids, 16)
        for shard in range(16):
            rows = dealt.rows.of(np.array([shard]))
            assert np.all(np.diff(rows) > 0)
            assert dealt.places.shard[rows].tolist() == [shard] * len(rows)
            assert dealt.places.place[rows].tolist() == list(range(len(rows)))
        assert sorted(dealt.rows.rows.tolist()) == list(range(1000))


def by_cell(found: list[SortedEdges], relation: int) -> list[tuple[int, int, int, int, float]]:
    """(cell, places, source row, weight) of every edge of a relation, as they come."""
    result = []
    for edges in found:
        if edges.relation == relation:
            lengths = np.diff(np.append(edges.start, len(edges)))
            cells = np.repeat(edges.cell, lengths).tolist()
            names = ("src_place", "dst_place", "src", "weight")
            result += list(zip(cells, *(edges.columns[name].tolist() for name in names), strict=True))
    return result


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edges=st.sets(st.tuples(st.integers(0, 29), st.integers(0, 19), st.integers(0, 2)), max_size=80),
    bucket=st.sampled_from([3, 1000]),
)
def test_edges_come_out_by_cell_and_place(
    tmp_path_factory: pytest.TempPathFactory, edges: set[tuple[int, int, int]], bucket: int
) -> None:
    source, target = (deal(IntIds(np.arange(n, dtype=np.int64) * 7), 4) for n in (30, 20))
    given_edges = np.array(sorted(edges, key=hash), dtype=np.int32).reshape(-1, 3)
    work: Path = tmp_path_factory.mktemp("cells")
    sorter = CellSorter(work, source, target, 3, len(edges), {"weight": np.float32}, bucket)
    for part in np.array_split(given_edges, 3):
        weight = (part[:, 0] * 100 + part[:, 1]).astype(np.float32)
        sorter.add(sorter.dealt(part[:, 0], part[:, 1], part[:, 2], weight=weight))
    found = list(sorter.sorted())
    for relation in range(3):
        here, there = source.places, target.places
        expected = sorted(
            (int(here.shard[s]) * 4 + int(there.shard[t]), int(here.place[s]), int(there.place[t]), s, s * 100.0 + t)
            for s, t, r in edges
            if r == relation
        )
        assert by_cell(found, relation) == expected


@pytest.mark.parametrize("at", [0, BLOCK - 1, BLOCK, 2 * BLOCK + 7, 3 * BLOCK - 1])
def test_a_place_that_no_shard_has_is_found_wherever_it_stands(at: int) -> None:
    """Of uneven cells, one of which lasts over three blocks of edges."""
    dealt = deal(IntIds(np.arange(40, dtype=np.int64)), 4)
    start = np.array([0, BLOCK // 2, 3 * BLOCK - 3, 3 * BLOCK - 1], dtype=np.int64)
    place = np.zeros(3 * BLOCK, dtype=np.uint16)
    edges = CellEdges(np.array([1, 6, 8, 15], dtype=np.int32), start, place, place.copy(), None)
    graph = ShardedGraph(4, (dealt.rows,), (edges,))
    assert list(graph.faults(((0, 0),))) == []
    cell = int(edges.cell[np.searchsorted(start, at, side="right") - 1])
    for column, shard in (("src_place", cell // 4), ("dst_place", cell % 4)):
        column_of_graph = getattr(edges, column)
        column_of_graph[at] = dealt.rows.counts[shard]
        assert [file for file, _ in graph.faults(((0, 0),))] == [f"edges/000.{column}.npy"]
        column_of_graph[at] = dealt.rows.counts[shard] - 1
        assert list(graph.faults(((0, 0),))) == []


def test_looking_for_such_places_takes_no_memory_for_all_edges() -> None:
    """Whoever trains, builds or evaluates does it first, within `memory`."""
    dealt, cells = deal(IntIds(np.arange(600, dtype=np.int64)), 4), np.arange(16, dtype=np.int32)
    place = np.zeros(16 * BLOCK, dtype=np.uint16)
    edges = CellEdges(cells, cells.astype(np.int64) * BLOCK, place, place, None)
    assert peak_bytes(lambda: list(ShardedGraph(4, (dealt.rows,), (edges,)).faults(((0, 0),)))) < 16 * BLOCK


def test_hashing_long_ids_takes_little_memory() -> None:
    table = string_ids([f"{i:0128d}" for i in range(1 << 15)])
    expected = [of_bytes(f"{i:0128d}".encode()) for i in range(0, 1 << 15, 4001)]
    assert hashes(table, 0, len(table))[::4001].tolist() == expected
    assert peak_bytes(lambda: hashes(table, 0, len(table))) < 12 * 2**20


@pytest.mark.parametrize("text", [False, True])
def test_ids_that_are_mapped_are_not_left_in_memory(tmp_path: Path, text: bool) -> None:
    """A trainer deals a graph of format 1 within `memory`."""
    ids = string_ids([f"{i:0100d}" for i in range(20_000)])
    assert isinstance(ids, StringIds)
    large = np.arange(500_000, dtype=np.int64)
    for name, array in (("offsets", ids.offsets), ("utf8", ids.utf8), ("values", large)):
        np.save(tmp_path / f"{name}.npy", array)
    mapped = {name: map_array(tmp_path / f"{name}.npy") for name in ("offsets", "utf8", "values")}
    shard_of(StringIds(mapped["offsets"], mapped["utf8"]) if text else IntIds(mapped["values"]), 256)
    for name in ("utf8",) if text else ("values",):
        assert resident_bytes(tmp_path / f"{name}.npy") == 0


def resident_bytes(file: Path) -> int:
    """Of a mapped file, what this process holds in memory."""
    pages = Path("/proc/self/smaps").read_text().split(str(file))[1]
    return next(int(line.split()[1]) * 1024 for line in pages.splitlines() if line.startswith("Rss:"))

"""Splits: draws that an edge keeps for ever, and exact order statistics without sorting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.hashing import SEED, hashes, xxh64_of_numbers, xxh64_of_strings
from bundle.ids import string_ids
from graph.schema import RandomSplit, ValidationSpec
from graph.split import (
    DRAW_BITS,
    SMALL,
    TEST,
    TRAIN,
    VALID,
    BatchedTimes,
    Draw,
    draw_bounds,
    slice_share,
    time_bounds,
    time_parts,
    value_at,
)


def batched(values: list[int]) -> BatchedTimes:
    array = np.array(values, dtype=np.int64)
    return BatchedTimes(lambda: (array[start : start + 3] for start in range(0, len(array), 3)))


def drawn(draw: Draw, source: np.ndarray, target: np.ndarray, relation: int = 0) -> np.ndarray:
    """Of edges between integer ids."""
    ends = xxh64_of_numbers(source), xxh64_of_numbers(target)
    return draw(*ends, np.full(len(source), relation, dtype=np.int32))


def xxh64(data: bytes, seed: int) -> int:
    return int(xxh64_of_strings(np.array([0, len(data)]), np.frombuffer(data, dtype=np.uint8), seed)[0])


def test_a_draw_is_the_hash_that_the_documentation_promises() -> None:
    """Each hash is the seed of the next, as Spark's `xxhash64` of several columns has it."""
    ids = string_ids(["Ελλάδα", "a"])
    source, target = hashes(ids, 0, 1), xxh64_of_numbers(np.array([2**53 + 1]))
    found = SEED
    for data in (b"7", b"likes", source.tobytes(), target.tobytes()):
        found = xxh64(data, found)
    draw = Draw.of(["follows", "likes"], False, 7)
    assert draw(source, target, np.array([1])).tolist() == [found >> (64 - DRAW_BITS)]


def test_draws_are_what_they_were() -> None:
    """A release that drew otherwise would hold out what versions of this one were trained on."""
    source, target = np.array([0, 1, 2**63 - 1]), np.array([1, 0, 42])
    assert drawn(Draw.of(["follows"], False, 1), source, target).tolist() == [
        1425914091858076,
        6983933851541231,
        2289298828003484,
    ]
    assert drawn(Draw.of(["follows"], True, 1), source, target).tolist() == [
        6983933851541231,
        6983933851541231,
        1349167317954651,
    ]


def test_both_directions_of_an_edge_have_one_draw_where_the_relation_is_symmetric() -> None:
    rng = np.random.default_rng(1)
    source, target = rng.integers(0, 2**62, 1000), rng.integers(0, 2**62, 1000)
    symmetric, directed = Draw.of(["near"], True, 1), Draw.of(["near"], False, 1)
    assert drawn(symmetric, source, target).tolist() == drawn(symmetric, target, source).tolist()
    assert not np.any(drawn(directed, source, target) == drawn(directed, target, source))


def test_draws_are_even_whatever_the_edges_are() -> None:
    """Among all, among the edges of one end, and in every shard: what decides that is a hash of the same ids."""
    number = np.arange(256_000, dtype=np.int64)
    everything = drawn(Draw.of(["r"], False, 1), number // 500, number * 8)
    hub = drawn(Draw.of(["r"], False, 1), np.full(len(number), 5), number)
    for found in (everything, hub):
        deciles = np.bincount((found * 10) >> DRAW_BITS, minlength=10)
        assert np.abs(deciles - 25_600).max() < 5 * np.sqrt(25_600)
    shard = (xxh64_of_numbers(number * 8) % np.uint64(256)).astype(np.int64)
    held_out = np.bincount(shard[everything < (1 << DRAW_BITS) // 10], minlength=256) / np.bincount(shard)
    assert np.abs(held_out - 0.1).max() < 5 * np.sqrt(0.09 / 1000)


def test_relations_and_seeds_draw_apart() -> None:
    number = np.arange(100_000, dtype=np.int64)
    first = drawn(Draw.of(["a", "b"], False, 1), number, number + 1)
    for other in (
        drawn(Draw.of(["a", "b"], False, 1), number, number + 1, relation=1),
        drawn(Draw.of(["a"], False, 2), number, number + 1),
    ):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.02


def test_how_a_random_split_divides_the_draws() -> None:
    bounds = draw_bounds(RandomSplit(by="random", fraction=0.25), 10)
    assert bounds is not None
    eighth = (1 << DRAW_BITS) // 8
    draws = np.array([0, 2 * eighth - 1, 2 * eighth, 7 * eighth - 1, 7 * eighth, 8 * eighth - 1])
    assert bounds.parts(draws).tolist() == [TEST, TEST, TRAIN, TRAIN, VALID, VALID]


@given(st.floats(0.01, 0.5), st.floats(0.01, 0.5), st.integers(0, 2**DRAW_BITS - 1))
def test_no_fraction_turns_what_is_tested_into_what_is_learnt_from(first: float, second: float, draw: int) -> None:
    parts = set()
    for split in (
        RandomSplit(by="random", fraction=first),
        RandomSplit(by="random", fraction=second),
        ValidationSpec(),
    ):
        bounds = draw_bounds(split, 5000)
        assert bounds is not None
        parts |= set(bounds.parts(np.array([draw])).tolist())
    assert not {TEST, VALID} <= parts


@pytest.mark.parametrize(
    ("edges", "fraction", "share"),
    [
        (999, 0.02, 0),
        (1000, 0.02, 0.1),
        (10_000, 0.02, 0.05),
        (100_000, 0.02, 0.02),
        (10**7, 0.02, 0.005),
        (5000, 0.0, 0),
    ],
)
def test_how_large_a_slice_is(edges: int, fraction: float, share: float) -> None:
    assert slice_share(edges, fraction) == pytest.approx(share)


@given(st.integers(SMALL, 10**8), st.integers(0, 10**8), st.floats(0.001, 0.5))
def test_a_slice_of_more_edges_is_no_larger_share_of_them(edges: int, more: int, fraction: float) -> None:
    """So what a grown graph holds out of its earlier edges was held out before."""
    before, after = (draw_bounds(ValidationSpec(fraction=fraction), count) for count in (edges, edges + more))
    assert before is not None
    assert after is not None
    assert after.valid_from >= before.valid_from


int64s = st.integers(-(2**63), 2**63 - 1)


@settings(deadline=None)
@given(st.lists(int64s | st.integers(-3, 3) | st.integers(10**6, 10**6 + 10**5), min_size=1, max_size=30), st.data())
def test_value_at_agrees_with_sorting(values: list[int], data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, len(values) - 1))
    found = sorted(values)[rank]
    assert value_at(batched(values), rank) == (found, sum(value < found for value in values))


def test_edges_of_one_time_stay_together() -> None:
    times = [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]
    bounds = time_bounds(batched(times), len(times), 0.2)
    assert bounds is not None
    assert time_parts(np.array(times), bounds).tolist() == [TRAIN] * 6 + [VALID] + [TEST] * 3


def test_too_few_edges_to_hold_any_out() -> None:
    assert time_bounds(batched([3, 1, 2]), 3, 0.1) is None

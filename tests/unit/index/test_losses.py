"""What fewer bytes lose: points for the version's own code and others, in order, right at both ends."""

import numpy as np

from index.builder.compression import compress
from index.builder.devices import CPU
from index.builder.losses import LEAST_ROWS, NEAREST, LossMeter


def _vectors(n: int, dim: int = 16) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (rng.normal(size=(n, 6)) @ rng.normal(size=(6, dim)) + rng.normal(0, 0.1, (n, dim))).astype(np.float32)


def test_each_size_is_measured_once_and_the_one_taken_is_marked() -> None:
    vectors = _vectors(2000)
    taken = compress(vectors, 4, rotated=False, training_vectors=2000, rng=np.random.default_rng(1))
    points = LossMeter.of(vectors, rotated=False, seed=1, device=CPU).measure(taken)
    told = [(one.kind, one.bytes_per_vector, one.taken) for one in points]
    assert told == [
        ("float16", 32.0, False),
        ("int8", 20.0, False),  # sixteen numbers and the step of the row
        ("pq", 8.0, False),
        ("pq", 4.0, True),
        ("pq", 2.0, False),
        ("pq", 1.0, False),
    ]
    for measure in ([one.neighbours for one in points], [one.cosine for one in points]):
        assert measure == sorted(measure, reverse=True)
    assert points[0].cosine > 0.9999
    assert points[0].neighbours > 0.95
    own = next(one for one in points if one.taken)
    assert abs(own.cosine - taken.cosine) < 1e-4  # all rows are in the sample


def test_neighbours_are_counted_against_an_exact_search() -> None:
    vectors = _vectors(LEAST_ROWS)
    taken = compress(vectors, 2, rotated=False, training_vectors=1000, rng=np.random.default_rng(1))
    meter = LossMeter.of(vectors, rotated=False, seed=3, device=CPU)
    true, decoded = vectors[meter.rows], taken.quantizer.decode(taken.codes[meter.rows])
    shared = []
    for i in range(250):
        lists = []
        for table in (true, decoded):
            scores = table @ true[i]
            scores[i] = -np.inf
            lists.append({*np.argsort(-scores)[:NEAREST].tolist()})
        shared.append(len(lists[0] & lists[1]) / NEAREST)
    own = next(one for one in meter.measure(taken) if one.taken)
    assert abs(own.neighbours - float(np.mean(shared))) < 0.002  # sums of float32 in another order may tie apart


def test_of_few_vectors_and_of_numbers_past_float16_nothing_wrong_is_said() -> None:
    few = _vectors(LEAST_ROWS - 1)
    taken = compress(few, 4, rotated=False, training_vectors=500, rng=np.random.default_rng(1))
    assert LossMeter.of(few, rotated=False, seed=1, device=CPU).measure(taken) == ()
    large = _vectors(LEAST_ROWS) * np.float32(1e6)
    taken = compress(large, 4, rotated=True, training_vectors=1000, rng=np.random.default_rng(1))
    points = LossMeter.of(large, rotated=True, seed=1, device=CPU).measure(taken)
    assert "float16" not in {one.kind for one in points}
    assert all(0 <= one.neighbours <= 1 for one in points)

"""What fewer bytes of a vector lose: a few sizes of code, and rows of whole and half numbers, measured on a sample.

A version has one of these codes; what the others would have lost is what somebody wants to know who chooses.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64

from bundle.manifest import CompressionPoint
from bundle.rows import LARGEST_HALF, CompactKind, CompactRows, encoded
from index.builder.compression import FLOAT_BYTES, Compression, compress, mean_cosine
from index.builder.devices import Device

Vectors = Float32[npt.NDArray[np.float32], "_ d"]
# Times smaller than float32. Rows of whole numbers are 4 times smaller, and learning a code of that size takes longer
# than learning all of these.
RATIOS = (8, 16, 32, 64)
# Of fewer vectors no code saves anything that is worth a question.
LEAST_ROWS = 1000
SAMPLE_ROWS, TRAINING_ROWS = 16_384, 8_192
QUERIES, NEAREST = 250, 10


class _Form(NamedTuple):
    """The sample as it is read back from fewer bytes."""

    kind: Literal["pq"] | CompactKind
    bytes_per_vector: float
    read_back: Vectors
    taken: bool = False


@dataclass(frozen=True, slots=True)
class LossMeter:
    """Measures on `rows` of the vectors [n, d]: learns other codes there, on `device`, with a rotation if asked."""

    vectors: Vectors
    rows: Int64[npt.NDArray[np.int64], " sampled"]
    rotated: bool
    seed: int
    device: Device

    @classmethod
    def of(cls, vectors: Vectors, *, rotated: bool, seed: int, device: Device) -> "LossMeter":
        """A meter on rows drawn by `seed`."""
        # Of very many rows this draws some, and never holds all.
        rows = np.random.default_rng(seed).choice(len(vectors), min(SAMPLE_ROWS, len(vectors)), replace=False)
        return cls(vectors, rows, rotated, seed, device)

    def measure(self, taken: Compression) -> tuple[CompressionPoint, ...]:
        """The points by falling bytes, that of the code `taken` among them; none for few vectors.

        Each has the mean cosine to what is read back, and the mean share of a vector's ten nearest in the sample, by
        inner product, that are still among the ten nearest.
        """
        if len(self.vectors) < LEAST_ROWS:
            return ()
        true = np.ascontiguousarray(self.vectors[self.rows])
        truth = _nearest(true[:QUERIES], true)
        points = [_point(form, true, truth) for form in self._forms(true, taken)]
        return tuple(sorted(points, key=lambda one: (-one.bytes_per_vector, one.kind)))

    def _forms(self, true: Vectors, taken: Compression) -> Iterator[_Form]:
        dim = true.shape[1]
        for kind in ("float16", "int8"):
            if kind == "int8" or np.abs(true).max() <= LARGEST_HALF:
                rows = CompactRows(encoded(true, kind, dim), kind, dim, dim)
                yield _Form(kind, rows.nbytes / len(rows), rows[:])
        own = int(taken.codes.shape[1])
        yield _Form("pq", own, taken.quantizer.decode(taken.codes[self.rows]), taken=True)
        for parts in sorted({_parts(dim, ratio) for ratio in RATIOS} - {own}):
            made = compress(
                true,
                parts,
                rotated=self.rotated,
                training_vectors=TRAINING_ROWS,
                rng=np.random.default_rng(self.seed),
                device=self.device,
            )
            yield _Form("pq", parts, made.quantizer.decode(made.codes))


def _parts(dim: int, ratio: int) -> int:
    """The parts that divide `dim` and come nearest a ratio."""
    divisors = [parts for parts in range(1, dim + 1) if dim % parts == 0]
    return min(divisors, key=lambda parts: abs(np.log(FLOAT_BYTES * dim / parts / ratio)))


def _point(form: _Form, true: Vectors, truth: npt.NDArray[np.int64]) -> CompressionPoint:
    found = _nearest(true[:QUERIES], form.read_back)
    shared = [len(np.intersect1d(a, b)) / truth.shape[1] for a, b in zip(truth, found, strict=True)]
    return CompressionPoint(
        kind=form.kind,
        bytes_per_vector=form.bytes_per_vector,
        cosine=round(mean_cosine(true, form.read_back), 5),
        neighbours=round(float(np.mean(shared)), 5),
        taken=form.taken,
    )


def _nearest(queries: Vectors, vectors: Vectors) -> Int64[npt.NDArray[np.int64], "queries nearest"]:
    """The rows with the greatest inner products; query i is row i, which is not its own neighbour."""
    scores = queries @ vectors.T
    own = np.arange(len(queries))
    scores[own, own] = -np.inf
    return np.argpartition(-scores, NEAREST, axis=1)[:, :NEAREST]

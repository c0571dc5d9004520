"""What is learnt: tables of entity vectors, relation vectors, and the optimiser's state beside each."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

F32 = npt.NDArray[np.float32]
FORWARD, INVERSE = 0, 1


@dataclass(frozen=True, slots=True)
class EmbeddingTable:
    """Vectors of the entities of one type in one partition, changed in place, with row-wise Adagrad's state.

    `previous` holds the vectors of the version before, where an L2 pull towards them is asked for.
    """

    vectors: Float32[F32, "n d"]
    accumulator: Float32[F32, " n"]
    previous: Float32[F32, "n d"] | None = None

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, slots=True)
class Relations:
    """Relation vectors: [:, 0] translate a source that looks for targets, [:, 1] a target that looks for sources."""

    vectors: Float32[F32, "r 2 d"]
    accumulator: Float32[F32, "r 2 d"]


def random_table(n: int, dim: int, scale: float, rng: np.random.Generator) -> EmbeddingTable:
    """A new table: each coordinate is normal with deviation scale/sqrt(dim), so lengths are about `scale`."""
    vectors = rng.standard_normal((n, dim), dtype=np.float32)
    vectors *= np.float32(scale / np.sqrt(dim))
    return EmbeddingTable(vectors, np.zeros(n, dtype=np.float32))


def zero_relations(count: int, dim: int) -> Relations:
    """New relation vectors: no translation yet."""
    shape = (count, 2, dim)
    return Relations(np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32))

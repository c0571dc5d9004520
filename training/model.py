"""TransE with a dot product: what is learnt, an edge's score (eq. 1), its loss (eq. 2), their gradient, and the step.

This file is the definition, for one edge at a time and in plain NumPy. The compiled kernel (`backends/kernel/step.cpp`)
and torch (`backends/torch_step.py`) do the same to thousands of edges at once; the tests judge both by it.

Every array that training holds, for a partition of n entities of one type, r relations, d = `dim`, a bucket's e edges
between one pair of types, and a chunk of b edges with k negatives in each direction:

| array                                  | shape       | type    | what                                             |
|----------------------------------------|-------------|---------|--------------------------------------------------|
| `EmbeddingTable.vectors`               | [n, d]      | float32 | θ of each entity                                 |
| `EmbeddingTable.accumulator`           | [n]         | float32 | row-wise Adagrad: sum of mean squared gradients  |
| `EmbeddingTable.previous`              | [n, d]      | float32 | where `l2_previous` pulls; else None             |
| `Relations.vectors`                    | [r, 2, d]   | float32 | θr [:, 0] and θr' [:, 1]                         |
| `Relations.accumulator`                | [r, 2, d]   | float32 | Adagrad: sum of squared gradients                |
| `Partitioning.part`, `.local`          | [all rows]  | uint16, int32 | a row's partition, and its place there     |
| `BucketEdges.src`, `.dst`, `.rel`      | [e]         | int32   | edges by source; rows within the partitions      |
| `BucketEdges.weight`                   | [e]         | float32 | mean 1 in each relation; None: all 1             |
| `Adjacency.offsets`                    | [n + 1]     | int64   | where a row's neighbours begin                   |
| `Adjacency.neighbour`, `.relation`     | [e]         | int32   | the true pairs, which are no negatives           |
| `Schedule.order`                       | [e]         | int32   | the edges of a group, shuffled                   |
| `Schedule.group`, `.start`             | [chunks]    | int32, int64 | a chunk's group, and where in its order     |
| `Chunk.src`, `.dst`, `.rel`, `.weight` | [b]         | int32, float32 | edges that share negatives                |
| `Chunk.negative_targets`, `…_sources`  | [k]         | int32   | rows that stand in for the true end              |
| scores of a chunk, one direction       | [b, k]      | float32 | in torch [c, b, k] for c chunks of one update    |
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Float32

F32 = npt.NDArray[np.float32]
Reals = npt.NDArray[np.floating]
FORWARD, INVERSE = 0, 1
EPSILON = 1e-10


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


def score(
    source: Float[Reals, "*s d"], relation: Float[Reals, " d"], target: Float[Reals, "*t d"]
) -> Float[Reals, "*k"]:
    """Eq. 1: f(s, r, t) = (θs + θr)ᵀ θt, for one edge, or for many sources or targets."""
    scores: Reals = ((source + relation) * target).sum(-1)
    return scores


def softmax_loss(scores: Float[Reals, " k"]) -> tuple[float, Float[Reals, " k"]]:
    """-log of the first score's share in the softmax of all, and its slope by each score: the share, less 1 for it."""
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    slopes = shares.copy()
    slopes[0] -= 1
    return -float(np.log(shares[0])), slopes


def logistic_loss(scores: Float[Reals, " k"]) -> tuple[float, Float[Reals, " k"]]:
    """Eq. 2 negated, -log σ(f) of the true edge and -log σ(-f) of each false one, and its slope by each score.

    An edge's loss has two directions and eq. 2 one term for the true edge, so half of that belongs to each.
    """
    slopes = 1 / (1 + np.exp(-scores))
    loss = 0.5 * np.log1p(np.exp(-scores[0])) + np.log1p(np.exp(scores[1:])).sum()
    slopes[0] = 0.5 * (slopes[0] - 1)
    return float(loss), slopes


LOSSES = {"softmax": softmax_loss, "logistic": logistic_loss}


@dataclass(frozen=True, slots=True)
class DirectionGradient:
    """The loss of one edge in one direction, and its derivatives; `candidates` are the true end, then the negatives."""

    loss: float
    end: Float[Reals, " d"]
    relation: Float[Reals, " d"]
    candidates: Float[Reals, "k d"]


def rank(
    end: Float[Reals, " d"], relation: Float[Reals, " d"], candidates: Float[Reals, "k d"], loss: str
) -> DirectionGradient:
    """Rank candidates by (end + relation)ᵀ candidate: targets for θs and θr, or sources for θt and θr'.

    By the chain rule, with ∂f/∂end = ∂f/∂relation = candidate and ∂f/∂candidate = end + relation.
    """
    value, slopes = LOSSES[loss](score(end, relation, candidates))
    pull = slopes @ candidates
    return DirectionGradient(value, pull, pull, np.outer(slopes, end + relation))


def rank_sources_by_one_vector(
    end: Float[Reals, " d"], relation: Float[Reals, " d"], candidates: Float[Reals, "k d"], loss: str
) -> DirectionGradient:
    """Rank sources by eq. 1 as it stands, (candidate + θr)ᵀ θt (`inverse_relations = false`).

    θrᵀθt is the same for all of them, so a softmax gives θr no gradient here; eq. 2, of absolute scores, does.
    """
    value, slopes = LOSSES[loss](score(candidates, relation, end))
    return DirectionGradient(value, slopes @ (candidates + relation), slopes.sum() * end, np.outer(slopes, end))


def adagrad(vector: Float[Reals, " d"], state: Float[Reals, " d"], gradient: Float[Reals, " d"], rate: float) -> None:
    """Adagrad, of a relation vector: θ -= rate · g / sqrt(Σ g²), each coordinate for itself. In place."""
    state += gradient**2
    vector -= rate * gradient / (np.sqrt(state) + EPSILON)


def adagrad_row(
    table: EmbeddingTable,
    row: int,
    gradient: Float[Reals, " d"],
    rate: float,
    l2: float = 0.0,
    l2_previous: float = 0.0,
) -> None:
    """Row-wise Adagrad, of an entity: θ -= rate · g / sqrt(Σ mean g²), one number of state a row. In place.

    g is an update's whole gradient of the row, with that of l2·‖θ‖² and of l2_previous·‖θ - θ_prev‖².
    """
    vector = table.vectors[row]
    gradient = gradient + 2 * l2 * vector
    if table.previous is not None:
        gradient = gradient + 2 * l2_previous * (vector - table.previous[row])
    table.accumulator[row] += np.mean(gradient**2)
    vector -= rate * gradient / (np.sqrt(table.accumulator[row]) + EPSILON)

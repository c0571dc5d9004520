"""The vectors that scores are made of: float32 as they are, or rows of fewer bytes, decoded when they are read.

`float16` rounds every number to half precision. `int8` keeps an embedding as codes, the nearest whole numbers of 127ths
of the row's largest coordinate, and after them the columns of the target's side and that 127th in float32.
docs/bundle-format.md describes the arrays; `engine/src/rows.cpp` reads the same.
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

CompactKind = Literal["float16", "int8"]
Floats = Float32[npt.NDArray[np.float32], "n width"]
FLOAT_BYTES = 4
MOST = 127
# Beyond this float16 has no number.
LARGEST_HALF = float(np.finfo(np.float16).max)
# Whoever keeps numbers of this size in bytes keeps none of them.
NOTHING = np.float32(1e-35)


@dataclass(frozen=True, slots=True)
class CompactRows:
    """Rows of `width` numbers in fewer bytes than float32; indexed and taken from like an array, they are float32.

    `stored` is float16 [n, width], or uint8 [n, dim + 4 · (width − dim + 1)] where an embedding has `dim` columns.
    """

    stored: npt.NDArray[Any]
    kind: CompactKind
    dim: int
    width: int

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and the numbers that each has."""
        return len(self.stored), self.width

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return int(self.stored.nbytes)

    def __getitem__(self, which: Any) -> npt.NDArray[np.float32]:
        """The rows of an index, a slice or an array of numbers, decoded."""
        part = self.stored[which]
        if self.kind == "float16":
            halves: npt.NDArray[np.float32] = part.astype(np.float32)
            return halves
        tail = np.ascontiguousarray(part[..., self.dim :]).view("<f4")
        out = np.empty((*part.shape[:-1], self.width), dtype=np.float32)
        np.multiply(part[..., : self.dim].view(np.int8), tail[..., -1:], out=out[..., : self.dim], dtype=np.float32)
        out[..., self.dim :] = tail[..., :-1]
        return out

    def take(self, rows: npt.NDArray[np.integer], axis: Literal[0] = 0) -> Floats:
        """The rows of these numbers, decoded."""
        return self[rows]


# What scores are made of: both are asked for `len`, `shape`, `take` and parts.
ScoredRows: TypeAlias = npt.NDArray[np.float32] | CompactRows


def stored_columns(kind: CompactKind, dim: int, width: int) -> tuple[npt.DTypeLike, int]:
    """Type and columns of the array that keeps rows of `width` numbers, the first `dim` of them an embedding."""
    return (
        (np.dtype("<f2"), width) if kind == "float16" else (np.dtype(np.uint8), dim + FLOAT_BYTES * (width - dim + 1))
    )


def encoded(vectors: Floats, kind: CompactKind, dim: int) -> npt.NDArray[Any]:
    """The array that keeps `vectors`. float16 needs numbers of at most LARGEST_HALF."""
    if kind == "float16":
        return vectors.astype("<f2")
    embeddings, width = vectors[:, :dim], vectors.shape[1]
    scale = (np.abs(embeddings).max(axis=1, initial=0.0) / np.float32(MOST)).astype(np.float32)
    # Of numbers so small that the scale has none, nothing is left.
    inverse = np.divide(np.float32(1.0), scale, out=np.zeros_like(scale), where=scale >= np.finfo(np.float32).tiny)
    made = np.empty((len(vectors), stored_columns(kind, dim, width)[1]), dtype=np.uint8)
    codes = np.clip(np.rint(embeddings * inverse[:, None]), -MOST, MOST)
    made[:, :dim] = codes.astype(np.int8).view(np.uint8)
    tail = np.column_stack([vectors[:, dim:], scale]).astype("<f4")
    made[:, dim:] = tail.view(np.uint8).reshape(len(vectors), made.shape[1] - dim)
    return made


def furthest_apart(compact: CompactRows, vectors: Floats, first: int, stop: int) -> float:
    """By how many of the steps that its form allows a row of `first` to `stop` differs at most from its vector.

    A half is what rounding does; NaN where the rows hold what is no number.
    """
    kept, decoded = vectors[first:stop], compact[first:stop]
    apart = np.abs(decoded - kept)
    if compact.kind == "float16":
        step = np.maximum(np.abs(kept), np.float32(2.0**-14)) * np.float32(2.0**-10)
    else:
        step = np.broadcast_to(np.abs(kept[:, : compact.dim]).max(axis=1, keepdims=True) / MOST, kept.shape).copy()
        step[:, compact.dim :] = np.abs(kept[:, compact.dim :]) * np.float32(1e-6)
    return float((apart / np.maximum(step, NOTHING)).max(initial=0.0))


def in_units(
    scored: ScoredRows, rows: npt.NDArray[np.integer], dim: int
) -> tuple[Float32[npt.NDArray[np.float32], "n dim"], Float32[npt.NDArray[np.float32], " n"] | None]:
    """The embeddings of some rows, each in units of its own: row i is `factors[i] · numbers[i]`, without factors the
    numbers as they are. Whoever multiplies many rows with few vectors multiplies by the factors last, and fewer."""
    if isinstance(scored, CompactRows) and scored.kind == "int8":
        part = scored.stored.take(rows, axis=0)
        factors = np.ascontiguousarray(part[:, -FLOAT_BYTES:]).view("<f4")[:, 0]
        return part[:, :dim].view(np.int8).astype(np.float32), factors
    taken = scored.take(rows, axis=0)
    return taken[:, :dim], None

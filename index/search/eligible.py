"""Which rows may be answered: a packed bitmap, bit `i & 7` (least significant first) of byte `i >> 3` for row i."""

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int64, Integer, UInt8

from bundle.errors import QueryError

Bitmap = UInt8[npt.NDArray[np.uint8], " bytes"]


def pack(mask: Bool[npt.NDArray[np.bool_], " n"]) -> Bitmap:
    """The bitmap of a mask with one truth value a row."""
    return np.packbits(mask, bitorder="little")


def check_bitmap(bitmap: Bitmap, n: int) -> Bitmap:
    """The bitmap as contiguous bytes. Raises QueryError when it is none of `n` rows: a library would read past it."""
    if bitmap.dtype != np.uint8 or bitmap.shape != ((n + 7) // 8,):
        found = "×".join(str(size) for size in bitmap.shape)
        raise QueryError(f"the bitmap is {bitmap.dtype} {found}; {n} rows need uint8 {(n + 7) // 8}.")
    if n % 8 and bitmap[-1] >> (n % 8):
        raise QueryError(f"the bitmap names rows past the last of {n}.")
    return np.ascontiguousarray(bitmap)


def mask_of(bitmap: Bitmap, n: int) -> Bool[npt.NDArray[np.bool_], " n"]:
    """One truth value for each of `n` rows: what `pack` packed."""
    return np.unpackbits(bitmap, count=n, bitorder="little").view(np.bool_)


def both(one: Bitmap, other: Bitmap | None) -> Bitmap:
    """The rows that are in both; `one` itself where there is no other, or the other is the same array."""
    return one if other is None or other is one else one & other


def count_of(bitmap: Bitmap) -> int:
    """How many rows are eligible."""
    return int(np.bitwise_count(bitmap).sum(dtype=np.int64))


def has(bitmap: Bitmap, rows: Integer[npt.NDArray[np.integer], " found"]) -> Bool[npt.NDArray[np.bool_], " found"]:
    """Whether each of `rows`, which exist, is eligible."""
    bits: npt.NDArray[np.bool_] = (bitmap[rows >> 3] >> (rows & 7).astype(np.uint8) & 1).astype(np.bool_)
    return bits


def rows_of(bitmap: Bitmap, first: int = 0, stop: int | None = None) -> Int64[npt.NDArray[np.int64], " eligible"]:
    """The eligible rows from `first`, a multiple of 8, to before `stop`, ascending."""
    part = bitmap[first >> 3 : None if stop is None else (stop + 7) >> 3]
    # Of a small share most bytes are empty: only the others are unpacked.
    filled = np.flatnonzero(part)
    bits = np.flatnonzero(np.unpackbits(part[filled], bitorder="little"))
    rows: npt.NDArray[np.int64] = first + 8 * filled[bits >> 3] + (bits & 7)
    return rows if stop is None else rows[: np.searchsorted(rows, stop)]

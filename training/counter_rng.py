"""Random numbers by counter: every draw is a function of (seed, position), so a resumed run repeats them exactly.

SplitMix64 (Steele, Lea and Flood 2014). The compiled kernel holds the same few lines in C++.
"""

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64, UInt64

F32 = npt.NDArray[np.float32]
U64 = np.uint64
GOLDEN = 0x9E3779B97F4A7C15
MASK32, MASK64 = (1 << 32) - 1, (1 << 64) - 1


def mix(value: int) -> int:
    """Finalise one 64-bit state: SplitMix64's output function."""
    value &= MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK64
    return value ^ (value >> 31)


def stream_seed(*parts: int) -> int:
    """One 64-bit seed from any number of integers, such as (seed, epoch, bucket, chunk)."""
    state = 0
    for part in parts:
        state = mix(state + GOLDEN * (part + 1))
    return state


def draws(seed: int, start: int, count: int) -> UInt64[npt.NDArray[np.uint64], " count"]:
    """The `count` 64-bit draws of stream `seed` from position `start`."""
    return draws_at(seed, np.arange(start, start + count, dtype=np.uint64))


def draws_at(seed: int, positions: UInt64[npt.NDArray[np.uint64], " k"]) -> UInt64[npt.NDArray[np.uint64], " k"]:
    """The 64-bit draws of stream `seed` at any positions."""
    state = U64(seed) + (positions + U64(1)) * U64(GOLDEN)
    state = (state ^ (state >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> U64(27))) * U64(0x94D049BB133111EB)
    return state ^ (state >> U64(31))


def normals_at(seed: int, rows: Int64[npt.NDArray[np.int64], " m"], dim: int) -> Float32[F32, "m dim"]:
    """Standard normal vectors that are functions of (seed, row) alone, by Box and Muller's transform."""
    half = (dim + 1) // 2
    positions = np.add.outer(rows * half, np.arange(half)).astype(U64)
    bits = draws_at(seed, positions.ravel()).reshape(len(rows), half)
    radius = np.sqrt(-2 * np.log(((bits >> U64(32)) + U64(1)).astype(np.float32) * np.float32(2**-32)))
    angle = (bits & U64(MASK32)).astype(np.float32) * np.float32(2 * np.pi * 2**-32)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :dim]


def below(bits: UInt64[npt.NDArray[np.uint64], " k"], bound: int) -> Int32[npt.NDArray[np.int32], " k"]:
    """Map 64-bit draws to 0 … bound - 1 by the high half of a product; `bound` < 2^31."""
    return (((bits >> U64(32)) * U64(bound)) >> U64(32)).astype(np.int32)

"""Random numbers by counter: every draw is a function of (seed, position), so a resumed run repeats them exactly.

SplitMix64 (Steele, Lea and Flood 2014). The compiled kernel holds the same few lines in C++.
"""

import numpy as np
import numpy.typing as npt
from jaxtyping import Int32, UInt64

U64 = np.uint64
GOLDEN = 0x9E3779B97F4A7C15
MASK64 = (1 << 64) - 1


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
    counters = np.arange(start + 1, start + count + 1, dtype=U64)
    state = U64(seed) + counters * U64(GOLDEN)
    state = (state ^ (state >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> U64(27))) * U64(0x94D049BB133111EB)
    return state ^ (state >> U64(31))


def below(bits: UInt64[npt.NDArray[np.uint64], " k"], bound: int) -> Int32[npt.NDArray[np.int32], " k"]:
    """Map 64-bit draws to 0 … bound - 1 by the high half of a product; `bound` < 2^31."""
    return (((bits >> U64(32)) * U64(bound)) >> U64(32)).astype(np.int32)

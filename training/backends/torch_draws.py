"""The counter-based draws of `training.counter_rng` on a torch device: the same numbers to the bit, signed."""

import torch
from jaxtyping import Int64
from torch import Tensor

from training.counter_rng import GOLDEN, mix

HALF = 1 << 63


def signed(value: int) -> int:
    """The int64 with the same 64 bits as the unsigned `value`."""
    value &= 2 * HALF - 1
    return value - 2 * HALF if value >= HALF else value


FIRST, SECOND, STEP = signed(0xBF58476D1CE4E5B9), signed(0x94D049BB133111EB), signed(GOLDEN)


def _shift(bits: Int64[Tensor, "*n"], by: int) -> Int64[Tensor, "*n"]:
    """Shift right and fill with zeros; torch's own shift repeats the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _mix(state: Int64[Tensor, "*n"]) -> Int64[Tensor, "*n"]:
    state = (state ^ _shift(state, 30)) * FIRST
    state = (state ^ _shift(state, 27)) * SECOND
    return state ^ _shift(state, 31)


def chunk_seeds(seed: int, positions: Int64[Tensor, " c"]) -> Int64[Tensor, " c"]:
    """`stream_seed(seed, position)` for every position."""
    return _mix((positions + 1) * STEP + signed(mix(GOLDEN * (seed + 1))))


def draws(seeds: Int64[Tensor, " c"], count: int) -> Int64[Tensor, "c count"]:
    """The first `count` draws of every stream."""
    counters = torch.arange(1, count + 1, device=seeds.device)
    return _mix(seeds[:, None] + counters * STEP)


def below(bits: Int64[Tensor, "*n"], bound: int) -> Int64[Tensor, "*n"]:
    """Map draws to 0 … bound - 1; `bound` < 2^31, so that the product stays below 2^63."""
    return (_shift(bits, 32) * bound) >> 32

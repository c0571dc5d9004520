"""XXH64 of external ids, many at a time: the hash that deals entities into shards, and the one that Spark computes.

Spark's `xxhash64` of a long is XXH64, seed 42, of its eight little-endian bytes; of a string, of its UTF-8.
Specification: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
"""

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64, UInt8, UInt64

from bundle.ids import IdTable, IntIds, StringIds

SEED = 42
U64 = npt.NDArray[np.uint64]
_PRIMES = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
P1, P2, P3, P4, P5 = map(np.uint64, _PRIMES)
_MASK = 2**64 - 1
# Ids that are hashed at a time.
BLOCK = 1 << 17
# Numbers that are: each step goes over all of them, and they stay in a core's cache meanwhile.
_IN_CACHE = 1 << 13
# Bytes of text that are: each has its place, a number of 64 bits, in memory meanwhile.
TEXT_BYTES = 1 << 19


def hashes(ids: IdTable, start: int, stop: int) -> UInt64[U64, " n"]:
    """XXH64 of the ids in rows start … stop. Raises TypeError for a table that is neither of numbers nor of text."""
    if isinstance(ids, IntIds):
        return xxh64_of_numbers(ids.values[start:stop])
    if isinstance(ids, StringIds):
        return xxh64_of_strings(ids.offsets[start : stop + 1], ids.utf8)
    raise TypeError("ids are numbers or text")


def xxh64_of_numbers(
    values: Int64[npt.NDArray[np.int64], " n"], seed: int | UInt64[U64, " n"] = SEED
) -> UInt64[U64, " n"]:
    """XXH64 of each number's eight little-endian bytes, with one seed or one for each."""
    hashed = np.full(len(values), np.uint64(seed & _MASK)) if isinstance(seed, int) else seed.copy()
    for start in range(0, len(values), _IN_CACHE):
        here = slice(start, start + _IN_CACHE)
        hashed[here] += P5 + np.uint64(8)
        _take_word(hashed[here], values[here].astype("<u8"))
        _mix(hashed[here])
    return hashed


def xxh64_of_text(text: str, seed: int = SEED) -> int:
    """XXH64 of a text's UTF-8."""
    utf8 = np.frombuffer(text.encode(), dtype=np.uint8)
    return int(xxh64_of_strings(np.array([0, len(utf8)]), utf8, seed)[0])


def xxh64_of_strings(
    offsets: Int64[npt.NDArray[np.int64], " n_plus_1"], utf8: UInt8[npt.NDArray[np.uint8], " total"], seed: int = SEED
) -> UInt64[U64, " n"]:
    """XXH64 of each string `utf8[offsets[i]:offsets[i + 1]]`; those of one length are hashed together."""
    lengths = np.diff(offsets)
    result = np.empty(len(lengths), dtype=np.uint64)
    order = np.argsort(lengths, kind="stable")
    distinct, first = np.unique(lengths[order], return_index=True)
    for length, alike in zip(distinct.tolist(), np.split(order, first[1:]), strict=True):
        step = max(1, TEXT_BYTES // max(1, length))
        for start in range(0, len(alike), step):
            members = alike[start : start + step]
            text = utf8[offsets[members][:, None] + np.arange(length)]
            result[members] = _of_one_length(text, seed)
    return result


def _of_one_length(text: UInt8[npt.NDArray[np.uint8], "n length"], seed: int) -> U64:
    n, length = text.shape
    stripes = length - length % 32
    if not stripes:
        start = np.full(n, np.uint64((seed + int(P5)) & _MASK))
    else:
        seeds = (seed + int(P1) + int(P2), seed + int(P2), seed, seed - int(P1))
        lanes = [np.full(n, np.uint64(each & _MASK)) for each in seeds]
        words = np.ascontiguousarray(text[:, :stripes]).view("<u8")
        for word in range(words.shape[1]):
            lanes[word % 4] = _round(lanes[word % 4], words[:, word])
        start = sum(
            (_rotated(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)), np.zeros(n, np.uint64)
        )
        for lane in lanes:
            start = (start ^ _round(np.zeros(n, np.uint64), lane)) * P1 + P4
    return _tail(start + np.uint64(length), text[:, stripes:])


def _tail(state: U64, rest: UInt8[npt.NDArray[np.uint8], "n rest"]) -> U64:
    """Take in the last bytes, fewer than 32, and mix."""
    at, length = 0, rest.shape[1]
    while length - at >= 8:
        _take_word(state, np.ascontiguousarray(rest[:, at : at + 8]).view("<u8")[:, 0])
        at += 8
    if length - at >= 4:
        half = np.ascontiguousarray(rest[:, at : at + 4]).view("<u4")[:, 0].astype(np.uint64)
        state = _rotated(state ^ (half * P1), 23) * P2 + P3
        at += 4
    for place in range(at, length):
        state = _rotated(state ^ (rest[:, place].astype(np.uint64) * P5), 11) * P1
    _mix(state)
    return state


def _take_word(state: U64, word: U64) -> None:
    """Take eight bytes into each state, in place; `word` is lost."""
    word *= P2
    _rotate(word, 31)
    word *= P1
    state ^= word
    _rotate(state, 27)
    state *= P1
    state += P4


def _mix(state: U64) -> None:
    """The last step of all, in place."""
    for by, prime in ((33, P2), (29, P3)):
        state ^= state >> np.uint64(by)
        state *= prime
    state ^= state >> np.uint64(32)


def _rotate(values: U64, by: int) -> None:
    low = values >> np.uint64(64 - by)
    values <<= np.uint64(by)
    values |= low


def _round(lane: U64, word: U64) -> U64:
    return _rotated(lane + word * P2, 31) * P1


def _rotated(values: U64, by: int) -> U64:
    return (values << np.uint64(by)) | (values >> np.uint64(64 - by))

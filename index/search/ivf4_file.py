"""The file of an `ivf4` index, read in NumPy: the judge of the compiled search, and its stand-in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64, UInt8

from bundle.errors import BundleInvalid
from index.search.projection import QueryProjection

MAGIC = b"TWIVF4\0\1"
HEADER_BYTES = 64
ROWS_A_BLOCK = 16
COLUMNS_A_GROUP = 8
CENTRE = 7.5
FIRST_ROWS = 6
WIDER = 4
# What the manifest calls depth is a whole number: of hundredths of a standard deviation.
DEPTH_UNIT = 100.0

Mapped = Float32[npt.NDArray[np.float32], " held"]


def layout(held: int, lists: int, blocks: int) -> dict[str, int]:
    """The offset of every part of the file by name, `end` being its length."""
    wide_lists = -(-lists // ROWS_A_BLOCK) * ROWS_A_BLOCK
    sizes = {"lowest": 4 * held, "step": 4 * held, "scale": 4 * held, "variance": 4 * held, "spread": 4 * wide_lists}
    sizes |= {"first_block": 4 * (lists + 1), "centroids": wide_lists * held}
    sizes |= {"blocks": blocks * 64 * (held // COLUMNS_A_GROUP + 1), "end": 0}
    offsets, at = {}, HEADER_BYTES
    for name, size in sizes.items():
        offsets[name] = at
        at += -(-size // 64) * 64
    return offsets


@dataclass(frozen=True, slots=True)
class Ivf4File:
    """The parts of a file, decoded where they are small and mapped where they are not."""

    lowest: Mapped
    step: Mapped
    scale: Mapped
    variance: Mapped
    spread: Float32[npt.NDArray[np.float32], " lists"]
    first_block: npt.NDArray[np.uint32]
    centroids: Float32[npt.NDArray[np.float32], "lists held"]
    blocks: npt.NDArray[np.uint8]
    rows: int

    def list_codes(self, number: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
        """The rows of a list, padding left out, and their codes [rows, held]."""
        blocks = self.blocks[self.first_block[number] : self.first_block[number + 1]]
        n = len(blocks)
        rows = np.ascontiguousarray(blocks[:, -4 * ROWS_A_BLOCK :]).view("<u4").ravel()
        bytes_of = blocks[:, : -4 * ROWS_A_BLOCK].reshape(n, -1, ROWS_A_BLOCK, 4).transpose(0, 2, 1, 3)
        codes = np.stack([bytes_of & 15, bytes_of >> 4], axis=3).reshape(n * ROWS_A_BLOCK, -1)
        known = rows < self.rows
        return rows[known], codes[known]


def map_ivf4(path: Path, rows: int, held: int) -> Ivf4File:
    """Map the file at `path`. Raises BundleInvalid when it is none, is cut, or has other rows or columns."""
    file = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size >= HEADER_BYTES else np.zeros(64, np.uint8)
    found_rows, found_held, lists, blocks = np.frombuffer(file[8:40].tobytes(), dtype="<u8").tolist()
    small = 0 < lists < 1 << 31 and blocks < 1 << 31
    if file[:8].tobytes() != MAGIC or (found_rows, found_held) != (rows, held) or not small:
        raise BundleInvalid(f"{path} is no ivf4 index of {rows} rows of {held} columns. Build the version again.")
    at = layout(held, lists, blocks)
    if len(file) != at["end"]:
        raise BundleInvalid(f"{path} has {len(file)} bytes and needs {at['end']}. Build the version again.")

    def part(name: str, count: int, dtype: str = "<f4") -> npt.NDArray[Any]:
        return np.frombuffer(file[at[name] : at[name] + 4 * count].tobytes(), dtype=dtype)

    lowest, step, scale, variance = (part(name, held) for name in ("lowest", "step", "scale", "variance"))
    first_block = part("first_block", lists + 1, "<u4")
    if first_block[0] != 0 or first_block[-1] != blocks or np.any(first_block[1:] < first_block[:-1]):
        raise BundleInvalid(f"{path}: its lists do not follow one another. Build the version again.")
    centroids = decoded(np.asarray(file[at["centroids"] : at["blocks"]]), lowest, step, lists)
    return Ivf4File(
        lowest, step, scale, variance, part("spread", lists), first_block, centroids,
        file[at["blocks"] :].reshape(blocks, -1), rows,
    )  # fmt: skip


def decoded(
    codes: UInt8[npt.NDArray[np.uint8], " bytes"], lowest: Mapped, step: Mapped, lists: int
) -> Float32[npt.NDArray[np.float32], "lists held"]:
    """Centroids from their codes, which lie sixteen lists side by side, four columns together."""
    held = len(lowest)
    side_by_side = codes.reshape(-1, held // 4, ROWS_A_BLOCK, 4).transpose(0, 2, 1, 3)
    return lowest + step * side_by_side.reshape(-1, held)[:lists].astype(np.float32)


class Ivf4Source:
    """Candidates by the same rule as the engine's, in float arithmetic and one list at a time: some milliseconds."""

    def __init__(self, file: Ivf4File, projection: QueryProjection) -> None:
        self._file = file
        self._projection = projection

    def candidates(
        self, queries: Float32[npt.NDArray[np.float32], "q width"], n_candidates: int, depth: int
    ) -> Int64[npt.NDArray[np.int64], "q found"]:
        """The `n_candidates` best by their codes; `depth` in hundredths of a standard deviation."""
        found = np.full((len(queries), n_candidates), -1, dtype=np.int64)
        for answer, query in zip(found, self._projection.of_queries(queries), strict=True):
            rows = self._best(query, n_candidates, depth / DEPTH_UNIT)
            answer[: len(rows)] = rows
        return found

    def _best(self, query: Mapped, k: int, depth: float) -> npt.NDArray[np.uint32]:
        file = self._file
        lists = len(file.centroids)
        base = file.centroids @ query
        bounds = base + depth * np.sqrt(np.square(query) @ file.variance) * file.spread
        order = np.argsort(-bounds, kind="stable")
        quota = max(4, FIRST_ROWS * k // max(1, file.rows // lists))
        rows, scores = np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.float32)
        first, kth = 0, -np.inf
        while first < lists and bounds[order[first]] >= kth:
            for number in order[first : first + quota]:
                if bounds[number] < kth:
                    break
                more, codes = file.list_codes(int(number))
                rows = np.concatenate([rows, more])
                scores = np.concatenate([scores, base[number] + (codes - np.float32(CENTRE)) @ (file.scale * query)])
            first, quota = first + quota, quota * WIDER
            if len(rows) > k:
                best = np.argpartition(-scores, k - 1)[:k]
                rows, scores = rows[best], scores[best]
            kth = scores.min() if len(rows) >= k else -np.inf
        return rows

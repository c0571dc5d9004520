"""Writing the file of an `ivf4` index, by the compiled engine: k-means, every row's list, 4-bit codes of the residuals.

Rows are read in blocks, twice; the sample, the list of every row and the file itself are mapped, so what is held in
memory follows the lists. The same rows and seed give the same file, whatever the threads and the processor.
docs/bundle-format.md describes it.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int32, Int64

from bundle.progress import QUIET, Stage
from bundle.scratch import scratch_array
from engine import native
from index.builder.fit_projection import FittedProjection
from index.builder.room import Room, blocks, in_memory
from index.builder.sample import row_blocks_of, sample_rows
from index.search.eligible import Bitmap, count_of
from index.search.ivf4_file import MAGIC, ROWS_A_BLOCK, decoded, layout

Vectors = Float32[npt.NDArray[np.float32], "n width"]
Numbers = Int64[npt.NDArray[np.int64], " candidates"]
SAMPLE_A_LIST = 32
ITERATIONS = 4
VARIANCE_ROWS = 1 << 14
BLOCK_ROWS = 1 << 16
TINY = float(np.finfo(np.float32).tiny)
# Codes reach so many standard deviations of a column's residuals to either side: for the least squared error of sixteen
# equal steps on a normal distribution.
CLIP = 2.51


def write_ivf4(
    path: Path,
    vectors: Vectors,
    projection: FittedProjection,
    *,
    lists: int,
    seed: int,
    threads: int,
    candidates: Bitmap | None = None,
    room: Room = in_memory,
    bar: Stage = QUIET,
) -> None:
    """Write the index of `vectors`, held in the columns of `projection`, in `lists` inverted lists: of all rows, or of
    the `candidates` alone, which keep their numbers. What is needed on the way lies in `room`.
    """
    rng = np.random.default_rng(seed)
    rows = None if candidates is None else _numbers(candidates, room)
    n, width = len(vectors) if rows is None else len(rows), vectors.shape[1]
    drawn = _drawn(vectors, projection, rows, sample_rows(n, SAMPLE_A_LIST * lists, rng), room)
    centroids = np.ascontiguousarray(drawn[rng.choice(len(drawn), lists, replace=False)])
    native().ivf4_kmeans(drawn, centroids, ITERATIONS, threads)
    packed = _Packed(centroids)
    variance = _variance(drawn, packed, threads)
    list_of = room("ivf4.lists", np.int32, (n,))
    for block in blocks(n, width):
        packed.nearest(projection.of_vectors(_block(vectors, rows, block)), list_of[block], threads)
        bar.note(f"ivf4: lists of {block.stop:,} of {n:,} vectors")
    bar.note(f"ivf4: codes of {n:,} vectors")
    _write(path, vectors, rows, projection, packed, variance, list_of, threads)


def _numbers(candidates: Bitmap, room: Room) -> Numbers:
    """The rows of a bitmap."""
    rows, done = room("ivf4.candidates", np.int64, (count_of(candidates),)), 0
    for some in row_blocks_of(candidates):
        rows[done : done + len(some)] = some
        done += len(some)
    return rows


def _drawn(
    vectors: Vectors,
    projection: FittedProjection,
    candidates: Numbers | None,
    some: Int64[npt.NDArray[np.int64], " drawn"],
    room: Room,
) -> Float32[npt.NDArray[np.float32], "drawn held"]:
    """Some of the rows that are held, as they are held."""
    drawn = room("ivf4.sample", np.float32, (len(some), projection.held))
    for block in blocks(len(some), vectors.shape[1]):
        rows = some[block] if candidates is None else candidates[some[block]]
        drawn[block] = projection.of_vectors(vectors[rows])
    return drawn


def _block(
    vectors: Vectors, candidates: Numbers | None, block: slice
) -> Float32[npt.NDArray[np.float32], "some_rows width"]:
    """The vectors of some of the rows that are held."""
    return vectors[block] if candidates is None else vectors[candidates[block]]


class _Packed:
    """Centroids in 8 bits a column, as a search reads them."""

    def __init__(self, centroids: Float32[npt.NDArray[np.float32], "lists held"]) -> None:
        self.lists, self.held = centroids.shape
        self.codes = np.empty(-(-self.lists // ROWS_A_BLOCK) * ROWS_A_BLOCK * self.held, dtype=np.uint8)
        self.lowest, self.step = (np.empty(self.held, dtype=np.float32) for _ in range(2))
        native().ivf4_pack(centroids, self.codes, self.lowest, self.step)

    def nearest(self, rows: Vectors, out: Int32[npt.NDArray[np.int32], " n"], threads: int) -> None:
        """The list of each row, into `out`."""
        native().ivf4_nearest(self.codes, self.lowest, self.step, self.lists, np.ascontiguousarray(rows), out, threads)


def _variance(drawn: Vectors, packed: _Packed, threads: int) -> Float32[npt.NDArray[np.float32], " held"]:
    """The mean square of the residuals in every column, of some of the rows."""
    drawn = np.ascontiguousarray(drawn[:: max(1, len(drawn) // VARIANCE_ROWS)])
    lists = np.empty(len(drawn), dtype=np.int32)
    packed.nearest(drawn, lists, threads)
    centroids, squares = decoded(packed.codes, packed.lowest, packed.step, packed.lists), np.zeros(packed.held)
    for part in blocks(*drawn.shape):
        residuals = (drawn[part] - centroids[lists[part]]).astype(np.float64)
        squares += np.einsum("ij,ij->j", residuals, residuals)
    return (squares / max(1, len(drawn))).astype(np.float32)


def _write(
    path: Path,
    vectors: Vectors,
    candidates: Numbers | None,
    projection: FittedProjection,
    packed: _Packed,
    variance: Float32[npt.NDArray[np.float32], " held"],
    list_of: Int32[npt.NDArray[np.int32], " held_rows"],
    threads: int,
) -> None:
    counts = np.bincount(list_of, minlength=packed.lists)
    first_block = np.concatenate([[0], np.cumsum(-(-counts // ROWS_A_BLOCK))]).astype(np.uint32)
    n_blocks = int(first_block[-1])
    at = layout(packed.held, packed.lists, n_blocks)
    file = scratch_array(path, np.uint8, at["end"])
    header = np.array([len(vectors), packed.held, packed.lists, n_blocks], dtype="<u8")
    _put(file, 0, np.frombuffer(MAGIC, dtype=np.uint8))
    _put(file, len(MAGIC), header)
    scale = (CLIP * 2 / 15 * np.sqrt(variance)).astype(np.float32)
    named = {"lowest": packed.lowest, "step": packed.step, "scale": scale, "variance": variance}
    for name, values in (named | {"first_block": first_block, "centroids": packed.codes}).items():
        _put(file, at[name], values)
    if n_blocks:
        # No row: what fills a list's last block.
        file[at["blocks"] :].reshape(n_blocks, -1)[:, -4 * ROWS_A_BLOCK :] = 255
    squares, next_slot = np.zeros(packed.lists), first_block[:-1] * np.uint32(ROWS_A_BLOCK)
    for block in blocks(len(list_of), vectors.shape[1]):
        rows = np.ascontiguousarray(projection.of_vectors(_block(vectors, candidates, block)))
        lists, slots = list_of[block], np.empty(len(rows), dtype=np.uint32)
        native().ivf4_slots(lists, next_slot, slots)
        square = np.empty(len(rows), dtype=np.float32)
        native().ivf4_encode(file, rows, lists, slots, block.start, square, threads)
        squares += np.bincount(lists, weights=square, minlength=packed.lists)
    _put(file, at["spread"], _spread(squares, counts, variance))
    if candidates is not None:
        _renumber(file[at["blocks"] :].reshape(n_blocks, -1)[:, -4 * ROWS_A_BLOCK :], candidates)


def _renumber(ends: npt.NDArray[np.uint8], candidates: Numbers) -> None:
    """Turn positions among the candidates, at the `ends` of the blocks, into their rows; in place, some at a time."""
    for start in range(0, len(ends), BLOCK_ROWS):
        part = ends[start : start + BLOCK_ROWS]
        numbers = np.ascontiguousarray(part).view("<u4")
        known = numbers < len(candidates)
        numbers[known] = candidates[numbers[known]]
        part[:] = numbers.view(np.uint8)


def _spread(
    squares: npt.NDArray[np.float64], counts: npt.NDArray[np.integer], variance: npt.NDArray[np.float32]
) -> Float32[npt.NDArray[np.float32], " lists"]:
    """A list's standard deviation about its centroid, in units of that of all rows."""
    mean = squares / np.maximum(counts, 1)
    spread: npt.NDArray[np.float32] = np.sqrt(mean / max(float(variance.sum()), TINY)).astype(np.float32)
    return spread


def _put(file: npt.NDArray[np.uint8], offset: int, values: npt.NDArray[np.generic]) -> None:
    data = np.frombuffer(values.tobytes(), dtype=np.uint8)
    file[offset : offset + len(data)] = data

"""How near a search by `ivf4` comes to what this machine can do: bytes and products of a query over measured limits."""

import ctypes
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine import native
from engine.build import find_compiler
from index.search.ivf4 import Ivf4Searcher

SOURCE = Path(__file__).with_name("roofline.cpp")
BLOCK_ROWS = 16


@dataclass(frozen=True, slots=True)
class Machine:
    """Bytes a second by the bytes that are read again and again, and products of bytes a second, on one thread."""

    library: ctypes.CDLL

    def in_order(self, size: int) -> float:
        """Bytes a second of reading `size` bytes from end to end."""
        return float(self.library.bytes_in_order(ctypes.c_size_t(size)))

    def by_rows(self, size: int) -> float:
        """Bytes a second of reading rows of 512 bytes out of `size`."""
        return float(self.library.bytes_by_rows(ctypes.c_size_t(size)))

    def products(self) -> float:
        """Multiplications of bytes a second, each with an addition."""
        return float(self.library.products())


def measured_machine() -> Machine:
    """Compile and load the measurements. Raises RuntimeError without a compiler."""
    compiler = find_compiler()
    if compiler is None:
        raise RuntimeError("the roofline needs a C++ compiler")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "roofline.so"
        command = [
            compiler,
            "-O3",
            "-std=c++20",
            "-march=native",
            "-w",
            "-fPIC",
            "-shared",
            str(SOURCE),
            "-o",
            str(path),
        ]
        subprocess.run(command, check=True)
        library = ctypes.CDLL(str(path))
    for name in ("bytes_in_order", "bytes_by_rows", "products"):
        getattr(library, name).restype = ctypes.c_double
    return Machine(library)


@dataclass(frozen=True, slots=True)
class Work:
    """What one query reads and multiplies on average."""

    lists: float
    blocks: float
    rows: float
    coded_bytes: float
    centroid_bytes: float
    row_bytes: float
    map_bytes: float
    products: float

    @property
    def bytes(self) -> float:
        """All that is read."""
        return self.coded_bytes + self.centroid_bytes + self.row_bytes + self.map_bytes


def work_of(searcher: Ivf4Searcher, path: Path, queries: npt.NDArray[np.float32], k: int, row_bytes: int) -> Work:
    """Count what the engine reads for each of `queries`, asked alone; the index lies at `path`."""
    _, held, lists, _ = np.frombuffer(path.read_bytes()[8:40], dtype="<u8").tolist()
    counts = np.zeros(3, dtype=np.int64)
    depth, refine = searcher.effort(None)
    for query in queries:
        native().search_work(searcher.handle, query[np.newaxis], depth, refine, k, counts)
    n_lists, blocks, rows = (counts / len(queries)).tolist()
    centroids = -(-lists // BLOCK_ROWS) * BLOCK_ROWS * held
    return Work(
        lists=n_lists,
        blocks=blocks,
        rows=rows,
        coded_bytes=blocks * 64 * (held / 8 + 1),
        centroid_bytes=centroids,
        row_bytes=rows * row_bytes,
        map_bytes=4 * queries.shape[1] * held,
        products=blocks * BLOCK_ROWS * held + centroids + rows * queries.shape[1] + queries.shape[1] * held,
    )


def limit_us(work: Work, machine: Machine, index_bytes: int, vector_bytes: int) -> tuple[float, float]:
    """Microseconds that reading takes at least, and multiplying."""
    in_order = (work.coded_bytes + work.centroid_bytes) / machine.in_order(index_bytes)
    mapped = work.map_bytes / machine.in_order(max(4096, int(work.map_bytes)))
    reading = in_order + mapped + work.row_bytes / machine.by_rows(vector_bytes)
    return 1e6 * reading, 1e6 * work.products / machine.products()


def in_words(work: Work, machine: Machine, index_bytes: int, vector_bytes: int, cpu_us: float) -> str:
    """The limit, what was taken, and the share of the limit that was reached."""
    reading, multiplying = limit_us(work, machine, index_bytes, vector_bytes)
    return (
        f"{work.lists:.0f} lists, {work.blocks:.0f} blocks, {work.rows:.0f} rows scored; {work.bytes / 1e3:.0f} kB "
        f"({work.coded_bytes / 1e3:.0f} codes, {work.centroid_bytes / 1e3:.0f} centroids, {work.row_bytes / 1e3:.0f} "
        f"rows, {work.map_bytes / 1e3:.0f} map) and {work.products / 1e6:.2f}M multiply-adds. Here "
        f"{machine.in_order(index_bytes) / 1e9:.1f} GB/s in order over {index_bytes >> 20} MB, "
        f"{machine.by_rows(vector_bytes) / 1e9:.1f} GB/s by rows over {vector_bytes >> 20} MB, "
        f"{machine.products() / 1e9:.0f}G products/s: reading {reading:.0f} µs, multiplying {multiplying:.0f} µs at "
        f"least; taken {cpu_us:.0f} µs, {max(reading, multiplying) / cpu_us:.0%} of the limit"
    )

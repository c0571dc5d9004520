"""Where the heavy parts of a build run: a GPU when this FAISS has one to use, else the processor."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import faiss


@dataclass(frozen=True, slots=True)
class Device:
    """`n_gpus` is zero on the processor.

    `by_index`: codewords are found by searching an index, as a GPU does; the processor's own loops are no slower.
    """

    n_gpus: int
    has_cagra: bool
    by_index: bool = False

    @property
    def kmeans_gpus(self) -> bool:
        """What `faiss.Kmeans` takes as `gpu`."""
        return self.n_gpus > 0

    @property
    def name(self) -> str:
        """For people: where the build runs and what that FAISS can do there."""
        if self.n_gpus == 0:
            return "CPU"
        return f"{self.n_gpus} GPU" + (" with CAGRA" if self.has_cagra else "")

    def to_gpu(self, index: Any) -> Any:
        """A copy of `index` on the first GPU, or the index itself on the processor."""
        if self.n_gpus == 0:
            return index
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)


CPU = Device(n_gpus=0, has_cagra=False)


def find_device() -> Device:
    """Look for a GPU that this build of FAISS can use: the CPU package has the functions, but counts none."""
    built_for_gpu = "GPU" in faiss.get_compile_options().split() and hasattr(faiss, "StandardGpuResources")
    n_gpus = faiss.get_num_gpus() if built_for_gpu else 0
    return Device(n_gpus, n_gpus > 0 and hasattr(faiss, "GpuIndexCagra"), by_index=n_gpus > 0)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let FAISS run on the calling thread alone, and as before afterwards."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)

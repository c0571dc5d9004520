"""The searcher of one type: built as planned, measured, the chosen file kept, the others removed."""

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.layout import SpaceLayout
from bundle.manifest import Gate, IndexEntry
from bundle.writer import BundleWriter
from index.builder.choose import Trial, choose
from index.builder.config import BuildConfig
from index.builder.devices import Device
from index.builder.indexes import write_index
from index.builder.measure import Measurement, find_truth, measure
from index.builder.queries import RealQueries
from index.builder.spec import IndexSpec, specs_for
from index.search.open import read_searcher
from index.search.projection import projection_file

Vectors = Float32[npt.NDArray[np.float32], "_ width"]


@dataclass(frozen=True, slots=True)
class ChosenSearcher:
    """The searcher that a version ships for one type, the gate it must pass, and everything that was tried."""

    entity_type: str
    entry: IndexEntry
    gate: Gate
    trials: tuple[Trial, ...]
    trial: Trial


@dataclass(frozen=True, slots=True)
class SearcherStage:
    """Builds and chooses the searchers of one space of a version being written."""

    writer: BundleWriter
    layout: SpaceLayout
    config: BuildConfig
    device: Device

    def build(self, entity_type: str, vectors: Vectors, queries: RealQueries, *, with_hnsw: bool) -> ChosenSearcher:
        """Sweep, choose on one half of the queries, judge on the other, keep the chosen file."""
        k = self.config.index.recall_at
        with tempfile.TemporaryDirectory(prefix=".trials-", dir=self.writer.root) as name:
            directory = Path(name)
            truth = find_truth(vectors, queries.part(0, 2), k)
            trials = tuple(
                Trial(spec, measure(read_searcher(path, spec.entry(path.name), vectors), truth), *cost)
                for spec, path, cost in self._built(vectors, truth.queries.queries, directory, with_hnsw)
            )
            best = choose(trials, self.config.index)
            file = self._keep(entity_type, best.spec, directory)
        entry = best.spec.entry(file)
        path = self.writer.path(file or self.layout.vectors(entity_type))
        judged = measure(read_searcher(path, entry, vectors), find_truth(vectors, queries.part(1, 2), k))
        gate = Gate(
            metric=f"recall@{k} of {entity_type}", floor=self.config.index.target_recall, measured=judged.recall
        )
        return ChosenSearcher(entity_type, _measured(entry, judged, best.bytes_per_vector, k), gate, trials, best)

    def _built(
        self, vectors: Vectors, queries: Vectors, directory: Path, with_hnsw: bool
    ) -> Iterator[tuple[IndexSpec, Path, tuple[float, float]]]:
        """Every spec with its file, bytes a vector and CPU seconds; specs that differ only when asked share a file."""
        specs = specs_for(
            len(vectors), self.config.index, with_hnsw=with_hnsw or self.device.has_cagra, cagra=self.device.has_cagra
        )
        for shared, alike in groupby(specs, key=lambda spec: spec.file_spec):
            path = directory / shared.file_name
            seconds = self._write(shared, vectors, queries, path)
            size = path.stat().st_size if path.exists() else vectors.nbytes
            for spec in alike:
                yield spec, path, (size / max(1, len(vectors)), seconds)

    def _write(self, spec: IndexSpec, vectors: Vectors, queries: Vectors, path: Path) -> float:
        if spec.kind == "exact":
            return 0.0
        started = time.process_time()
        threads = self.config.threads or os.cpu_count() or 1
        faiss.omp_set_num_threads(threads)
        write_index(spec, vectors, queries, path, seed=self.config.seed, threads=threads, device=self.device)
        return time.process_time() - started

    def _keep(self, entity_type: str, spec: IndexSpec, directory: Path) -> str | None:
        """Move the chosen file to its place in the version; None for an exact search, which needs none."""
        if spec.kind == "exact":
            return None
        file = self.layout.index(entity_type, spec.extension)
        made, kept = directory / spec.file_spec.file_name, self.writer.path(file)
        for source, target in ((made, kept), (projection_file(made), projection_file(kept))):
            source.replace(target)
            self.writer.add(target.relative_to(self.writer.root).as_posix())
        return file


def _measured(entry: IndexEntry, judged: Measurement, bytes_per_vector: float, k: int) -> IndexEntry:
    recall = {f"recall@{k}": judged.recall}
    recall |= {f"recall@{k} {kind}": value for kind, value in judged.recall_by_kind.items()}
    return entry.model_copy(
        update={
            "recall": {name: round(value, 4) for name, value in recall.items()},
            "cpu_us_per_query": round(judged.cpu_us_per_query, 1),
            "bytes_per_vector": round(bytes_per_vector, 1),
        }
    )

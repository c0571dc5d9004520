"""The searcher of one type: specs built and measured, one chosen and judged, its file kept, the others removed."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.layout import SpaceLayout
from bundle.manifest import Gate, IndexEntry, RowsEntry, TriedIndex
from bundle.progress import QUIET, Stage
from bundle.rows import ScoredRows
from bundle.writer import BundleWriter
from index.builder.choose import Trial, choose, deeper, pareto, undecided
from index.builder.compact import ChosenRows, RowsChoice
from index.builder.config import BuildConfig
from index.builder.devices import Device
from index.builder.filtered import FilteredSearch, measure_filtered
from index.builder.indexes import write_index
from index.builder.measure import Measurement, Truth, find_truth, measure
from index.builder.memory import affordable
from index.builder.queries import RealQueries
from index.builder.room import Scratch
from index.builder.spec import IndexSpec, specs_for
from index.search.eligible import Bitmap, count_of
from index.search.open import read_searcher
from index.search.projection import projection_file
from index.search.protocol import Searcher

Vectors = Float32[npt.NDArray[np.float32], "_ width"]
Draw = Callable[[int], RealQueries]

# Of a vector, after the embedding: that of popularity.
TARGET_COLUMNS = 1
# So many times the first queries are asked in addition where those leave the choice open.
MORE_QUERIES = 3


@dataclass(frozen=True, slots=True)
class ChosenSearcher:
    """The searcher that a version ships for one type, the gate it must pass, and everything that was tried.

    `missed` are the trials that were chosen before it and missed the floor when they were judged; `filtered` is what it
    finds among eligible rows, None where it is exact; `rows` are the compact ones that it scores, None for float32.
    """

    entity_type: str
    entry: IndexEntry
    gate: Gate
    judgement: Measurement
    trials: tuple[Trial, ...]
    trial: Trial
    missed: tuple[Trial, ...]
    filtered: FilteredSearch | None
    rows: RowsEntry | None = None

    @property
    def gates(self) -> tuple[Gate, ...]:
        """What must be reached without a filter, and with one."""
        return (self.gate,) if self.filtered is None else (self.gate, self.filtered.gate(self.gate.metric))


@dataclass(frozen=True, slots=True)
class SearcherStage:
    """Builds and chooses the searchers of one space of a version being written; one may hold `room` bytes of memory."""

    writer: BundleWriter
    layout: SpaceLayout
    config: BuildConfig
    device: Device
    room: int | None = None
    bar: Stage = QUIET

    def build(
        self, entity_type: str, vectors: Vectors, draw: Draw, candidates: Bitmap | None = None, *, with_hnsw: bool
    ) -> ChosenSearcher:
        """Sweep, choose, judge, keep the file of what reaches the target.

        `draw` gives so many new queries. The columns are learnt from some, the choice is made on others and judged on
        others again, so that no part is measured by what it was made from. Of a type whose `candidates` are not all
        rows these alone are looked for. What misses the target when it is judged
        gives way to the next that found more, in the end to exact search. Settings that leave nothing better to take
        keep the best there is, and the gate stops it from being published unnoticed.
        """
        index = self.config.index
        with tempfile.TemporaryDirectory(prefix=".trials-", dir=self.writer.root) as name:
            sweep = _Sweep(self.config, self.device, vectors, draw, Path(name), candidates, self.room, self.bar)
            trials = sweep.settled(sweep.trials(with_hnsw))
            judgements = sweep.judgements(trials)
            best, judgement = max(judgements, key=lambda pair: pair[1].recall)
            file = self._keep(entity_type, best.spec, Path(name))
            judged = best.spec.entry(file, index.recall_at)
            rows = self._compact(entity_type, judged, vectors, candidates, sweep.judging, judgement)
            judgement = judgement if rows is None else rows.judgement
        metric = f"recall@{index.recall_at}"
        by_kind = {f"{metric} {kind}": value for kind, value in judgement.recall_by_kind.items()}
        recall = {metric: judgement.recall} | by_kind
        entry = best.spec.entry(file, index.recall_at).model_copy(
            update={
                "recall": {name: round(value, 4) for name, value in recall.items()},
                "cpu_us_per_query": round(judgement.cpu_us_per_query, 1),
                "bytes_per_vector": round(best.bytes_per_vector, 1),
                "tried": _tried(trials, best),
            }
        )
        filtered = self._filtered(entry, vectors, candidates, vectors if rows is None else rows.compact, draw)
        if filtered is not None:
            among = {f"{metric} among {share:.1%}": round(value, 4) for share, value in filtered.recall.items()}
            parameters = {**entry.parameters, "filter_depth": filtered.filter_depth}
            entry = entry.model_copy(update={"recall": {**entry.recall, **among}, "parameters": parameters})
        gate = Gate(metric=f"{metric} of {entity_type}", floor=index.target_recall, measured=judgement.recall)
        missed = tuple(trial for trial, _ in judgements if trial is not best)
        return ChosenSearcher(
            entity_type,
            entry,
            gate,
            judgement,
            tuple(trials),
            best,
            missed,
            filtered,
            rows.entry if rows else None,
        )

    def _compact(
        self,
        entity_type: str,
        entry: IndexEntry,
        vectors: Vectors,
        candidates: Bitmap | None,
        truth: Truth,
        judged: Measurement,
    ) -> ChosenRows | None:
        """The compact rows that the kept searcher scores; None for float32, as an exact search does."""
        if entry.file is None:
            return None
        path = self.writer.path(entry.file)
        choice = RowsChoice(
            self.writer, self.layout.rows(entity_type), vectors, vectors.shape[1] - TARGET_COLUMNS, self.config.index
        )
        return choice.choose(lambda compact: read_searcher(path, entry, compact, candidates), truth, judged)

    def _filtered(
        self, entry: IndexEntry, vectors: Vectors, candidates: Bitmap | None, scored: ScoredRows, draw: Draw
    ) -> FilteredSearch | None:
        """What the kept searcher finds among eligible rows."""
        if entry.file is None:
            return None
        path, rng = self.writer.path(entry.file), np.random.default_rng(self.config.seed)

        def opened(filter_depth: float) -> Searcher:
            parameters = {**entry.parameters, "filter_depth": filter_depth}
            return read_searcher(path, entry.model_copy(update={"parameters": parameters}), scored, candidates)

        queries, k = draw(self.config.index.queries), self.config.index.recall_at
        return measure_filtered(opened, vectors, queries, k, rng, candidates)

    def _keep(self, entity_type: str, spec: IndexSpec, directory: Path) -> str | None:
        """Move the chosen file to its place in the version; None for an exact search, which needs none."""
        if spec.kind == "exact":
            return None
        file = self.layout.index(entity_type, spec.extension)
        trial_file, index_file = directory / spec.file_name, self.writer.path(file)
        pairs = ((trial_file, index_file), (projection_file(trial_file), projection_file(index_file)))
        for source, target in pairs:
            source.replace(target)
            self.writer.add(target.relative_to(self.writer.root).as_posix())
        return file


def _tried(trials: Sequence[Trial], taken: Trial) -> tuple[TriedIndex, ...]:
    """What the version says of the trials: those that no other beats and the one taken, by rising recall."""
    best = pareto(trials)
    told = best if taken in best else sorted([*best, taken], key=lambda trial: trial.measurement.recall)
    return tuple(
        TriedIndex(
            kind=trial.spec.kind,
            depth=trial.spec.depth,
            recall=round(trial.measurement.recall, 4),
            cpu_us_per_query=round(trial.measurement.cpu_us_per_query, 1),
            bytes_per_vector=round(trial.bytes_per_vector, 1),
            taken=trial is taken,
        )
        for trial in told
    )


@dataclass(frozen=True)
class _Sweep:
    """The specs of one type being tried over `vectors`, their files in `directory`."""

    config: BuildConfig
    device: Device
    vectors: Vectors
    draw: Draw
    directory: Path
    candidates: Bitmap | None
    room: int | None
    bar: Stage

    def trials(self, with_hnsw: bool) -> list[Trial]:
        """Every spec measured on the first queries; specs that differ only when asked share a file."""
        n, cagra = len(self.vectors), self.device.has_cagra
        n_candidates = n if self.candidates is None else count_of(self.candidates)
        wanted = specs_for(n_candidates, self.config.index, with_hnsw=with_hnsw or cagra, cagra=cagra)
        specs = affordable(wanted, n, int(self.vectors.shape[1]), self.config.thread_count, self.room)
        trials = []
        for shared, alike in groupby(specs, key=lambda spec: spec.file_spec):
            path = self.directory / shared.file_name
            self.bar.note(f"{shared.kind} of {n_candidates:,} vectors")
            seconds = 0.0 if shared.kind == "exact" else self._write(shared, path)
            size_bytes = path.stat().st_size if path.exists() else self.vectors.nbytes
            for spec in alike:
                measurement = measure(self._open(spec), self._first)
                trials.append(Trial(spec, measurement, size_bytes / max(1, n), seconds))
        return trials

    def settled(self, trials: list[Trial]) -> list[Trial]:
        """The trials, those that the first queries leave in doubt measured on more: as few as the choice needs."""
        again: set[IndexSpec] = set()
        while doubtful := [trial for trial in undecided(trials, self.config.index) if trial.spec not in again]:
            spec = doubtful[0].spec
            again.add(spec)
            measurement = measure(self._open(spec), self._more)
            trials = [replace(trial, measurement=measurement) if trial.spec == spec else trial for trial in trials]
        return trials

    def judgements(self, trials: Sequence[Trial]) -> list[tuple[Trial, Measurement]]:
        """What was chosen, measured on queries that had no part in the choice; the last reaches the target, if any."""
        index = self.config.index
        judgements: list[tuple[Trial, Measurement]] = []
        while trials:
            trial = choose(trials, index)
            judgements.append((trial, measure(self._open(trial.spec), self.judging)))
            reached = judgements[-1][1].recall >= index.target_recall
            trials = [] if reached else deeper(trials, trial)
        return judgements

    def _open(self, spec: IndexSpec) -> Searcher:
        path = self.directory / spec.file_name
        entry = spec.entry(path.name, self.config.index.recall_at)
        return read_searcher(path, entry, self.vectors, self.candidates)

    def _write(self, spec: IndexSpec, path: Path) -> float:
        """Write the file of a spec; the CPU seconds it took."""
        started = time.process_time()
        threads = self.config.thread_count
        faiss.omp_set_num_threads(threads)
        with tempfile.TemporaryDirectory(dir=self.directory) as scratch:
            write_index(
                spec,
                self.vectors,
                self._learning_queries,
                path,
                seed=self.config.seed,
                threads=threads,
                device=self.device,
                candidates=self.candidates,
                room=Scratch(Path(scratch)),
                bar=self.bar,
            )
        return time.process_time() - started

    @cached_property
    def judging(self) -> Truth:
        """Queries that have no part in the choice."""
        index = self.config.index
        return find_truth(self.vectors, self.draw(index.queries), index.recall_at, self.candidates)

    @cached_property
    def _learning_queries(self) -> Vectors:
        return self.draw(self.config.index.queries).queries

    @cached_property
    def _first(self) -> Truth:
        index = self.config.index
        return find_truth(self.vectors, self.draw(index.queries), index.recall_at, self.candidates)

    @cached_property
    def _more(self) -> Truth:
        index = self.config.index
        more = self.draw(MORE_QUERIES * index.queries)
        return self._first.joined(find_truth(self.vectors, more, index.recall_at, self.candidates))

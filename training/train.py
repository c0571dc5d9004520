"""Training, from a prepared graph to a run directory."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle.errors import ConfigError, KernelUnavailable
from bundle.prepared import PreparedGraph
from bundle.progress import Progress, SilentProgress
from training.allocator import give_back_freed_memory
from training.backend import Backend
from training.config import TrainConfig
from training.earlier import open_earlier
from training.export import export_run, export_tables
from training.layout import Layout, plan_layout, training_edges, write_layout
from training.loop import Engine, run_epochs
from training.memory import choose_partitions, footprint
from training.metrics import JsonLines, Sink, Sinks, TensorBoard
from training.origin import Origin, RandomOrigin
from training.partition import Partitioning, partition_rows
from training.residents import Residents
from training.resume import FinishedRun, find_earlier_work, only_trainer
from training.store import Checkpoint, Position, StoreKey, TableStore
from training.warm import warm_origin


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a finished run was: where it lies, what it saw, how long this process took, and which backend trained."""

    run_dir: Path
    epochs: int
    edges_seen: int
    final_loss: float
    seconds: float
    edges_per_second: float
    backend: str


def train(
    prepared: PreparedGraph,
    run_dir: Path,
    config: TrainConfig,
    *,
    warm_start: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> RunSummary:
    """Train `prepared` and write the run directory `run_dir`; `run.json` is written last.

    With `resume` it goes on from the checkpoint in `run_dir`, or starts when there is none. `warm_start` is an earlier
    run or version. With one thread the result depends on graph, settings and warm start alone.
    Raises UsageError when `run_dir` holds another run or another process trains in it, ConfigError for settings that
    cannot work here, Diverged when the loss stops being a number, DiskFull when there is no room left (the last
    checkpoint stays).
    """
    if config.memory is not None:
        give_back_freed_memory()
    with only_trainer(run_dir):
        key = StoreKey(prepared.digest, config.model_dump(mode="json"), _parent(warm_start))
        found = find_earlier_work(run_dir, key, resume)
        if found.finished:
            shutil.rmtree(run_dir / "checkpoint", ignore_errors=True)  # left by a kill just before the end
            return _summary_of(run_dir, found.finished)
        return _go_on(prepared, run_dir, config, warm_start, found.checkpoint, progress or SilentProgress())


def _go_on(
    prepared: PreparedGraph,
    run_dir: Path,
    config: TrainConfig,
    warm_start: Path | None,
    checkpoint: Checkpoint | None,
    shown: Progress,
) -> RunSummary:
    """Train from the checkpoint or from the start to the end."""
    started = time.perf_counter()
    _bring_graph(prepared, run_dir)
    seen_before = checkpoint.position.edges_seen if checkpoint else 0
    backend = make_backend(config)
    end = _train(prepared, run_dir, config, warm_start, checkpoint, backend, shown)
    shutil.rmtree(run_dir / "checkpoint")
    seconds = time.perf_counter() - started
    rate = (end.edges_seen - seen_before) / seconds
    return RunSummary(run_dir, end.epoch, end.edges_seen, end.last_loss or 0.0, seconds, rate, backend.name)


def _train(
    prepared: PreparedGraph,
    run_dir: Path,
    config: TrainConfig,
    warm_start: Path | None,
    checkpoint: Checkpoint | None,
    backend: Backend,
    shown: Progress,
) -> Position:
    origin = _origin(prepared, config, warm_start)
    need = footprint(prepared, config, thread_count(config))
    partitions = checkpoint.partitions if checkpoint else choose_partitions(need, config)
    start = checkpoint.position if checkpoint else Position()
    dealer = _Dealer(prepared, run_dir / "checkpoint" / "edges", partitions, config, shown)
    dealer.deal(checkpoint.dealt if checkpoint else 0)
    store = TableStore(run_dir / "checkpoint" / "tables", dealer.rows, origin.dealt(dealer.rows))
    relations = store.restore(checkpoint) if checkpoint else origin.relations()
    key = StoreKey(prepared.digest, config.model_dump(mode="json"), _parent(warm_start))
    with Residents(store, dealer.layout) as residents:

        def save(position: Position) -> None:
            residents.save()
            store.commit(key, dealer.epoch, position, relations)

        def deal(position: Position) -> Layout:
            residents.empty()
            dealer.deal(position.epoch)
            store.deal(dealer.rows)
            residents.use(dealer.layout)
            save(position)
            return dealer.layout

        engine = Engine(
            config, backend, residents, relations, _relation_weights(prepared, config), save, deal,
            _sink(run_dir, config, fresh=checkpoint is None), run_dir / "diverged",
        )  # fmt: skip
        if partitions > 1 and dealer.epoch < start.epoch < config.epochs:
            deal(start)
        end = run_epochs(engine, dealer.layout, start, sum(map(training_edges, prepared.relations)), shown)
        residents.empty()
        save(end)
    export_tables(run_dir, [entity.name for entity in prepared.entities], dealer.rows, store, config.dim)
    export_run(run_dir, prepared, config, relations, key.parent, end)
    return end


class _Dealer:
    """Hashes rows to partitions and edges to buckets; each epoch has its own hash."""

    rows: tuple[Partitioning, ...]
    layout: Layout

    def __init__(
        self, prepared: PreparedGraph, path: Path, partitions: int, config: TrainConfig, shown: Progress
    ) -> None:
        self._prepared, self._path, self._partitions, self._config, self._shown = (
            prepared, path, partitions, config, shown,
        )  # fmt: skip
        self.epoch = 0

    def deal(self, epoch: int) -> None:
        """Take the hash of `epoch`, and write the edges so."""
        self.epoch = epoch
        self.rows = partition_entities(self._prepared, self._partitions, self._config.seed, epoch)
        self.layout = plan_layout(self._prepared, self._path, self.rows, self._config.edge_weights)
        write_layout(self._prepared, self.layout, self._shown)


def thread_count(config: TrainConfig) -> int:
    """Threads that train."""
    return config.threads or os.cpu_count() or 1


def make_backend(config: TrainConfig) -> Backend:
    """The backend asked for; `auto` takes the compiled kernel on the CPU where it can be built, else torch.

    Torch is imported only when it is used: the kernel needs neither it nor its memory.
    """
    by_kernel = config.device == "cpu" and config.products == "float32"
    if config.backend == "compiled" and not by_kernel:
        raise ConfigError(
            f"backend = 'compiled' runs on the CPU in float32; device is {config.device!r}, products are "
            f"{config.products!r}. Use 'auto' or 'torch'."
        )
    if by_kernel and config.backend != "torch":
        from training.kernel_backend import KernelBackend

        try:
            return KernelBackend(config, thread_count(config))
        except KernelUnavailable:
            if config.backend == "compiled":
                raise
    from training.torch_backend import TorchBackend

    return TorchBackend(config, thread_count(config))


def partition_entities(prepared: PreparedGraph, partitions: int, seed: int, epoch: int = 0) -> tuple[Partitioning, ...]:
    """Hash the rows of every entity type for one epoch."""
    return tuple(partition_rows(entity.count, partitions, seed, i, epoch) for i, entity in enumerate(prepared.entities))


def _origin(prepared: PreparedGraph, config: TrainConfig, warm_start: Path | None) -> Origin:
    if warm_start is not None:
        return warm_origin(prepared, open_earlier(warm_start), config)
    if config.l2_previous:
        raise ConfigError("l2_previous pulls towards an earlier version: name it with --warm-start, or leave it out.")
    return RandomOrigin(len(prepared.relations), config.dim, config.init_scale, config.seed)


def _parent(warm_start: Path | None) -> str | None:
    return None if warm_start is None else warm_start.resolve().name


def _relation_weights(prepared: PreparedGraph, config: TrainConfig) -> npt.NDArray[np.float32]:
    unknown = set(config.relation_weights) - {relation.name for relation in prepared.relations}
    if unknown:
        raise ConfigError(f"relation_weights names {sorted(unknown)}, which the graph does not have.")
    return np.array([config.relation_weights.get(r.name, 1.0) for r in prepared.relations], dtype=np.float32)


def _summary_of(run_dir: Path, done: FinishedRun) -> RunSummary:
    return RunSummary(run_dir, done.epochs, done.edges_seen, done.final_loss or 0.0, 0.0, 0.0, "")


def _sink(run_dir: Path, config: TrainConfig, *, fresh: bool) -> Sink:
    sinks: list[Sink] = [JsonLines(run_dir / "metrics.jsonl", fresh)]
    if config.tensorboard:
        sinks.append(TensorBoard(run_dir / "tensorboard"))
    return Sinks(sinks)


def _bring_graph(prepared: PreparedGraph, run_dir: Path) -> None:
    """The run directory holds its graph: copy it there when it was prepared elsewhere."""
    run_dir.mkdir(parents=True, exist_ok=True)
    if prepared.path.resolve() != (run_dir / "graph").resolve():
        shutil.copytree(prepared.path, run_dir / "graph", dirs_exist_ok=True)

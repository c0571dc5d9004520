"""Training, from a prepared graph to a run directory."""

import json
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bundle.arrays import save_array, write_text
from bundle.errors import Diverged
from training.backend import Backend, BucketWork
from training.config import TrainConfig
from training.edges import BucketEdges, index_edges
from training.graph.prepared import PreparedGraph
from training.kernel_backend import KernelBackend
from training.model import Relations, Table, random_table, zero_relations
from bundle.progress import Progress, SilentProgress
from training.sampling import stream_seed
from training.schedule import make_schedule
from training.torch_backend import TorchBackend


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a finished run was: where it lies, what it saw, how long it took."""

    run_dir: Path
    epochs: int
    edges_seen: int
    final_loss: float
    seconds: float
    edges_per_second: float


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

    Raises Diverged when the loss stops being a number.
    """
    started = time.perf_counter()
    shown = progress or SilentProgress()
    if prepared.path != run_dir / "graph":
        shutil.copytree(prepared.path, run_dir / "graph", dirs_exist_ok=True)
    types = [entity.name for entity in prepared.entities]
    rng = np.random.default_rng(stream_seed(config.seed, 7))
    tables = tuple(random_table(entity.count, config.dim, config.init_scale, rng) for entity in prepared.entities)
    relations = zero_relations(len(prepared.relations), config.dim)
    weights = np.array([config.relation_weights.get(r.name, 1.0) for r in prepared.relations], dtype=np.float32)
    groups = _groups(prepared, config)
    backend: Backend = TorchBackend(config) if config.backend == "torch" else KernelBackend(config)
    total = sum(len(edges) for edges in groups)
    seen, loss = 0, float("nan")
    (run_dir / "metrics.jsonl").unlink(missing_ok=True)
    for epoch in range(config.epochs):
        schedule = make_schedule(groups, config.chunk, config.seed, epoch, 0)
        visit = backend.visit(BucketWork(groups, tables, tables, relations, weights, schedule))
        summed = 0.0
        with shown.stage(f"epoch {epoch + 1}/{config.epochs}", total, "edges") as stage:
            for begin in range(0, len(schedule), 2048):
                result = visit.run(begin, min(begin + 2048, len(schedule)))
                if result.diverged_at is not None:
                    raise Diverged(f"The loss of chunk {result.diverged_at} in epoch {epoch + 1} is not finite.")
                summed, seen = summed + result.loss, seen + result.edges
                stage.advance(result.edges)
        visit.sync()
        loss = summed / max(1, total)
        line = {"epoch": epoch + 1, "loss": loss, "edges": seen, "seconds": time.perf_counter() - started}
        with (run_dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    _export(run_dir, types, tables, relations)
    seconds = time.perf_counter() - started
    _commit(run_dir, prepared, config, seen, loss)
    return RunSummary(run_dir, config.epochs, seen, loss, seconds, seen / seconds)


def _commit(run_dir: Path, prepared: PreparedGraph, config: TrainConfig, seen: int, loss: float) -> None:
    record = {
        "format_version": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "graph_digest": prepared.digest,
        "config": config.model_dump(mode="json"),
        "config_digest": config.digest(),
        "code_revision": None,
        "parent": None,
        "dim": config.dim,
        "epochs": config.epochs,
        "edges_seen": seen,
        "final_loss": loss,
    }
    write_text(run_dir / "run.json", json.dumps(record, indent=1) + "\n")


def _groups(prepared: PreparedGraph, config: TrainConfig) -> tuple[BucketEdges, ...]:
    number = {entity.name: i for i, entity in enumerate(prepared.entities)}
    sizes = [entity.count for entity in prepared.entities]
    pairs = sorted({(number[r.source], number[r.target]) for r in prepared.relations if len(r.train)})
    groups = []
    for pair in pairs:
        members = [r for r in prepared.relations if (number[r.source], number[r.target]) == pair]
        src, dst, rel, weight = [], [], [], []
        for r in members:
            a, b = np.asarray(r.train.src), np.asarray(r.train.dst)
            w = np.ones(len(a), dtype=np.float32) if r.train.weight is None else r.train.weight / r.train.weight.mean()
            if r.symmetric:
                a, b, w = np.concatenate([a, b]), np.concatenate([b, a]), np.concatenate([w, w])
            src.append(a)
            dst.append(b)
            weight.append(w)
            rel.append(np.full(len(a), r.index, dtype=np.int32))
        weighted = config.edge_weights and any(r.train.weight is not None for r in members)
        columns = (np.concatenate(src), np.concatenate(dst), np.concatenate(rel))
        groups.append(
            index_edges(pair, (sizes[pair[0]], sizes[pair[1]]), columns, np.concatenate(weight) if weighted else None)
        )
    return tuple(groups)


def _export(run_dir: Path, types: list[str], tables: tuple[Table, ...], relations: Relations) -> None:
    for name, table in zip(types, tables, strict=True):
        save_array(run_dir / "vectors" / f"{name}.npy", table.vectors)
        save_array(run_dir / "optimizer" / f"{name}.npy", table.accumulator)
    save_array(run_dir / "relations.npy", relations.vectors)
    save_array(run_dir / "optimizer" / "relations.npy", relations.accumulator)

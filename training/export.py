"""The end of a run: tables in row order, relation vectors, optimiser state, and `run.json` last."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bundle.arrays import save_array
from bundle.disk import replacing
from bundle.prepared import PreparedGraph
from bundle.release import code_revision
from bundle.run import write_run_record
from training.checkpoint import PartitionFiles, Position
from training.config import TrainConfig
from training.model import Relations
from training.partition import Partitioning

BLOCK_BYTES = 8 * 2**20


def export_tables(
    run_dir: Path, names: list[str], partitionings: tuple[Partitioning, ...], files: PartitionFiles, dim: int
) -> None:
    """Write vectors/<type>.npy and optimizer/<type>.npy from saved partitions, block by block."""
    size = max(1, BLOCK_BYTES // (4 * dim))
    for kind, (name, rows) in enumerate(zip(names, partitionings, strict=True)):
        for folder in ("vectors", "optimizer"):
            (run_dir / folder).mkdir(exist_ok=True)
        n, done = len(rows.part), np.zeros(len(rows.sizes), dtype=np.int64)
        states = np.zeros(n, dtype=np.float32)
        with replacing(run_dir / "vectors" / f"{name}.npy") as out:
            np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (n, dim)})
            for start in range(0, n, size):
                part = rows.part[start : start + size]
                block = np.empty((len(part), dim), dtype=np.float32)
                for p in np.unique(part).tolist():  # rows of a partition are in row order: go on where it was left
                    mine, begin = np.flatnonzero(part == p), int(done[p])
                    block[mine], states[start + mine] = files.rows(kind, p, begin, begin + len(mine))
                    done[p] += len(mine)
                out.write(block.data)
        save_array(run_dir / "optimizer" / f"{name}.npy", states)


def export_run(
    run_dir: Path, prepared: PreparedGraph, config: TrainConfig, relations: Relations, parent: str | None, end: Position
) -> None:
    """Write the relations and commit the run."""
    save_array(run_dir / "relations.npy", relations.vectors)
    save_array(run_dir / "optimizer" / "relations.npy", relations.accumulator)
    fields = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "graph_digest": prepared.digest,
        "config": config.model_dump(mode="json"),
        "config_digest": config.digest(),
        "code_revision": code_revision(),
        "parent": parent,
        "dim": config.dim,
        "epochs": config.epochs,
        "edges_seen": end.edges_seen,
        "final_loss": end.last_loss,
    }
    write_run_record(run_dir, fields)

"""The end of a run: tables in row order, relation vectors, optimiser state, and `run.json` last."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle.arrays import forget_pages, save_array
from bundle.disk import replacing
from bundle.prepared import PreparedGraph
from bundle.release import code_revision
from bundle.run import write_run_record
from training.checkpoint import PartitionFiles, Position
from training.config import TrainConfig
from training.diverged import require_finite
from training.model import Relations
from training.partition import Partitioning

BLOCK_BYTES = 8 * 2**20
I64 = npt.NDArray[np.int64]


def export_tables(
    run_dir: Path, names: list[str], partitionings: tuple[Partitioning, ...], files: PartitionFiles, dim: int
) -> None:
    """Write vectors/<type>.npy and optimizer/<type>.npy, in the order of rows, block by block. Raises Diverged for what
    is no number: the loss is that before an update, and a pull to zero is no part of it."""
    for kind, (name, groups) in enumerate(zip(names, partitionings, strict=True)):
        for folder in ("vectors", "optimizer"):
            (run_dir / folder).mkdir(exist_ok=True)
        saved = [files.saved_arrays(kind, partition) for partition in range(len(groups.sizes))]
        n = len(groups.shards.rows)
        states = np.zeros(n, dtype=np.float32)
        with replacing(run_dir / "vectors" / f"{name}.npy") as out:
            np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (n, dim)})
            for start, partition, local in places_in_order(groups, max(1, BLOCK_BYTES // (4 * dim))):
                block = np.empty((len(local), dim), dtype=np.float32)
                for p in np.unique(partition).tolist():
                    mine = np.flatnonzero(partition == p)
                    vectors, state = saved[p]
                    block[mine], states[start + mine] = vectors[local[mine]], state[local[mine]]
                    forget_pages(vectors)
                    forget_pages(state)
                require_finite(block, f"Vectors of {name}")
                out.write(block.data)
        require_finite(states, f"Sums of the optimiser of {name}")
        save_array(run_dir / "optimizer" / f"{name}.npy", states)


def places_in_order(groups: Partitioning, size: int) -> Iterator[tuple[int, I64, I64]]:
    """The rows in their order, `size` at a time: the first, the partition of each, and the row in that."""
    shards = groups.shards
    place = np.empty(len(shards.rows), dtype=np.int64)
    for start in range(0, len(place), size):
        stop = min(start + size, len(place))
        place[shards.rows[start:stop]] = np.arange(start, stop)
        forget_pages(shards.rows)
    for start in range(0, len(place), size):
        at = place[start : start + size]
        shard = np.searchsorted(shards.starts, at, side="right") - 1
        yield start, groups.part[shard], groups.base[shard] + at - shards.starts[shard]


def export_run(
    run_dir: Path,
    prepared: PreparedGraph,
    config: TrainConfig,
    relations: Relations,
    ancestors: tuple[str, ...],
    end: Position,
) -> None:
    """Write the relations and commit the run; the first of its `ancestors` is what it was warm started from. Raises
    Diverged as `export_tables`."""
    require_finite(relations.vectors, "Vectors of relations")
    require_finite(relations.accumulator, "Sums of the optimiser of relations")
    save_array(run_dir / "relations.npy", relations.vectors)
    save_array(run_dir / "optimizer" / "relations.npy", relations.accumulator)
    fields = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "graph_digest": prepared.digest,
        "config": config.model_dump(mode="json"),
        "config_digest": config.digest(),
        "code_revision": code_revision(),
        "parent": ancestors[0] if ancestors else None,
        "ancestors": ancestors,
        "dim": config.dim,
        "epochs": config.epochs,
        "edges_seen": end.edges_seen,
        "final_loss": end.last_loss,
    }
    write_run_record(run_dir, fields)

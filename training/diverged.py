"""When the loss, or what was learnt, stops being a number: say so, and of a chunk that did it where it lies, by row."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle.arrays import save_array
from bundle.disk import write_text
from bundle.errors import Diverged
from training.buckets import Buckets
from training.chunks import Schedule
from training.edges import BucketEdges
from training.partition import BucketId

REMEDY = (
    "Train in another directory with a lower learning_rate (and relation_learning_rate, l2, init_scale, if they were "
    "set), or look for extreme edge weights."
)


def save_batch(
    path: Path,
    buckets: Buckets,
    bucket: BucketId,
    groups: tuple[BucketEdges, ...],
    schedule: Schedule,
    at: tuple[int, int],
) -> Diverged:
    """Write chunk at[0], of at[1] edges, to `path`: src and dst (rows of the prepared graph), rel. Gives the error."""
    edges = groups[schedule.group[at[0]]]
    start = int(schedule.start[at[0]])
    chosen = schedule.order[schedule.group[at[0]]][start : start + at[1]]
    source, target = buckets.partitionings[edges.source_type], buckets.partitionings[edges.target_type]
    path.mkdir(parents=True, exist_ok=True)
    save_array(path / "src.npy", source.rows(bucket.source)[edges.src[chosen]])
    save_array(path / "dst.npy", target.rows(bucket.target)[edges.dst[chosen]])
    save_array(path / "rel.npy", np.asarray(edges.rel[chosen]))
    about = {"bucket": list(bucket), "chunk": at[0], "seed": schedule.seed}
    write_text(path / "about.json", json.dumps(about) + "\n")
    return Diverged(
        f"The loss stopped being a finite number. Its {len(chosen)} edges are in {path} (rows of the graph), a "
        f"checkpoint is from before. {REMEDY}"
    )


def require_finite(array: npt.NDArray[np.floating], what: str) -> None:
    """Raise Diverged for values that are no numbers at the end of a training."""
    if not np.isfinite(array).all():
        raise Diverged(f"{what} stopped being finite numbers, though the loss did not. {REMEDY}")

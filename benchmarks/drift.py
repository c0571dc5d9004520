"""How far vectors move when a graph grows: a warm start beside training from another seed, and what each recommends.

    python benchmarks/drift.py [--data ../shared/data/ego-twitter] [--work DIR] [--set name=value ...]

1. nine tenths of the training edges, drawn by seed, are trained (entities without an edge are left out);
2. all of them are trained twice: started from (1), and from another seed;
3. both are compared with (1), and by recall on the held-out edges (query θu + θr).

With `--work` the runs stay there, and what is finished is not trained again.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

from benchmarks.parts import Kept, trained, write_smaller  # noqa: E402
from bundle.graph_record import COMMIT_FILE  # noqa: E402
from bundle.prepared import PreparedGraph, load_prepared  # noqa: E402
from bundle.run import open_run  # noqa: E402
from evaluation.baselines import top_rows  # noqa: E402
from evaluation.drift import TypeDrift, evaluate_drift  # noqa: E402
from evaluation.metrics import hit_ranks, recall  # noqa: E402
from evaluation.task import FollowTask, follow_task  # noqa: E402
from graph.prepare import prepare  # noqa: E402
from training.config import parse_config  # noqa: E402

I64 = npt.NDArray[np.int64]
CUTS = (10, 50)
OLD_SEED, OTHER_SEED, WARM_SEED = 2, 1, 3  # with seed 1 the default settings give the run of docs/results.md
USERS_BATCH = 256


def write_part(whole: PreparedGraph, path: Path, share: float, seed: int) -> PreparedGraph:
    """The prepared graph of a random share of each relation's training edges and of the entities that they touch."""
    rng = np.random.default_rng(seed)
    kept = {
        relation.index: np.sort(rng.permutation(len(relation.train))[: round(share * len(relation.train))])
        for relation in whole.relations
    }
    edges: Kept = {("edges", index): chosen for index, chosen in kept.items()}
    return write_smaller(whole, path, touched(whole, kept), edges, f"{share}-{seed}")


def touched(whole: PreparedGraph, kept: dict[int, I64]) -> dict[str, I64]:
    """Rows of each type that an edge of `kept` touches, ascending."""
    seen = {entity.name: np.zeros(entity.count, dtype=np.bool_) for entity in whole.entities}
    for relation in whole.relations:
        seen[relation.source][relation.train.src[kept[relation.index]]] = True
        seen[relation.target][relation.train.dst[kept[relation.index]]] = True
    return {name: np.flatnonzero(flags) for name, flags in seen.items()}


def recalls(run_dir: Path, task: FollowTask) -> list[float]:
    """Recall at 10 and 50 of `θu + θr` by exact search."""
    run = open_run(run_dir)
    relation = run.graph.relation(task.relation)
    users, targets = run.vectors[relation.source], np.asarray(run.vectors[relation.target])
    forward = run.relation_vectors[relation.index, 0]
    lists = top_rows(task, lambda rows: (users[rows] + forward) @ targets.T, task.users, max(CUTS))
    found = []
    for k in CUTS:
        values = []
        for user, ranked in zip(task.users.tolist(), lists, strict=True):
            relevant = task.relevant(user)
            values.append(recall(hit_ranks(ranked, relevant), len(relevant), k))
        found.append(float(np.mean(values)))
    return found


def show(name: str, old: Path, new: Path, task: FollowTask) -> None:
    """Print one run's rows: recall once, then movement by type and degree."""
    at10, at50 = recalls(new, task)
    print(f"\n{name}: recall@10 {at10:.4f}, recall@50 {at50:.4f}\n")
    print("| type | edges an entity | entities | L2 | relative | cosine | neighbours kept | changed cluster |")
    print("|---|---|---|---|---|---|---|---|")
    for drift in evaluate_drift(old, new).types:
        row(drift.entity_type, "all", drift, f"{drift.neighbour_overlap:.3f} | {drift.cluster_churn:.3f}")
        for part in drift.by_degree:
            to = "+" if part.to_degree is None else f"–{part.to_degree}"
            row("", f"{part.from_degree}{to}", part, " | ")


def row(kind: str, degrees: str, drift: object, rest: str) -> None:
    """Print one row of `show`."""
    moved = drift.movement  # type: ignore[attr-defined]
    numbers = f"{moved.l2_mean:.3f} | {moved.relative_l2_mean:.3f} | {moved.cosine_mean:.3f}"
    print(f"| {kind} | {degrees} | {moved.entities} | {numbers} | {rest} |")


def ratios(warm: Path, cold: Path, old: Path) -> None:
    """Print how many times further the other seed moved."""
    pairs = zip(evaluate_drift(old, warm).types, evaluate_drift(old, cold).types, strict=True)
    shown = [f"{a.entity_type} {further(a, b):.1f}" for a, b in pairs]
    print(f"\nL2 of the other seed over L2 of the warm start: {', '.join(shown)}")


def further(warm: TypeDrift, cold: TypeDrift) -> float:
    """How many times further the second moved."""
    return cold.movement.l2_mean / warm.movement.l2_mean


def main() -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "ego-twitter")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--share", type=float, default=0.9)
    parser.add_argument("--set", action="append", default=[], help="a setting of all three trainings")
    parser.add_argument("--warm", action="append", default=[], help="a setting of the warm start alone")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        compare(asked, asked.work or Path(directory))


def compare(asked: argparse.Namespace, work: Path) -> None:
    """The three runs and their tables."""
    settings = dict(item.split("=", 1) for item in asked.set)
    warm_settings = settings | dict(item.split("=", 1) for item in asked.warm)
    whole = prepare(asked.data / "graph.toml", work / "graph")
    part = work / "part"
    smaller = load_prepared(part) if (part / COMMIT_FILE).exists() else write_part(whole, part, asked.share, seed=1)
    old = trained("old", smaller, work, parse_config(settings | {"seed": OLD_SEED}, "--set"))
    cold = trained("cold", whole, work, parse_config(settings | {"seed": OTHER_SEED}, "--set"))
    label = "warm" + "".join(f" {item}" for item in asked.warm)
    warm = trained(label, whole, work, parse_config(warm_settings | {"seed": WARM_SEED}, "--set and --warm"), old)
    task = follow_task(whole, "test", np.random.default_rng(0))
    show("other seed", old, cold, task)
    show(label, old, warm, task)
    ratios(warm, cold, old)


if __name__ == "__main__":
    main()

"""Cold start: users removed from the graph before training, asked for as newcomers beside others who stayed in it.

    python -m benchmarks.newcomers [--data ../shared/data/ego-twitter] [--work DIR] [--seed 1] [--set name=value ...]

1. among users with 1, 3, 5 or 10 training follows and a held-out one, up to 400 of each number are drawn and removed
   from the prepared graph with every edge from and to them; up to 400 others of each number are drawn and stay;
2. a run is trained and a version built without the removed, both by the default settings;
3. the recommender is asked for those who stayed by name, and for the removed by their follows, with and without those
   who follow them. Shares divide the second by the first. Held-out edges to the removed count for nobody.

The seed draws the split, the users, the training and the build. With `--work` everything stays there, a directory a
seed, and what is finished is not done again. About 9 CPU minutes on ego-twitter.
"""

import argparse
import dataclasses
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.parts import PARTS, trained, write_smaller
from bundle.csr import Csr, csr_from_pairs, empty_csr
from bundle.graph_record import COMMIT_FILE
from bundle.prepared import PreparedGraph, load_prepared
from bundle.versions import list_versions
from cli.build import build_assessed
from cli.compose import open_recommender
from evaluation.learning.evidence import engagements_of
from evaluation.rows import Row, newcomer_row, strategy_row, vectors_under
from evaluation.task import FollowTask, follow_task
from graph.prepare import prepare
from recommend.recommender import Recommender
from training.config import parse_config

ROOT = Path(__file__).resolve().parent.parent
KNOWN = (1, 3, 5, 10)
USERS = 400
VERSION = "without"
METRICS = ("recall@10", "one_way_recall@10", "recall@50", "one_way_recall@50")
# The users are drawn by another stream than the split, whose seed is the number itself.
USERS_STREAM = 1000
Flags = npt.NDArray[np.bool_]
I64 = npt.NDArray[np.int64]


class Group(NamedTuple):
    """Users with the same number of training follows, by row."""

    removed: I64
    stayed: I64


class Question(NamedTuple):
    """One row of the table: a strategy, asked for those who stayed (`known`) or for the removed."""

    label: str
    strategy: str
    known: bool = False
    followers: bool = False


def draw(task: FollowTask, rng: np.random.Generator, users: int = USERS) -> dict[int, Group]:
    """For each number in KNOWN users to remove and as many others, at most `users` of each kind."""
    groups = {}
    for number in KNOWN:
        fit = rng.permutation(np.flatnonzero((task.train.degrees() == number) & (task.held_out.degrees() > 0)))
        half = min(users, len(fit) // 2)
        groups[number] = Group(np.sort(fit[:half]), np.sort(fit[half : 2 * half]))
    return groups


def flags_of(groups: Mapping[int, Group], n: int) -> Flags:
    """Marks the removed among `n` users."""
    gone = np.zeros(n, dtype=np.bool_)
    for group in groups.values():
        gone[group.removed] = True
    return gone


def remove(whole: PreparedGraph, path: Path, kind: str, gone: Flags, label: str) -> PreparedGraph:
    """Write `whole` without the entities `gone` of the type `kind` and without their edges, training and held out."""
    nobody = {entity.name: np.zeros(entity.count, dtype=np.bool_) for entity in whole.entities}
    absent = nobody | {kind: gone}
    kept = {}
    for relation in whole.relations:
        for part in PARTS:
            edges = relation.part(part)
            lost = absent[relation.source][edges.src] | absent[relation.target][edges.dst]
            kept[part, relation.index] = np.flatnonzero(~lost)
    return write_smaller(whole, path, {name: np.flatnonzero(~flags) for name, flags in absent.items()}, kept, label)


def numbered_as_left(task: FollowTask, gone: Flags) -> tuple[FollowTask, I64]:
    """The task by the rows of the smaller graph, and each user's new row: the removed come after all others.

    Held-out edges to the removed are left out: no version without them can find them.
    """
    place = np.empty(len(gone), dtype=np.int64)
    place[np.concatenate([np.flatnonzero(~gone), np.flatnonzero(gone)])] = np.arange(len(gone))
    left = int(np.count_nonzero(~gone))

    def moved(edges: Csr) -> Csr:
        rows = np.repeat(place, edges.degrees()).astype(np.int32)
        return csr_from_pairs(rows, place[edges.indices].astype(np.int32), len(edges))

    changed = dataclasses.replace(
        task,
        users=np.sort(place[task.users]),
        train=moved(task.train),
        train_by_target=moved(task.train_by_target),
        hidden=moved(task.hidden),
        held_out=below(moved(task.held_out), left),
    )
    return changed, place


def below(edges: Csr, limit: int) -> Csr:
    """The edges to columns below `limit`."""
    rows = np.repeat(np.arange(len(edges), dtype=np.int32), edges.degrees())
    fit = edges.indices < limit
    return csr_from_pairs(rows[fit], edges.indices[fit], len(edges))


def askable(task: FollowTask, users: I64, left: int) -> FollowTask:
    """The task for those of `users` who have a held-out edge and a follow to somebody who was not removed."""
    known = below(task.train, left).degrees()[users] > 0
    return task.of_users(users[known & (task.held_out.degrees()[users] > 0)])


def questions(auto: str, auto_newcomer: str) -> list[Question]:
    """What is asked of each group; the first and the second are what the others are held against."""
    return [
        Question("in training", auto, known=True),
        Question("in training, fold-in", "fold_in", known=True),
        Question("newcomers, followers named", auto_newcomer, followers=True),
        Question("newcomers, engagements alone", auto_newcomer),
        Question("newcomers, fold-in", "fold_in"),
    ]


def asked(recommender: Recommender, task: FollowTask, question: Question, left: int) -> Row:
    """Ask for every user of the task and measure the answers; rows from `left` on are unknown to the version."""
    vectors = vectors_under(recommender.bundle.space(), task.relation)
    if question.known:
        return strategy_row(task, recommender, question.strategy, vectors, 0)
    engagements = below(engagements_of(task), left)
    followers = below(task.train_by_target.take(task.users), left)
    told = followers if question.followers else empty_csr(len(task.users))
    return newcomer_row(task, recommender, engagements, told, question.strategy, vectors, 0)


def measure(recommender: Recommender, task: FollowTask, groups: Mapping[int, Group], left: int) -> None:
    """Print the table: a row for each number of follows and each question."""
    entry = recommender.bundle.space().entry
    heads = " | ".join(f"{metric} | share" for metric in METRICS)
    print(f"\n| follows | asked for | strategy | users | {heads} |\n|---|---|---|---|{'---|' * 2 * len(METRICS)}")
    for number, group in groups.items():
        stayed, removed = askable(task, group.stayed, left), askable(task, group.removed, left)
        references: dict[bool, Row] = {}
        for question in questions(entry.auto, entry.auto_newcomer or entry.auto):
            some = stayed if question.known else removed
            if not len(some.users):
                continue
            row = asked(recommender, some, question, left)
            folded = question.strategy == "fold_in"
            against = None if question.known else references.get(folded)
            if question.known:
                references[folded] = row
            cells = " | ".join(cell(row, against, metric) for metric in METRICS)
            print(f"| {number} | {question.label} | `{row.name}` | {len(some.users)} | {cells} |", flush=True)


def cell(row: Row, against: Row | None, metric: str) -> str:
    """A mean and, of newcomers, its share of `against` with the half width of about 95%, both samples drawn again."""
    mean = row.mean(metric)
    if against is None or not against.mean(metric):
        return f"{mean:.3f} | "
    share = mean / against.mean(metric)
    half = share * float(np.hypot(relative_half_width(row, metric), relative_half_width(against, metric)))
    return f"{mean:.3f} | {share:.2f} ±{half:.2f}"


def relative_half_width(row: Row, metric: str) -> float:
    """Half the bootstrap interval of a mean, as a share of it."""
    estimate = row.metrics[metric]
    if not estimate.mean or estimate.low is None or estimate.high is None:
        return float("nan")
    return (estimate.high - estimate.low) / 2 / estimate.mean


def everybody(recommender: Recommender, graph: PreparedGraph, seed: int) -> None:
    """Print what the version recommends to 2,000 of those whom it knows."""
    task = follow_task(graph, "test", np.random.default_rng(seed))
    print(f"\nOf {len(task.users):,} other users: {', '.join(METRICS)}")
    for name in ("blend", recommender.bundle.space().entry.auto):
        row = asked(recommender, task, Question("", name, known=True), graph.count("user"))
        print(f"`{name}`: {', '.join(f'{row.mean(metric):.3f}' for metric in METRICS)}", flush=True)


def with_seed(data: Path, work: Path, seed: int) -> Path:
    """A copy of the graph file with this seed of the split, beside links to the data."""
    copy = work / "data"
    copy.mkdir(parents=True, exist_ok=True)
    for file in data.iterdir():
        if file.name != "graph.toml" and not (copy / file.name).exists():
            (copy / file.name).symlink_to(file.resolve())
    text = (data / "graph.toml").read_text(encoding="utf-8")
    (copy / "graph.toml").write_text(re.sub(r"(?m)^seed = \d+$", f"seed = {seed}", text), encoding="utf-8")
    return copy / "graph.toml"


def built(run: Path, bundles: Path, seed: int) -> Recommender:
    """Build the version by default settings, or take the one that is there, and open it."""
    if VERSION not in list_versions(bundles):
        began = time.process_time()
        build_assessed(run, bundles, {"seed": seed}, version=VERSION)
        print(f"build: {time.process_time() - began:.0f} CPU-seconds", flush=True)
    return open_recommender(bundles / VERSION)


def main() -> None:
    """Remove, train, build, ask, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "ego-twitter")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="a setting of the training")
    told = parser.parse_args()
    settings = dict(item.split("=", 1) for item in told.set)
    with tempfile.TemporaryDirectory() as directory:
        work = (told.work or Path(directory)) / f"seed-{told.seed}"
        run_benchmark(told.data, work, told.seed, settings)


def run_benchmark(data: Path, work: Path, seed: int, settings: Mapping[str, object]) -> None:
    """Everything for one seed, below the directory `work`."""
    whole = prepare(with_seed(data, work, seed), work / "graph")
    relation = whole.split_relation()
    assert relation.source == relation.target, "the held-out relation must join users with users"
    task = follow_task(whole, "test", np.random.default_rng(seed), n_users=None, min_known=1)
    groups = draw(task, np.random.default_rng(USERS_STREAM + seed))
    gone = flags_of(groups, whole.count(relation.source))
    path = work / "part"
    done = (path / COMMIT_FILE).exists()
    part = load_prepared(path) if done else remove(whole, path, relation.source, gone, f"without-{gone.sum()}-{seed}")
    print(f"{gone.sum():,} of {len(gone):,} users removed", flush=True)
    run = trained("run", part, work, parse_config(dict(settings) | {"seed": seed}, "--set"))
    recommender = built(run, work / "bundles", seed)
    numbered, place = numbered_as_left(task, gone)
    renamed = {number: Group(place[group.removed], place[group.stayed]) for number, group in groups.items()}
    measure(recommender, numbered, renamed, part.count(relation.source))
    everybody(recommender, part, seed)


if __name__ == "__main__":
    main()

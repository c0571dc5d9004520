"""Builds with every setting at its default pass their own gates and are published, whatever relation is the default.

The demo's graph, tiny and lopsided ones, and, where they lie beside the checkout or at TWHIN_DATA, real graphs. Trained
shortly: a gate asks whether a version is what its vectors allow, not how good they are. Without the map, which no gate
looks at. With `long`, all data sets, all of their relations and three seeds each: hours. `python -m faults.gates GRAPH
…` tries some of it: so many relations of all sizes, so many seeds. With `--default-alone` nothing is learnt about other
relations than the default one, and little about codes, so that of a graph of hundreds each takes a fraction: the gates
of the indexes and of the default relation are the same.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from bundle.assessment import Assessments
from bundle.errors import TwhinError
from bundle.manifest import Gate
from bundle.progress import SILENT
from bundle.run import open_graph
from bundle.successor import compare
from bundle.versions import prune, publish
from cli.compose import assessor, open_recommender
from evaluation.learning.assess import assess_relation
from faults.outcome import Outcome
from graph.prepare import prepare
from graph.synthetic import generate
from index.builder.config import BuildConfig, CompressionConfig, MapConfig
from index.builder.version import Assess, BuiltVersion, build_version
from tests.support.graphs import Links, distinct_pairs, ids, write_run
from training.config import parse_config
from training.train import train

DATA = Path(os.environ.get("TWHIN_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
QUICK, EVERYTHING = ("lastfm", "fb15k-237"), ("lastfm", "fb15k-237", "ego-twitter")
TRAINING: dict[str, object] = {"epochs": 2, "negatives_uniform": 64}
# No gate looks at codes: few vectors may teach them; and under a limit on memory, however high, other sizes are not
# tried.
ROUGH_CODES = {"compression": CompressionConfig(training_vectors=256), "memory": 1 << 40}
# Enough for an index to be chosen: below 4,096 rows search is exact.
DEMO_USERS, QUICK_DEMO_USERS = 20_000, 6_000
QUICK_RELATIONS = 2
SEEDS = 3
TINY = ({"a": 1, "b": 2}, {"a": 10, "b": 1}, {"a": 60, "b": 10}, {"a": 2, "b": 300})
PROMISE = "builds with defaults pass their gates and are published"


def run(scratch: Path, seed: int, long: bool) -> Iterator[Outcome]:
    """One row a graph."""
    yield _tiny(scratch / "tiny", seed)
    seeds, most = (range(seed, seed + SEEDS), None) if long else ((seed,), QUICK_RELATIONS)
    yield _demo(scratch, seeds, DEMO_USERS if long else QUICK_DEMO_USERS, most)
    for name in EVERYTHING if long else QUICK:
        if (DATA / name / "graph.toml").exists():
            yield _graph(name, DATA / name / "graph.toml", scratch / name, seeds, most)
        else:
            print(f"gates: {name} is not at {DATA}: left out", flush=True)


@dataclass
class _Tally:
    """What became of the builds of one graph."""

    builds: int = 0
    refused: list[str] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    deepened: int = 0

    def build(self, run: Path, bundles: Path, config: BuildConfig, assess: Assess | None = None) -> None:
        """Build and publish once, by default learning as `twhin build` does; what refuses either is noted."""
        self.builds += 1
        try:
            name = f"v{self.builds}"
            assess = assess or assessor(run, config.seed, SILENT)
            built = build_version(run, bundles, config, version=name, assess=assess)
            self._measured(built)
            publish(bundles, name, judge=compare)
            prune(bundles, keep=1)
        except TwhinError as error:
            self.refused.append(f"{config.default_relation}, seed {config.seed}: {error}")

    def _measured(self, built: BuiltVersion) -> None:
        self.gates += built.manifest.evaluation.gates
        self.deepened += sum(len(each.missed) > 0 for each in built.searchers)

    def __str__(self) -> str:
        return f"{self.builds - len(self.refused)} of {self.builds} builds passed"

    def outcome(self, graph: str, relations: int) -> Outcome:
        """The row of the table."""
        recalls = [gate for gate in self.gates if gate.metric.startswith("recall")]
        least = min(recalls, key=lambda gate: gate.measured - gate.floor, default=None)
        margin = f", least margin {least.measured - least.floor:.4f} ({least.metric})" if least else ""
        figure = (
            f"{self.builds - len(self.refused)} of {self.builds}, {relations} relations as the default; "
            f"{len(self.gates)} gates{margin}; {self.deepened} searchers gave way to deeper ones"
        )
        for words in self.refused:
            print(f"gates: {graph}: {words}", flush=True)
        return Outcome(f"{graph}: {PROMISE}", figure, not self.refused)


def _demo(scratch: Path, seeds: Sequence[int], users: int, most: int | None, *, alone: bool = False) -> Outcome:
    graph = generate(scratch / "graph", n_users=users, seed=seeds[0])
    return _graph("the demo's graph", graph, scratch / "demo", seeds, most, alone=alone)


def _graph(
    name: str, graph: Path, scratch: Path, seeds: Sequence[int], most: int | None, *, alone: bool = False
) -> Outcome:
    """Every relation, or a seeded few of all sizes, as the default; the seeds are those of training and building both.

    Another seed is another few. With `alone` it is learnt about the default relation and no other.
    """
    tally, tried = _Tally(), set()
    for each in seeds:
        run = scratch / f"run-{each}"
        settings = parse_config({**TRAINING, "seed": each}, "the campaign")
        train(prepare(graph, run / "graph", SILENT), run, settings)
        by_size = [one.name for one in sorted(open_graph(run).relations, key=lambda one: len(one.train))]
        groups = np.array_split(np.arange(len(by_size)), min(most or len(by_size), len(by_size)))
        rng = np.random.default_rng(each)
        for relation in [by_size[rng.choice(group)] for group in groups]:
            tried.add(relation)
            config = BuildConfig(default_relation=relation, seed=each, map=MapConfig(points=0))
            assess = None
            if alone:
                config = config.model_copy(update=ROUGH_CODES)
                assess = partial(_default_alone, run, relation, each)
            tally.build(run, scratch / "bundles", config, assess)
            print(
                f"gates: {name}, seed {each}, {relation}: {tally}, {time.process_time():.0f} s of CPU time", flush=True
            )
        shutil.rmtree(run)
    return tally.outcome(name, len(tried))


def _default_alone(run: Path, relation: str, seed: int, staged: Path) -> Assessments:
    return {relation: assess_relation(open_recommender(staged), open_graph(run), relation, seed)}


def _tiny(scratch: Path, seed: int) -> Outcome:
    """Types of one, two or ten entities; relations without held-out edges, or whose users have no others."""
    tally, tried = _Tally(), 0
    for number, sizes in enumerate(TINY):
        rng = np.random.default_rng([seed, number])
        links = []
        for source, n in sizes.items():
            for target, m in sizes.items():
                pairs = distinct_pairs(n, m, min(n * m, 3 * n), rng)
                cut = int(rng.integers(0, len(pairs) // 2 + 1))
                links.append(Links(f"{source}_{target}", source, target, edges=pairs[cut:], valid=pairs[:cut]))
        run = write_run(scratch / f"run-{number}", {name: ids(n) for name, n in sizes.items()}, links, seed=seed)
        for link in links:
            tried += 1
            tally.build(run, scratch / "bundles", BuildConfig(default_relation=link.name, seed=seed))
    return tally.outcome("graphs of one to 310 entities", tried)


def main() -> int:
    """Try the graphs that are named and print a row for each; 1 where a build did not pass."""
    parser = argparse.ArgumentParser(prog="python -m faults.gates", description=__doc__)
    parser.add_argument("graphs", nargs="+", choices=("demo", *EVERYTHING), metavar="GRAPH", help="demo, or a data set")
    parser.add_argument("--relations", type=int, metavar="N", help="as the default one, of all sizes (default: all)")
    parser.add_argument("--default-alone", action="store_true", help="learn about the default relation and no other")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"how many (default {SEEDS})")
    parser.add_argument("--seed", type=int, default=1, help="the first of them (default 1)")
    options = parser.parse_args()
    seeds, held = range(options.seed, options.seed + options.seeds), True
    for name in options.graphs:
        with tempfile.TemporaryDirectory(prefix="twhin-faults-gates-") as folder:
            scratch = Path(folder)
            found = (
                _demo(scratch, seeds, DEMO_USERS, options.relations, alone=options.default_alone)
                if name == "demo"
                else _graph(
                    name, DATA / name / "graph.toml", scratch, seeds, options.relations, alone=options.default_alone
                )
            )
        print(f"| {found.promise} | {found.figure} | {'yes' if found.held else '**no**'} |", flush=True)
        held = held and found.held
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())

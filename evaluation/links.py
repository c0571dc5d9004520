"""Link prediction: where the true end of each held-out edge ranks among all entities; known edges are removed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64, Int64

from bundle.csr import csr_from_pairs
from bundle.errors import UsageError
from bundle.prepared import PreparedGraph, PreparedRelation
from bundle.progress import SILENT, Progress
from bundle.records import Record
from bundle.run import Run, open_run

Part = Literal["valid", "test"]
Direction = Literal["target", "source"]
I32 = npt.NDArray[np.int32]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
SCORES_AT_ONCE = 16 * 2**20


class Metrics(Record):
    """Filtered ranking quality over `edges` questions, each with one right answer."""

    mrr: float
    hits_at_1: float
    hits_at_3: float
    hits_at_10: float
    mean_rank: float
    edges: int


class RelationMetrics(Record):
    """One relation's quality, by the end that was asked for."""

    relation: str
    target: Metrics
    source: Metrics


class LinkReport(Record):
    """What `twhin evaluate links` prints: both directions together and apart; baselines rank the same questions."""

    part: Part
    overall: Metrics
    target: Metrics
    source: Metrics
    degree: Metrics
    random: Metrics
    relations: tuple[RelationMetrics, ...]


@dataclass(frozen=True, slots=True)
class Ranks:
    """Ranks of the right answers, from 1, ties at their mean; and how many candidates each question had."""

    model: Float64[npt.NDArray[np.float64], " q"]
    degree: Float64[npt.NDArray[np.float64], " q"]
    candidates: Int64[I64, " q"]


@dataclass(frozen=True, slots=True)
class KnownNeighbours:
    """What the filtered protocol removes from the candidates, by the end that a question starts from.

    Row v's known neighbours are `neighbour[offsets[v]:offsets[v + 1]]`; `degree` is each neighbour's in training.
    """

    offsets: Int64[I64, " n_plus_1"]
    neighbour: Int64[I64, " e"]
    degree: Int64[I64, " m"]

    def counts(self, rows: npt.NDArray[np.integer]) -> Int64[I64, " q"]:
        """How many neighbours each of `rows` is known to have."""
        counts: I64 = self.offsets[rows.astype(np.int64) + 1] - self.offsets[rows]
        return counts

    def pairs(self, rows: npt.NDArray[np.integer]) -> tuple[I64, I64]:
        """Every (position in `rows`, neighbour) that is known."""
        counts = self.counts(rows)
        owner = np.repeat(np.arange(len(rows), dtype=np.int64), counts)
        ends = np.cumsum(counts)
        within = np.arange(len(owner), dtype=np.int64) - np.repeat(ends - counts, counts)
        return owner, self.neighbour[np.repeat(self.offsets[rows], counts) + within]


def evaluate_links(
    run_dir: Path,
    *,
    part: Part = "test",
    max_edges: int | None = None,
    max_edges_in_all: int | None = None,
    seed: int = 1,
    without_self: bool = False,
    progress: Progress = SILENT,
) -> LinkReport:
    """Rank every held-out edge's true target among all entities of its type by eq. 1, and likewise its source.

    Known edges of any part are removed from the candidates, the asked one excepted. `max_edges` takes a sample of
    that many edges a relation, `max_edges_in_all` one of that many of all relations. `without_self` takes the asked
    entity from its own candidates: no edge leads from an entity to itself, and by a dot product most are nearest to
    themselves; published protocols leave it in. Memory is bounded: at most 64 MiB of scores at once.
    Raises RunIncomplete or RunError for a bad run directory, UsageError when no edge was held out.
    """
    run = open_run(run_dir, progress)
    relations = [relation for relation in run.graph.relations if len(_held_out(relation, part)[0])]
    if not relations:
        raise UsageError(f"{run_dir} {run.graph.nothing_held_out(part)}")
    rng = np.random.default_rng(seed)
    counts = _sample_sizes([len(_held_out(relation, part)[0]) for relation in relations], max_edges_in_all, rng)
    by_relation: dict[str, dict[Direction, Ranks]] = {}
    with progress.stage("link prediction", len(relations), "relations") as stage:
        for relation, count in zip(relations, counts, strict=True):
            most = count if max_edges is None else min(count, max_edges)
            if most:
                by_relation[relation.name] = _rank_relation(run, relation, part, most, without_self, rng)
            stage.advance()
    return _report(part, by_relation)


def _sample_sizes(held_out: list[int], in_all: int | None, rng: np.random.Generator) -> list[int]:
    """How many edges of each relation a sample of all has, drawn without replacement."""
    if in_all is None or in_all >= sum(held_out):
        return held_out
    drawn: list[int] = rng.multivariate_hypergeometric(held_out, in_all).tolist()
    return drawn


def mean_ranks(
    scores: Float32[F32, "q n"], truth: Int64[I64, " q"], known: tuple[I64, I64]
) -> Float64[npt.NDArray[np.float64], " q"]:
    """Rank of column truth[i] in row i from 1, ties at their mean; pairs in `known` are no candidates.

    `scores` is overwritten. A score that is no number counts as above, so a broken model never looks good.
    """
    own = scores[np.arange(len(truth)), truth].copy()
    scores[known] = -np.inf
    scores[np.arange(len(truth)), truth] = own
    below = np.count_nonzero(scores < own[:, None], axis=1)
    level = np.count_nonzero(scores == own[:, None], axis=1)
    ranks: npt.NDArray[np.float64] = 1.0 + (scores.shape[1] - below - level) + np.maximum(level - 1, 0) / 2.0
    return ranks


def metrics(ranks: Float64[npt.NDArray[np.float64], " q"]) -> Metrics:
    """The usual summary of ranks."""
    return Metrics(
        mrr=float(np.mean(1.0 / ranks)),
        hits_at_1=float(np.mean(ranks <= 1)),
        hits_at_3=float(np.mean(ranks <= 3)),
        hits_at_10=float(np.mean(ranks <= 10)),
        mean_rank=float(np.mean(ranks)),
        edges=len(ranks),
    )


def random_metrics(candidates: Int64[I64, " q"]) -> Metrics:
    """What a random order is expected to reach with so many candidates a question."""
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, candidates.max() + 1))])

    def hits(k: int) -> float:
        return float(np.mean(np.minimum(k, candidates) / candidates))

    return Metrics(
        mrr=float(np.mean(harmonic[candidates] / candidates)),
        hits_at_1=hits(1),
        hits_at_3=hits(3),
        hits_at_10=hits(10),
        mean_rank=float(np.mean((candidates + 1) / 2)),
        edges=len(candidates),
    )


def _held_out(relation: PreparedRelation, part: Part) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    edges = relation.test if part == "test" else relation.valid
    return edges.src.astype(np.int32), edges.dst.astype(np.int32)


def known_neighbours(
    relation: PreparedRelation, graph: PreparedGraph, *, loops: bool = False
) -> tuple[KnownNeighbours, KnownNeighbours]:
    """All training, validation and test edges of a relation, by source and by target, without repeats.

    An edge of a symmetric relation counts both ways. With `loops` every entity of a relation within one type is known
    to be its own neighbour.
    """
    parts = (relation.train, relation.valid, relation.test)
    pairs = [pair for part in parts for pair in part.directed(relation.symmetric)]
    if loops and relation.source == relation.target:
        everyone = np.arange(graph.count(relation.source), dtype=np.int32)
        pairs.append((everyone, everyone))
    src, dst = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    trained = relation.train.directed(relation.symmetric)
    out, into = (np.concatenate(ends) for ends in zip(*trained, strict=True))
    sizes = graph.count(relation.source), graph.count(relation.target)
    by_source = _known(src, dst, sizes[0], np.bincount(into, minlength=sizes[1]))
    return by_source, _known(dst, src, sizes[1], np.bincount(out, minlength=sizes[0]))


def _known(rows: I32, neighbours: I32, n_rows: int, degree: I64) -> KnownNeighbours:
    edges = csr_from_pairs(rows, neighbours, n_rows, distinct=True)
    return KnownNeighbours(edges.indptr, edges.indices.astype(np.int64), degree.astype(np.int64))


def _rank_relation(
    run: Run,
    relation: PreparedRelation,
    part: Part,
    max_edges: int,
    without_self: bool,
    rng: np.random.Generator,
) -> dict[Direction, Ranks]:
    src, dst = _held_out(relation, part)
    if len(src) > max_edges:
        sample = rng.choice(len(src), max_edges, replace=False)
        src, dst = src[sample], dst[sample]
    by_source, by_target = known_neighbours(relation, run.graph, loops=without_self)
    vectors = run.vectors[relation.source], run.vectors[relation.target]
    forward, inverse = run.relation_vectors[relation.index]
    return {
        "target": _rank(vectors[0], forward, vectors[1], src, dst, by_source),
        "source": _rank(vectors[1], inverse, vectors[0], dst, src, by_target),
    }


def _rank(
    queries: F32,
    translation: Float32[F32, " d"],
    candidates: F32,
    questions: npt.NDArray[np.int32],
    truth: npt.NDArray[np.int32],
    known: KnownNeighbours,
) -> Ranks:
    model, degree, count = [], [], []
    popularity = known.degree.astype(np.float32)
    for block in _blocks(len(questions), len(candidates)):
        pairs = known.pairs(questions[block])
        right = truth[block].astype(np.int64)
        query: F32 = queries[questions[block]] + translation
        model.append(mean_ranks(np.asarray(query @ candidates.T, dtype=np.float32), right, pairs))
        popular = np.broadcast_to(popularity, (len(right), len(popularity))).copy()
        degree.append(mean_ranks(popular, right, pairs))
        count.append(len(candidates) - known.counts(questions[block]) + 1)
    return Ranks(np.concatenate(model), np.concatenate(degree), np.concatenate(count))


def _blocks(n: int, width: int) -> Iterator[slice]:
    size = max(1, SCORES_AT_ONCE // max(1, width))
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))


def _report(part: Part, by_relation: dict[str, dict[Direction, Ranks]]) -> LinkReport:
    targets = [ranks["target"] for ranks in by_relation.values()]
    sources = [ranks["source"] for ranks in by_relation.values()]
    everything = targets + sources
    return LinkReport(
        part=part,
        overall=metrics(np.concatenate([ranks.model for ranks in everything])),
        target=metrics(np.concatenate([ranks.model for ranks in targets])),
        source=metrics(np.concatenate([ranks.model for ranks in sources])),
        degree=metrics(np.concatenate([ranks.degree for ranks in everything])),
        random=random_metrics(np.concatenate([ranks.candidates for ranks in everything])),
        relations=tuple(
            RelationMetrics(relation=name, target=metrics(ranks["target"].model), source=metrics(ranks["source"].model))
            for name, ranks in by_relation.items()
        ),
    )

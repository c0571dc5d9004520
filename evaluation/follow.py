"""Candidates of one relation: every strategy of a version beside the simple baselines, on the same held-out edges."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from pydantic import ConfigDict, Field

from bundle.progress import SILENT, Progress
from bundle.records import Record
from bundle.run import Run
from evaluation.baselines import Baseline, baselines
from evaluation.newcomers import NewcomerRow, newcomer_rows
from evaluation.rows import Row, Vectors, baseline_row, strategy_row
from evaluation.task import FollowTask, also_trained, follow_task
from recommend.plan import auto_under, strategies_of
from recommend.protocol import RowRecommender
from recommend.recommender import Recommender
from recommend.types import AUTO


class RelationOffer(NamedTuple):
    """How a relation can be asked for: the names of its strategies, and which of them answer users and newcomers by
    default.
    """

    strategies: tuple[str, ...]
    auto: str
    auto_newcomer: str | None


class Offer(NamedTuple):
    """What a version or a service offers: the graph it comes from, its default relation, all its relations."""

    version: str
    graph_digest: str
    relation: str
    relations: Mapping[str, RelationOffer]


def offer_of(recommender: Recommender) -> Offer:
    """What an opened version offers in its first space."""
    manifest = recommender.bundle.manifest
    space = recommender.bundle.space()
    relations = {}
    for name in space.relations:
        own = space.entry.answers(name)
        newcomer = None if own is None else own.auto_newcomer
        relations[name] = RelationOffer(tuple(strategies_of(space, name)), auto_under(space, name), newcomer)
    return Offer(manifest.version, manifest.lineage.graph_digest, space.entry.default.relation, relations)


class FollowReport(Record):
    """Everything measured on one task. `newcomers` are users with few engagements, as training knows them and as if it
    did not.

    Of the relation's `held_out_edges`, `also_trained` are training edges too, which no list can contain. Of those of
    both parts, `unseen_share` have an end that no training edge has; None where the run does not say.
    `auto_newcomer` is the default for those whom training does not know, where it is another one.
    """

    # The report's own name for its newcomers is what report.json has had from the start.
    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    version: str | None = None
    relation: str
    held_out: Literal["test", "valid"]
    users: int
    seed: int
    held_out_edges: int = 0
    also_trained: int = 0
    unseen_share: float | None = None
    auto: str | None
    auto_newcomer: str | None = None
    rows: tuple[Row, ...]
    newcomers: tuple[NewcomerRow, ...] = Field(default=(), validation_alias="cold", serialization_alias="cold")

    def row(self, name: str) -> Row:
        """The row of one method. Raises KeyError."""
        return {row.name: row for row in self.rows}[name]


def evaluate_follow(
    run: Run,
    recommender: RowRecommender,
    offer: Offer,
    *,
    relation: str | None = None,
    held_out: Literal["test", "valid"] = "test",
    users: int = 2000,
    seed: int = 1,
    with_ease: bool = True,
    progress: Progress = SILENT,
) -> FollowReport:
    """Ask a recommender by every strategy of its `offer` for a sample of the users with held-out edges in `run`, and
    for users with few engagements, as newcomers too.

    Of `relation`, by default the version's own where that has held-out edges, else the first that has. Raises
    UsageError when the run holds out nothing.
    """
    rng = np.random.default_rng(seed)
    task = follow_task(run.graph, held_out, rng, relation=relation or _measurable(run, offer, held_out), n_users=users)
    vectors = run.vectors[run.graph.relation(task.relation).target]
    methods = baselines(task, np.random.default_rng(seed), with_ease=with_ease)
    answers = offer.relations[task.relation]
    report = follow_report(
        task,
        recommender,
        answers.strategies,
        methods,
        vectors,
        held_out=held_out,
        auto=answers.auto,
        seed=seed,
        progress=progress,
    )
    newcomers = newcomer_rows(task, recommender, AUTO, vectors, rng, progress=progress)
    measured = run.graph.relation(task.relation)
    return report.model_copy(
        update={
            "version": offer.version,
            "newcomers": newcomers,
            "auto_newcomer": answers.auto_newcomer,
            "held_out_edges": len(measured.part(held_out)),
            "also_trained": also_trained(measured, held_out),
            "unseen_share": measured.unseen_share,
        }
    )


def _measurable(run: Run, offer: Offer, held_out: Literal["test", "valid"]) -> str:
    if held_out == "valid" or len(run.graph.relation(offer.relation).test):
        return offer.relation
    return run.graph.split_relation().name


def follow_report(
    task: FollowTask,
    recommender: RowRecommender,
    strategies: Sequence[str],
    baselines: Sequence[Baseline],
    vectors: Vectors,
    *,
    held_out: Literal["test", "valid"] = "test",
    auto: str | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> FollowReport:
    """Measure every strategy and every baseline. `vectors` are the targets' embeddings, for diversity alone."""
    rows: list[Row] = []
    with progress.stage("Measuring candidates", len(strategies) + len(baselines), "methods") as bar:
        for name in strategies:
            rows.append(strategy_row(task, recommender, name, vectors, seed))
            bar.advance()
        for baseline in baselines:
            rows.append(baseline_row(task, baseline, vectors, seed))
            bar.advance()
    return FollowReport(
        relation=task.relation,
        held_out=held_out,
        users=len(task.users),
        seed=seed,
        auto=auto,
        rows=tuple(rows),
    )

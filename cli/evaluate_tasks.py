"""`twhin evaluate compression` and `twhin evaluate ranking`: what a version's vectors are worth to others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import JsonFlag, emit, line, table
from cli.progress import progress
from cli.report import ReportOption, write
from cli.versions import BundlesOption, resolve

if TYPE_CHECKING:
    from bundle.space import EntityTable
    from evaluation.compression import CompressionReport
    from evaluation.ranking import RankingReport, Vectors

RunOption = Annotated[
    Path, typer.Option("--run", help="The run directory, which has the held-out edges.", metavar="DIR")
]
VersionOption = Annotated[str, typer.Option(help="The version to measure.")]
SeedOption = Annotated[int, typer.Option(help="Seed of every sample.", min=0)]


def compression(
    run: RunOption,
    users: Annotated[int, typer.Option(help="How many users to ask for.", min=1)] = 1000,
    loss_budget: Annotated[float, typer.Option(help="Relative fall of recall@50 that is still fine.", min=0)] = 0.02,
    seed: SeedOption = 1,
    report: ReportOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Compress a run's vectors 8 to 64 times, measure what is lost, and advise a code size (the paper's figure 4)."""
    import numpy as np

    from bundle.run import open_run
    from evaluation.compression import follow_recall, sweep
    from evaluation.task import follow_task
    from index.build.compression import Learner

    opened = open_run(run)
    task = follow_task(opened.graph, "test", np.random.default_rng(seed), n_users=users)
    relation = opened.graph.relation(task.relation)
    forward = opened.relation_vectors[relation.index, 0]
    vectors = opened.vectors[relation.target]
    found = sweep(
        relation.target,
        vectors,
        opened.vectors[relation.source][task.users] + forward,
        Learner(training_vectors=65_536, seed=seed),
        follow_recall(task, forward),
        loss_budget=loss_budget,
        progress=progress(),
    )
    write(report, "Compression", compression=(found,))
    emit(found, as_json, lambda: _show_compression(found))


def ranking(
    run: RunOption,
    bundles: BundlesOption,
    version: VersionOption = "current",
    relation: Annotated[
        str | None, typer.Option(help="What is predicted; the relation of the split otherwise.")
    ] = None,
    seed: SeedOption = 1,
    report: ReportOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Do frozen embeddings help a ranking model? Small models predict held-out edges with and without them.

    They learn on the validation edges and are measured on the test edges: relative cross entropy, ROC-AUC, PR-AUC, MAP.
    """
    import numpy as np

    from bundle.reader import open_bundle
    from bundle.run import open_graph
    from bundle.versions import version_path
    from evaluation.ranking import examples_from_graph, feature_sets, ranking_report

    graph = open_graph(run)
    ends = graph.split_relation() if relation is None else graph.relation(relation)
    space = open_bundle(version_path(bundles, resolve(bundles, version))).space()
    users, items = space.table(ends.source), space.table(ends.target)
    tables = {
        "raw": (users.embeddings, items.embeddings),
        "decoded": (_decoded(users), _decoded(items)),
    }
    rng = np.random.default_rng(seed)
    train = examples_from_graph(graph, ends.name, "valid", rng)
    test = examples_from_graph(graph, ends.name, "test", rng)
    found = ranking_report(
        f"does a {ends.source} have an edge {ends.name}", train, test, feature_sets(tables), seed=seed
    )
    write(report, "Ranking features", ranking=(found,))
    emit(found, as_json, lambda: _show_ranking(found))


def _decoded(entities: "EntityTable") -> "Vectors":
    """The vectors as a ranker gets them from /v1/features; the raw ones for a type that is not compressed."""
    if entities.quantizer is None or entities.codes is None:
        return entities.embeddings
    return entities.quantizer.decode(entities.codes)


def _show_compression(report: "CompressionReport") -> None:
    columns = ("bytes", "ratio", "OPQ", "MSE", "cosine", "recall@100", report.task, "loss")
    rows = [
        [
            row.subquantizers,
            row.ratio,
            row.rotated,
            row.mse,
            row.cosine,
            row.recall_at_100,
            row.task_recall,
            row.task_loss,
        ]
        for row in sorted(report.rows, key=lambda row: (row.ratio, row.rotated))
    ]
    table(
        f"{report.vectors:,} {report.entity_type} vectors of {report.dim}; uncompressed {report.uncompressed:.4f}",
        columns,
        rows,
    )
    if report.advised is None:
        line(f"No code keeps the loss within {report.loss_budget:.1%}.")
    else:
        kind = "OPQ" if report.advised.rotated else "PQ"
        line(f"Advised: {kind} with {report.advised.subquantizers} bytes, {report.advised.ratio:g} times smaller.")


def _show_ranking(report: "RankingReport") -> None:
    names = list(report.rows[0].metrics)
    rows = [[row.features, row.model, *(row.metrics[name].mean for name in names)] for row in report.rows]
    table(
        f"{report.task}: {report.train:,} examples to learn from, {report.test:,} to test",
        ("features", "model", *names),
        rows,
    )

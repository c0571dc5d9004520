"""`twhin evaluate mixtures`: a mixture of interests against one vector, over numbers of clusters and modes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.evaluate.options import RunOption, SeedOption, VersionOption
from cli.evaluate.report import ReportOption, write
from cli.output import JsonFlag, counted, emit, line, table
from cli.progress import progress
from cli.versions import BundlesOption, path_of

if TYPE_CHECKING:
    from evaluation.mixtures import MixtureReport

METRICS = ("recall@10", "one_way_recall@10", "recall@50", "one_way_recall@50", "diversity@10", "coverage@10")


def mixtures(
    run: RunOption,
    bundles: BundlesOption,
    version: VersionOption = "current",
    users: Annotated[int, typer.Option(help="How many users to ask for.", min=1)] = 500,
    clusters: Annotated[
        list[int] | None, typer.Option(help="A number of clusters to try; a quarter, once and four times √n otherwise.")
    ] = None,
    seed: SeedOption = 1,
    report: ReportOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Does a mixture of interests pay? Centroid, medoid, personal and blended modes beside single vectors (table 1)."""
    from evaluation.report.words import sweep_in_words

    path = path_of(bundles, version)
    measured = measure_mixtures(run, path, users, seed, clusters)
    asked = {"users": users, "clusters": clusters, "seed": seed}
    emit(measured, as_json, lambda: _show(measured, sweep_in_words(measured)))
    write(report, "A mixture against one vector", asked, run=run, version=path, mixtures=measured)


def measure_mixtures(
    run: Path, version: Path, users: int, seed: int, clusters: list[int] | None = None
) -> "MixtureReport":
    """Cluster a version's vectors anew for each number, and measure on the run's held-out edges."""
    import numpy as np

    from bundle.run import open_graph
    from cli.compose import open_recommender, require_same_graph
    from evaluation.mixtures import mixture_report
    from evaluation.task import follow_task
    from index.builder.recluster import recluster

    graph, recommender = open_graph(run, progress()), open_recommender(version)
    require_same_graph(graph, recommender.bundle.manifest.lineage.graph_digest, str(version))
    space = recommender.bundle.space()
    task = follow_task(graph, "test", np.random.default_rng(seed), n_users=users)
    relation = space.relation(task.relation)
    default = space.clusters.interests_in(relation.entry.target).entry.count
    return mixture_report(
        task,
        recommender,
        lambda count: recluster(space, relation, count, seed),
        sorted({*(clusters or (max(2, default // 4), default, 4 * default))}),
        seed=seed,
        progress=progress(),
    )


def _show(report: "MixtureReport", words: str) -> None:
    from evaluation.rows import metrics_of

    metrics = metrics_of(METRICS, [*(one.row for one in report.mixtures), *report.singles])
    rows: list[list[object]] = [[one.name, *(one.row.mean(name) for name in metrics)] for one in report.mixtures]
    rows += [[row.name, *(row.mean(name) for name in metrics)] for row in report.singles]
    table(f"{report.relation}: {counted(report.users, 'user')}", ("", *metrics), rows)
    line(words)

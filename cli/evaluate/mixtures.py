"""`twhin evaluate mixtures`: a mixture of interests against one vector, over numbers of clusters and modes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.evaluate.compression import RunOption, SeedOption
from cli.evaluate.report import ReportOption, write
from cli.output import JsonFlag, emit, line, table
from cli.progress import progress
from cli.versions import BundlesOption, resolve

if TYPE_CHECKING:
    import numpy.typing as npt

    from cli.compose import Reclustered
    from evaluation.mixtures import MixtureReport

METRICS = ("recall@10", "one_way_recall@10", "recall@50", "one_way_recall@50", "diversity@10", "coverage@10")


def mixtures(
    run: RunOption,
    bundles: BundlesOption,
    version: Annotated[str, typer.Option(help="The version to measure.")] = "current",
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

    found = mixtures_part(run, bundles, version, users, seed, clusters)
    write(report, "A mixture against one vector", mixtures=found)
    emit(found, as_json, lambda: _show(found, sweep_in_words(found)))


def mixtures_part(
    run: Path, bundles: Path, version: str, users: int, seed: int, clusters: list[int] | None = None
) -> "MixtureReport":
    """Cluster a version's vectors anew for each number, and measure on the run's held-out edges."""
    import numpy as np

    from bundle.manifest import QueryWeights
    from bundle.reader import open_bundle
    from bundle.run import open_graph
    from bundle.versions import version_path
    from cli.compose import reclustered
    from cli.lineage import require_same_graph
    from evaluation.mixtures import mixture_report
    from evaluation.task import follow_task

    graph, path = open_graph(run), version_path(bundles, resolve(bundles, version))
    require_same_graph(graph, path)
    task = follow_task(graph, "test", np.random.default_rng(seed), n_users=users)
    bundle = open_bundle(path)
    strategies = bundle.space().entry.strategies
    mixture = strategies.get("mixture_blend")
    blended = QueryWeights(fold_in=0.5, mode=0.5, relation=1.0) if mixture is None else mixture.weights
    default = bundle.space().entry.clusters.count

    def cluster(count: int, users: "npt.NDArray[np.int64]") -> "Reclustered":
        return reclustered(bundle, task.relation, count, users, seed)

    return mixture_report(
        task,
        cluster,
        sorted({*(clusters or (max(2, default // 4), default, 4 * default))}),
        {name: strategies[name] for name in ("unimodal", "fold_in", "blend") if name in strategies},
        blended,
        bundle.space().table(bundle.space().relation(task.relation).entry.target).embeddings,
        seed=seed,
        progress=progress(),
    )


def _show(report: "MixtureReport", words: str) -> None:
    rows: list[list[object]] = [[one.name, *(one.row.mean(name) for name in METRICS)] for one in report.mixtures]
    rows += [[row.name, *(row.mean(name) for name in METRICS)] for row in report.singles]
    table(f"{report.relation}: {report.users:,} users", ("", *METRICS), rows)
    line(words)

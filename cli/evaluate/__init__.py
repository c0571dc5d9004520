"""`twhin evaluate`: what a run or a version is worth."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from bundle.errors import UsageError
from cli.evaluate.compression import RunOption, SeedOption, compression, compression_part
from cli.evaluate.mixtures import mixtures, mixtures_part
from cli.evaluate.ranking import ranking, ranking_part
from cli.evaluate.report import ReportOption, require_writable, write
from cli.output import JsonFlag, emit, table
from cli.progress import progress
from cli.versions import BundlesOption, resolve

if TYPE_CHECKING:
    from bundle.prepared import PreparedGraph
    from evaluation.cold import Asked
    from evaluation.drift import DriftReport
    from evaluation.follow import Estimate, FollowReport, Recommend, RecommendNewcomers, Row
    from evaluation.links import LinkReport

app = typer.Typer(help="Measure a run or a version against baselines.", no_args_is_help=True)
app.command()(compression)
app.command()(mixtures)
app.command()(ranking)


class Part(StrEnum):
    """Which held-out edges to measure on."""

    test = "test"
    valid = "valid"


@app.command()
def links(
    run: Annotated[Path, typer.Argument(help="The run directory that `twhin train` wrote.", metavar="RUN_DIR")],
    part: Annotated[Part, typer.Option(help="Which held-out edges to rank.")] = Part.test,
    max_edges: Annotated[int | None, typer.Option(help="Rank a sample of so many edges a relation.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sample.", min=0)] = 1,
    without_self: Annotated[
        bool,
        typer.Option("--without-self", help="No entity is its own candidate, as where nobody follows themselves."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Link prediction: filtered MRR and Hits@1/3/10 of held-out edges, both ends, beside random and degree order."""
    from evaluation.links import evaluate_links

    report = evaluate_links(
        run, part=part.value, max_edges=max_edges, seed=seed, without_self=without_self, progress=progress()
    )
    emit(report, as_json, lambda: _show_links(report))


@app.command()
def follow(
    run: RunOption,
    bundles: Annotated[Path | None, typer.Option("--bundles", help="Directory of versions.", metavar="DIR")] = None,
    version: Annotated[str, typer.Option(help="The version to measure.")] = "current",
    url: Annotated[
        str | None, typer.Option("--url", help="Measure a running service instead, such as http://127.0.0.1:8000.")
    ] = None,
    part: Annotated[Part, typer.Option(help="Which held-out edges the lists should contain.")] = Part.test,
    users: Annotated[int, typer.Option(help="How many users to ask for.", min=1)] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the sample of users.", min=0)] = 1,
    report: ReportOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Whom to follow: recall of every strategy of a version on held-out edges, beside the simple baselines.

    The version is named by --bundles and --version, or is the one that the service at --url serves.
    """
    found = follow_part(run, bundles, version, url, part, users, seed)
    write(report, "Whom to follow", follow=found)
    emit(found, as_json, lambda: _show_follow(found))


@app.command(name="all")
def everything(
    run: RunOption,
    bundles: BundlesOption,
    report: Annotated[
        Path,
        typer.Option(
            "--report",
            help="Where report.html and report.json are written.",
            metavar="DIR",
            callback=require_writable,
        ),
    ],
    version: Annotated[str, typer.Option(help="The version to measure.")] = "current",
    old: Annotated[
        Path | None, typer.Option("--old", help="An earlier run or version: also measure drift from it.", metavar="OLD")
    ] = None,
    users: Annotated[int, typer.Option(help="How many users to ask for.", min=1)] = 1000,
    seed: SeedOption = 1,
) -> None:
    """One page with everything: whom to follow, mixtures, ranking features, compression, and drift from --old."""
    from bundle.versions import version_path
    from evaluation.drift import evaluate_drift

    write(
        report,
        "Evaluation",
        follow=follow_part(run, bundles, version, None, Part.test, users, seed),
        mixtures=mixtures_part(run, bundles, version, users // 2, seed),
        ranking=(ranking_part(bundles, version, run=run, seed=seed),),
        compression=(compression_part(run, users, seed=seed),),
        drift=None
        if old is None
        else evaluate_drift(old, version_path(bundles, resolve(bundles, version)), progress=progress()),
    )


def follow_part(
    run: Path, bundles: Path | None, version: str, url: str | None, part: Part, users: int, seed: int
) -> "FollowReport":
    """Measure a version or a service on the run's held-out edges."""
    import numpy as np

    from bundle.run import open_graph, open_run
    from evaluation.baselines import baselines
    from evaluation.cold import cold_rows
    from evaluation.follow import follow_report
    from evaluation.task import follow_task

    graph = open_graph(run)
    rng = np.random.default_rng(seed)
    task = follow_task(graph, part.value, rng, n_users=users)
    asked = _asked(graph, task.relation, bundles, version, url)
    vectors = open_run(run).vectors[graph.relation(task.relation).target]
    found = follow_report(
        task,
        asked.recommend,
        asked.strategies,
        baselines(task, np.random.default_rng(seed)),
        vectors,
        held_out=part.value,
        auto=asked.auto,
        seed=seed,
        progress=progress(),
    )
    cold = cold_rows(task, asked.recommend, asked.newcomers, [_cold_question(asked)], vectors, rng, progress=progress())
    return found.model_copy(update={"cold": cold, "auto_newcomer": asked.auto_newcomer})


class _Asked(NamedTuple):
    """Who answers, and by which strategies."""

    recommend: "Recommend"
    newcomers: "RecommendNewcomers"
    strategies: list[str]
    auto: str
    auto_newcomer: str | None


def _cold_question(asked: _Asked) -> "Asked":
    """The default, as it answers users in training and as it answers newcomers."""
    from evaluation.cold import Asked

    return Asked("auto", asked.auto, asked.auto_newcomer or asked.auto)


def _asked(graph: "PreparedGraph", relation: str, bundles: Path | None, version: str, url: str | None) -> _Asked:
    if url is not None and bundles is None:
        return _asked_over_http(graph, relation, url)
    if bundles is None or url is not None:
        raise UsageError("Name what to measure: --bundles DIR for a version, or --url URL for a running service.")
    from bundle.versions import version_path
    from cli.compose import RecommendByRow, RecommendNewcomers, open_recommender
    from cli.lineage import require_same_graph

    path = version_path(bundles, resolve(bundles, version))
    require_same_graph(graph, path)
    recommender = open_recommender(path)
    entry = recommender.bundle.space().entry
    known, new = RecommendByRow(recommender, relation=relation), RecommendNewcomers(recommender, relation=relation)
    return _Asked(known, new, list(entry.strategies), entry.auto, entry.auto_newcomer)


def _asked_over_http(graph: "PreparedGraph", relation: str, url: str) -> _Asked:
    from cli.lineage import require_digest
    from cli.remote import RecommendOverHttp

    ends = graph.relation(relation)
    service = RecommendOverHttp(url, relation, graph.entity(ends.source).ids, graph.entity(ends.target).ids)
    require_digest(graph, service.graph_digest(), f"What {url} serves")
    strategies, auto = service.strategies()
    return _Asked(service, service.newcomers, strategies, auto, "auto")


@app.command()
def drift(
    old: Annotated[Path, typer.Argument(help="The earlier run or version.", metavar="OLD")],
    new: Annotated[Path, typer.Argument(help="The later run or version.", metavar="NEW")],
    k: Annotated[int, typer.Option("-k", help="How many neighbours to compare.", min=1)] = 10,
    report: ReportOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Drift: how far the vectors of the entities that both have moved, and whether their neighbours stayed."""
    from evaluation.drift import evaluate_drift

    found = evaluate_drift(old, new, k=k, progress=progress())
    write(report, "Drift", drift=found)
    emit(found, as_json, lambda: _show_drift(found))


def _show_links(report: "LinkReport") -> None:
    rows = [
        [name, found.mrr, found.hits_at_1, found.hits_at_3, found.hits_at_10, found.mean_rank, found.edges]
        for name, found in (
            ("both ends", report.overall),
            ("targets", report.target),
            ("sources", report.source),
            ("by degree", report.degree),
            ("at random", report.random),
        )
    ]
    table(
        f"Link prediction on {report.part} edges",
        ("", "MRR", "Hits@1", "Hits@3", "Hits@10", "mean rank", "edges"),
        rows,
    )


METRICS = ("recall@10", "one_way_recall@10", "recall@20", "recall@50", "one_way_recall@50", "mrr", "coverage@10")


def _show_follow(report: "FollowReport") -> None:
    def name(row: "Row") -> str:
        return f"{row.name} (auto)" if row.name == report.auto else row.name

    rows = [[name(row), row.kind, *(row.mean(metric) for metric in METRICS)] for row in report.rows if not row.missing]
    title = f"{report.relation}: {report.users:,} users, {report.held_out} edges"
    table(title, ("", "kind", *METRICS), rows)
    _show_cold(report)


COLD_METRICS = ("recall@10", "recall@50")


def _show_cold(report: "FollowReport") -> None:
    """Users with few engagements, by name and as newcomers, with the share of recall that is left."""
    if not report.cold:
        return
    rows: list[list[object]] = [
        [row.known, row.strategy, row.shown, *_with_shares(row.metrics, row.share)] for row in report.cold
    ]
    heads = [head for metric in COLD_METRICS for head in (metric, "share")]
    table("Cold start: users with few engagements", ("engagements", "strategy", "shown", *heads), rows)


def _with_shares(metrics: "dict[str, Estimate]", share: dict[str, float]) -> list[object]:
    cells: list[object] = []
    for metric in COLD_METRICS:
        cells += [metrics[metric].mean, f"{share[metric]:.0%}" if metric in share else None]
    return cells


def _show_drift(report: "DriftReport") -> None:
    columns = ("type", "kept", "added", "removed", "L2", "relative L2", "cosine", "neighbours kept", "cluster churn")
    rows = [
        [
            found.entity_type,
            found.kept,
            found.added,
            found.removed,
            found.movement.l2_mean,
            found.movement.relative_l2_mean,
            found.movement.cosine_mean,
            found.neighbour_overlap,
            found.cluster_churn,
        ]
        for found in report.types
    ]
    table(f"From {report.old} to {report.new}", columns, rows)

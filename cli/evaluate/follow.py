"""`twhin evaluate follow`: whom to follow, every strategy beside the simple baselines."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bundle.errors import UsageError
from cli.evaluate.options import Part, RunOption, VersionOption
from cli.evaluate.report import ReportOption, write
from cli.output import JsonFlag, counted, emit, table
from cli.progress import progress
from cli.versions import path_of

if TYPE_CHECKING:
    from evaluation.follow import FollowReport
    from evaluation.rows import Row
    from recommend.protocol import RowRecommender

METRICS = ("recall@10", "one_way_recall@10", "recall@20", "recall@50", "one_way_recall@50", "mrr", "coverage@10")
NEWCOMER_METRICS = ("recall@10", "recall@50")


def follow(
    run: RunOption,
    bundles: Annotated[Path | None, typer.Option("--bundles", help="Directory of versions.", metavar="DIR")] = None,
    version: VersionOption = "current",
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Measure a running service instead, such as http://127.0.0.1:8000."),
    ] = None,
    relation: Annotated[
        str | None, typer.Option("--relation", help="Which relation; the version's default one if not said.")
    ] = None,
    part: Annotated[Part, typer.Option(help="Which held-out edges the lists should contain.")] = Part.test,
    users: Annotated[int, typer.Option(help="How many users to ask for.", min=1)] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the sample of users.", min=0)] = 1,
    report: ReportOption = None,
    as_json: JsonFlag = False,
) -> None:
    """How good candidates are: recall of every strategy of a version on held-out edges, beside the simple baselines.

    Asked for are users with a held-out edge of the relation and three training edges or more.

    The version is named by --bundles and --version, or is the one that the service at --url serves.
    """
    if (bundles is None) == (url is None):
        raise UsageError(
            "Name what to measure, one of both: --bundles DIR for a version, or --url URL for a running service."
        )
    path = None if bundles is None else path_of(bundles, version)
    measured = measure_follow(run, path, url, part, users, seed, relation)
    asked = {"relation": measured.relation, "part": part.value, "users": users, "seed": seed}
    emit(measured, as_json, lambda: _show(measured))
    write(report, "Candidates", asked, run=run, version=path, service=url, follow=(measured,))


def measure_follow(
    run: Path,
    version: Path | None,
    url: str | None,
    part: Part,
    users: int,
    seed: int,
    relation: str | None = None,
    *,
    with_ease: bool = True,
) -> "FollowReport":
    """Measure the version in a directory, or what the service at `url` serves, on the run's held-out edges."""
    from bundle.run import open_run
    from cli.compose import open_recommender, require_same_graph
    from evaluation.follow import evaluate_follow, offer_of
    from evaluation.http_recommender import HttpRecommender

    opened = open_run(run, progress())
    recommender: RowRecommender
    with ExitStack() as stack:
        if version is not None:
            here = open_recommender(version)
            recommender, offer, what = here, offer_of(here), str(version)
        else:
            service = HttpRecommender(str(url), opened.graph)
            stack.callback(service.close)
            recommender, offer, what = service, service.offer(), f"What {url} serves"
        require_same_graph(opened.graph, offer.graph_digest, what)
        return evaluate_follow(
            opened,
            recommender,
            offer,
            relation=relation,
            held_out=part.value,
            users=users,
            seed=seed,
            with_ease=with_ease,
            progress=progress(),
        )


def measure_relations(
    run: Path, version: Path, users: int, seed: int, relations: list[str] | None, *, with_ease: bool
) -> "tuple[FollowReport, ...]":
    """Measure these relations of a version, or all that have test edges, its default one first."""
    from bundle.reader import read_manifest
    from bundle.run import open_graph
    from evaluation.task import relations_held_out

    space = next(iter(read_manifest(version).spaces.values()))
    names = relations or relations_held_out(open_graph(run, progress()), "test", space.default.relation)
    return tuple(
        measure_follow(run, version, None, Part.test, users, seed, name, with_ease=with_ease) for name in names
    )


def _show(report: "FollowReport") -> None:
    from evaluation.rows import metrics_of

    def name(row: "Row") -> str:
        return f"{row.name} (auto)" if row.name == report.auto else row.name

    metrics = metrics_of(METRICS, report.rows)
    rows = [[name(row), row.kind, *(row.mean(metric) for metric in metrics)] for row in report.rows if not row.missing]
    title = f"{report.relation}: {counted(report.users, 'user')}, {report.held_out} edges"
    table(title, ("", "kind", *metrics), rows)
    if report.newcomers:
        _show_newcomers(report)


def _show_newcomers(report: "FollowReport") -> None:
    """Users with few engagements, by name and as newcomers, with the share of recall that is left."""
    rows: list[list[object]] = []
    for row in report.newcomers:
        cells: list[object] = [row.known, row.strategy, row.asked]
        for metric in NEWCOMER_METRICS:
            cells += [row.metrics[metric].mean, f"{row.share[metric]:.0%}" if metric in row.share else None]
        rows.append(cells)
    heads = [head for metric in NEWCOMER_METRICS for head in (metric, "share")]
    table("Cold start: users with few engagements", ("engagements", "strategy", "asked for", *heads), rows)

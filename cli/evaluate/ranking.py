"""`twhin evaluate ranking`: what frozen embeddings add to a ranking model's predictions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bundle.errors import UsageError
from cli.evaluate.options import SeedOption
from cli.evaluate.report import ReportOption, write
from cli.output import JsonFlag, counted, emit, table
from cli.progress import progress, say
from cli.versions import BundlesOption, path_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.ranking.report import RankingReport

AlsoOption = Annotated[
    list[Path] | None,
    typer.Option("--also", help="A further version whose vectors are tried, of another space.", metavar="DIR/VERSION"),
]
ExamplesOption = Annotated[
    str | None,
    typer.Option(
        "--examples",
        help="Labelled examples: a file as those of edges, with user, item, label (0 or 1) and any other numbers.",
        metavar="FILE|URL",
    ),
]
TestOption = Annotated[
    str | None,
    typer.Option("--test", help="Examples to measure on; a fifth of the users otherwise.", metavar="FILE|URL"),
]
HeldOutOption = Annotated[
    Path | None,
    typer.Option("--run", help="Without examples: a run directory whose held-out edges are predicted.", metavar="DIR"),
]
RelationOption = Annotated[
    str | None,
    typer.Option(help="Its ends are the types of user and item; the one that has most of the ids otherwise."),
]


def ranking(
    bundles: BundlesOption,
    version: Annotated[str, typer.Option(help="The version whose vectors are the features.")] = "current",
    also: AlsoOption = None,
    examples: ExamplesOption = None,
    test: TestOption = None,
    run: HeldOutOption = None,
    relation: RelationOption = None,
    seed: SeedOption = 1,
    report: ReportOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Do frozen embeddings help a ranking model? Small models predict labels with and without them.

    The labels are those of --examples, or whether an edge was held out in --run (validation edges to learn from, test
    edges to measure on). Reported: relative cross entropy, ROC-AUC, PR-AUC, MAP, with 95% intervals.
    """
    path = path_of(bundles, version)
    measured = measure_ranking(path, also or (), examples, test, run, relation, seed)
    others = ", ".join(map(str, also or ())) or None
    asked = {"also": others, "examples": examples, "test": test, "relation": relation, "seed": seed}
    emit(measured, as_json, lambda: _show(measured))
    write(report, "Ranking features", asked, run=run, version=path, ranking=(measured,))


def measure_ranking(
    version: Path,
    also: "Sequence[Path]" = (),
    examples: Path | str | None = None,
    test: Path | str | None = None,
    run: Path | None = None,
    relation: str | None = None,
    seed: int = 1,
) -> "RankingReport":
    """Train and measure the small models, on examples from files or from a run. Raises UsageError without either."""
    import numpy as np

    from bundle.reader import open_bundle
    from bundle.run import open_graph
    from cli.compose import read_examples, require_same_graph
    from evaluation.ranking.report import feature_sets, ranking_report
    from evaluation.ranking.tasks import task_of_files, task_of_run, vectors_of_task

    first, *others = [open_bundle(path) for path in (version, *also)]
    rng = np.random.default_rng(seed)
    if examples is not None and run is None:
        task = task_of_files(
            read_examples(examples), None if test is None else read_examples(test), first.space(), relation, rng, say
        )
    elif run is not None and examples is None:
        graph = open_graph(run, progress())
        # Those of --also may know other graphs: ids are compared, not rows.
        require_same_graph(graph, first.manifest.lineage.graph_digest, str(first.path))
        task = task_of_run(graph, relation, rng)
    else:
        raise UsageError("Name what to predict: --examples FILE with labels, or --run DIR with held-out edges.")
    spaces = [(bundle.path.name, space) for bundle in (first, *others) for space in bundle.spaces.values()]
    sets = feature_sets(vectors_of_task(task, spaces, say))
    return ranking_report(task.name, task.train, task.test, sets, seed=seed, progress=progress())


def _show(report: "RankingReport") -> None:
    names = list(report.rows[0].metrics)
    rows = [[row.features, row.model, *(row.metrics[name].mean for name in names)] for row in report.rows]
    table(
        f"{report.task}: {counted(report.train, 'example')} to learn from, {report.test:,} to test",
        ("features", "model", *names),
        rows,
    )

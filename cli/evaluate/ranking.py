"""`twhin evaluate ranking`: what frozen embeddings add to a ranking model's predictions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from bundle.errors import UsageError
from cli.evaluate.compression import SeedOption
from cli.evaluate.report import ReportOption, write
from cli.output import JsonFlag, emit, table
from cli.progress import progress, say
from cli.versions import BundlesOption, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from bundle.space import Space
    from evaluation.ends import Ends
    from evaluation.ranking import Labelled, RankingReport, Vectors

    Sides = tuple[Vectors | None, Vectors | None]

HELD_BACK = 0.2  # of the users, to measure on, when there is no file to test with
HELD_OUT: tuple[Literal["valid", "test"], ...] = ("valid", "test")  # to learn from, to measure on
AlsoOption = Annotated[
    list[Path] | None,
    typer.Option("--also", help="A further version whose vectors are tried, of another space.", metavar="DIR/VERSION"),
]
ExamplesOption = Annotated[
    Path | None,
    typer.Option(
        "--examples",
        help="Labelled examples: .parquet, .csv or .tsv with user, item, label (0 or 1) and any other numbers.",
        metavar="FILE",
    ),
]
TestOption = Annotated[
    Path | None, typer.Option("--test", help="Examples to measure on; a fifth of the users otherwise.", metavar="FILE")
]
HeldOutOption = Annotated[
    Path | None,
    typer.Option("--run", help="Without examples: a run directory whose held-out edges are predicted.", metavar="DIR"),
]
RelationOption = Annotated[
    str | None,
    typer.Option(help="Its ends are the types of user and item; the one that finds most of the ids otherwise."),
]


class _Task(NamedTuple):
    """Examples to learn from and to test with; entity i of either side is `users[i]`, `items[i]`."""

    name: str
    train: "Labelled"
    test: "Labelled"
    user_type: str
    item_type: str
    users: "Sequence[str]"
    items: "Sequence[str]"


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
    found = ranking_part(bundles, version, also or (), examples, test, run, relation, seed)
    write(report, "Ranking features", ranking=(found,))
    emit(found, as_json, lambda: _show(found))


def ranking_part(
    bundles: Path,
    version: str,
    also: "Sequence[Path]" = (),
    examples: Path | None = None,
    test: Path | None = None,
    run: Path | None = None,
    relation: str | None = None,
    seed: int = 1,
) -> "RankingReport":
    """Train and measure the small models, on examples from files or from a run. Raises UsageError without either."""
    import numpy as np

    from bundle.reader import open_bundle
    from bundle.versions import version_path
    from evaluation.ranking import feature_sets, ranking_report

    paths = [version_path(bundles, resolve(bundles, version)), *also]
    spaces = [(path.name, space) for path in paths for space in open_bundle(path).spaces.values()]
    rng = np.random.default_rng(seed)
    if examples is not None and run is None:
        task = _from_files(examples, test, spaces[0][1], relation, rng)
    elif run is not None and examples is None:
        task = _from_run(run, paths[0], relation, rng)
    else:
        raise UsageError("Name what to predict: --examples FILE with labels, or --run DIR with held-out edges.")
    return ranking_report(
        task.name, task.train, task.test, feature_sets(_tables(task, spaces)), seed=seed, progress=progress()
    )


def _from_files(
    examples: Path, test: Path | None, space: "Space", relation: str | None, rng: "np.random.Generator"
) -> _Task:
    from evaluation.examples import number_examples, read_examples, split_by_user

    numbered = number_examples([read_examples(path) for path in (examples, test) if path is not None])
    train, held_back = numbered.parts if test is not None else split_by_user(numbered.parts[0], HELD_BACK, rng)
    if not all(0 < part.labels.sum() < len(part) for part in (train, held_back)):
        raise UsageError(f"{examples} has too few users to hold a fifth of them back. Give --test FILE as well.")
    ends = _ends(space, relation, numbered.users, numbered.items)
    name = f"the labels of {examples.name}"
    return _Task(name, train, held_back, ends.user_type, ends.item_type, numbered.users, numbered.items)


def _ends(space: "Space", relation: str | None, users: "Sequence[str]", items: "Sequence[str]") -> "Ends":
    """The relation that was asked for, else the one that finds most. Raises UsageError when an end finds nothing.

    A relation that was asked for may find one end alone, where no other finds both: users can have vectors, and what
    they are shown none.
    """
    from evaluation.ends import ends_of

    found = ends_of(space, users, items)
    name = found[0].relation if relation is None else space.relation(relation).entry.name
    ends = next(one for one in found if one.relation == name)
    if not ends.fits and (relation is None or found[0].fits):
        raise UsageError(_nothing_found(ends, [one for one in found if one.fits][:5]))
    if relation is None:
        say(f"User and item are taken as the ends of {name}: {ends.user_type} and {ends.item_type}; see --relation.")
    return ends


def _nothing_found(ends: "Ends", fitting: "Sequence[Ends]") -> str:
    users = f"user of the examples has an id of type {ends.user_type}"
    items = f"item of the examples has an id of type {ends.item_type}"
    nobody = ", no ".join([users] * (ends.users == 0) + [items] * (ends.items == 0))
    others = ", ".join(f"--relation {one.relation} ({one.user_type} → {one.item_type})" for one in fitting)
    advice = f"These fit: {others}." if fitting else "Give the graph's own ids, or with --relation the side that fits."
    return f"No {nobody}: the ends of {ends.relation}. {advice}"


def _from_run(run: Path, version: Path, relation: str | None, rng: "np.random.Generator") -> _Task:
    from bundle.run import open_graph
    from cli.lineage import require_same_graph
    from evaluation.examples import examples_of_rows
    from evaluation.ranking import examples_from_graph

    graph = open_graph(run)
    require_same_graph(graph, version)  # those of --also may know other graphs: ids are compared, not rows
    ends = graph.split_relation() if relation is None else graph.relation(relation)
    parts = [examples_from_graph(graph, ends.name, part, rng) for part in HELD_OUT]
    numbered = examples_of_rows(parts, graph.entity(ends.source).ids, graph.entity(ends.target).ids)
    name = f"does a {ends.source} have an edge {ends.name}"
    train, test = numbered.parts
    return _Task(name, train, test, ends.source, ends.target, numbered.users, numbered.items)


def _tables(task: _Task, spaces: "Sequence[tuple[str, Space]]") -> "dict[str, Sides]":
    """Raw and decoded vectors of both sides in every space; the version is named where there are several."""
    tables: dict[str, Sides] = {}
    for version, space in spaces:
        users = _raw_and_decoded(space, task.user_type, task.users, version)
        items = _raw_and_decoded(space, task.item_type, task.items, version)
        for position, form in enumerate(("raw", "decoded")):
            name = f"{version}, {form}" if len(spaces) > 1 else form
            tables[name] = users[position], items[position]
    if not any(side is not None for sides in tables.values() for side in sides):
        raise UsageError(
            f"No {task.user_type} and no {task.item_type} of the examples has a vector. "
            "Give the graph's own ids, and with --relation a relation whose ends are the examples' user and item."
        )
    return tables


def _raw_and_decoded(space: "Space", entity_type: str, ids: "Sequence[str]", version: str) -> "Sides":
    """The vectors of `ids` as they are and as codes give them back; None where the space has none of them."""
    from evaluation.examples import vectors_of

    entities = space.entities.get(entity_type)
    if entities is None:
        say(f"{version} has no entity type {entity_type}: that side is left out there.")
        return None, None
    raw, share = vectors_of(ids, entities.ids, entities.embeddings)
    if share < 1:
        say(f"{version}: {share:.1%} of {len(ids):,} {entity_type} ids have a vector; the others count with zeros.")
    if share == 0:
        return None, None
    if entities.quantizer is None or entities.codes is None:
        return raw, None
    return raw, vectors_of(ids, entities.ids, entities.quantizer.decode(entities.codes))[0]


def _show(report: "RankingReport") -> None:
    names = list(report.rows[0].metrics)
    rows = [[row.features, row.model, *(row.metrics[name].mean for name in names)] for row in report.rows]
    table(
        f"{report.task}: {report.train:,} examples to learn from, {report.test:,} to test",
        ("features", "model", *names),
        rows,
    )

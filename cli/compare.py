"""`twhin compare`: two versions, or two reports, beside each other."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bundle.errors import UsageError
from bundle.text import printable
from cli.evaluate.options import Part, SeedOption
from cli.evaluate.report import require_writable, write_comparison
from cli.output import JsonFlag, emit, line, table
from cli.progress import progress
from cli.versions import path_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evaluation.comparison.records import Comparison, Difference, RelationComparison
    from evaluation.follow import FollowReport

SHOWN = ("recall@10", "recall@50", "one_way_recall@10")


def compare(
    a: Annotated[str, typer.Argument(help="A version, or the directory of a report: what was there before.")],
    b: Annotated[str, typer.Argument(help="A version, or the directory of a report: what may take its place.")],
    bundles: Annotated[
        Path | None,
        typer.Option("--bundles", help="Where A and B are names of versions, or current, or latest.", metavar="DIR"),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="A run whose held-out edges both are asked about, user by user.", metavar="DIR"),
    ] = None,
    relation: Annotated[
        list[str] | None, typer.Option("--relation", help="A relation to compare; may be repeated. All otherwise.")
    ] = None,
    part: Annotated[Part, typer.Option(help="Which held-out edges the lists should contain.")] = Part.test,
    users: Annotated[int, typer.Option(help="How many users a relation to ask for.", min=1)] = 1000,
    seed: SeedOption = 1,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            help="Also write compare.html, one self-contained page, and compare.json.",
            metavar="DIR",
            callback=require_writable,
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Is B better than A, for what, and for whom? Two versions or two reports, with 95% intervals of every difference.

    With --run both versions are asked for the same users about the same held-out edges. Without it, what each build
    measured is compared. Either way: how alike their lists are, how far entities moved, what indexes cost, sizes.
    """
    paths = _place(a, bundles), _place(b, bundles)
    kinds = tuple((path / "report.json").is_file() for path in paths)
    if kinds[0] != kinds[1]:
        raise UsageError("A version and a report cannot be compared: name two of a kind.")
    if kinds[0]:
        if run is not None:
            raise UsageError("--run is for versions: two reports have their measurements already.")
        from evaluation.comparison.compare import compare_reports

        names = (printable(str(paths[0])), printable(str(paths[1])))
        found = compare_reports(_follow(paths[0]), _follow(paths[1]), names)
    else:
        found = _versions(paths[0], paths[1], run, relation or [], part, users, seed)
    asked = {"a": paths[0], "b": paths[1], "part": part.value, "users": users, "seed": seed}
    emit(found, as_json, lambda: _show(found))
    write_comparison(report, found, asked, run)


def _place(name: str, bundles: Path | None) -> Path:
    """The directory of a version or a report. Raises UsageError for one that is neither."""
    if bundles is not None:
        return path_of(bundles, name)
    path = Path(name)
    path = path.parent if path.name in ("report.json", "report.html", "manifest.json") else path
    if not (path / "manifest.json").is_file() and not (path / "report.json").is_file():
        raise UsageError(
            f"{path} holds neither a version (manifest.json) nor a report (report.json). Name a directory of either "
            "kind, or with --bundles DIR the versions in it."
        )
    return path


def _versions(
    a: Path, b: Path, run: Path | None, relations: list[str], part: Part, users: int, seed: int
) -> "Comparison":
    from bundle.run import open_graph
    from cli.compose import open_recommender
    from evaluation.comparison.compare import compare_versions

    return compare_versions(
        open_recommender(a),
        open_recommender(b),
        None if run is None else open_graph(run, progress()),
        relations=relations,
        held_out=part.value,
        users=users,
        seed=seed,
        progress=progress(),
    )


def _follow(path: Path) -> "tuple[FollowReport, ...]":
    """The recalls in a report. Raises UsageError for one without."""
    from evaluation.report.page import read_report

    found = read_report(path).follow
    if not found:
        raise UsageError(f"{path} says nothing of whom to follow: name a report of `twhin evaluate follow` or `all`.")
    return found


def _show(found: "Comparison") -> None:
    line(found.verdict, "")
    for relation in found.relations:
        if relation.strategies:
            _show_relation(relation)
        if relation.overlap:
            rows = [[one.strategy, one.users, f"{one.shared:.0%}", f"{one.same_first:.0%}"] for one in relation.overlap]
            columns = ("strategy", "users", "candidates that both have", "the same first")
            table(f"{relation.relation}: how alike the first {relation.overlap[0].k} candidates are", columns, rows)
    table("Facts", ("", found.a.name, found.b.name), list(_facts(found)))
    if found.drift is not None:
        rows = [
            [one.entity_type, one.kept, one.added, one.removed, one.movement.cosine_mean, one.movement.relative_l2_mean]
            + [one.neighbour_overlap, one.cluster_churn]
            for one in found.drift.types
        ]
        heads = ("type", "kept", "added", "removed", "cosine", "moved, of its length", "neighbours kept")
        table("How far entities moved from A to B", (*heads, "changed cluster"), rows)
    for note in found.notes:
        line(note)


def _show_relation(relation: "RelationComparison") -> None:
    """Every strategy, newcomers, and the groups that differ."""
    metrics = [name for name in SHOWN if any(name in group.metrics for group in relation.strategies)]
    whom = "" if relation.users is None else f", {relation.users:,} users"
    title = f"{relation.relation}{whom}: auto is {relation.auto_a} in A, {relation.auto_b} in B"
    rows = []
    for group in (*relation.strategies, *relation.groups):
        name = group.name if group.kind == "strategy" else f"{group.kind}: {group.name}"
        cells: list[object] = [name, group.users]
        for metric in metrics:
            cells += _cells(group.metrics.get(metric))
        rows.append([*cells, group.outcome()])
    heads = [head for metric in metrics for head in (metric, "difference")]
    table(title, ("by auto, if not named", "users", *heads, "B is"), rows)
    for share, version in ((relation.trained_a, "A"), (relation.trained_b, "B")):
        if share > 0:
            line(f"{share:.1%} of the held-out edges are training edges of {version}: they are left out for both.")


def _cells(found: "Difference | None") -> tuple[str, str]:
    from evaluation.comparison.words import short, signed

    if found is None:
        return "", ""
    means = f"{short(found.a)} → {short(found.b)}"
    if found.low is None or found.high is None:
        return means, signed(found.difference)
    return means, f"{signed(found.difference)} [{signed(found.low)}, {signed(found.high)}]"


def _facts(found: "Comparison") -> "Iterator[Sequence[object]]":
    """Size, entities and edges, indexes."""
    from evaluation.comparison.facts import facts

    yield from facts(found.a, found.b)

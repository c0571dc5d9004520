"""Comparing what was written down: the measurements of two builds, or two reports, without asking anybody anew."""

from collections.abc import Iterator, Mapping

from bundle.manifest import Manifest, Measured
from bundle.successor import JUDGED_BY, USERS
from evaluation.comparison.records import Difference, Group, RelationComparison, Side, difference
from evaluation.follow import FollowReport
from evaluation.intervals import unpaired, wilson
from evaluation.metrics import Interval
from evaluation.newcomers import NewcomerRow
from evaluation.rows import CATALOGUE, Estimate

# Means of values between 0 and 1, of which a share's interval can be had.
SHARES = (*JUDGED_BY, "recall@20", "ndcg@10", "mrr")
Figures = Mapping[str, float]
Estimates = Mapping[str, Estimate]


def side_of(manifest: Manifest) -> Side:
    """A version's facts, of its first space."""
    space = next(iter(manifest.spaces.values()))
    return Side(
        name=manifest.version,
        created=manifest.created.isoformat(timespec="seconds"),
        parent=manifest.lineage.parent,
        graph_digest=manifest.lineage.graph_digest,
        code_revision=manifest.lineage.code_revision,
        dim=space.dim,
        measured=bool(manifest.evaluation.strategies),
        size_bytes=sum(entry.size_bytes for entry in manifest.files.values()),
        entities={entity.name: entity.count for entity in space.entities},
        edges={relation.name: relation.edges for relation in space.relations},
        indexes=dict(space.indexes),
        compression=dict(space.compression),
    )


def of_builds(a: Manifest, b: Manifest) -> Iterator[RelationComparison]:
    """Every relation that both builds measured, on the users that judged each."""
    ours, theirs = (next(iter(one.spaces.values())) for one in (a, b))
    for relation in (theirs.default.relation, *theirs.relation_strategies):
        first = a.evaluation.of(relation, ours.default.relation)
        second = b.evaluation.of(relation, theirs.default.relation)
        answers = ours.answers(relation), theirs.answers(relation)
        if answers[0] is None or answers[1] is None or not first.strategies or not second.strategies:
            continue
        yield _of_build(relation, first, second, (answers[0].auto, answers[1].auto), _newcomers_auto(answers))


def _newcomers_auto(answers: tuple[object, object]) -> tuple[str | None, str | None]:
    first, second = (getattr(one, "auto_newcomer", None) for one in answers)
    return first, second


def _of_build(
    relation: str, a: Measured, b: Measured, auto: tuple[str, str], newcomer: tuple[str | None, str | None]
) -> RelationComparison:
    strategies = [Group(kind="strategy", name="auto", metrics=_shares(a.strategies[auto[0]], b.strategies[auto[1]]))]
    both = [name for name in b.strategies if name in a.strategies]
    strategies += [
        Group(kind="strategy", name=name, metrics=_shares(a.strategies[name], b.strategies[name])) for name in both
    ]
    groups = []
    first, second = a.newcomers.get(newcomer[0] or auto[0]), b.newcomers.get(newcomer[1] or auto[1])
    if first and second:
        groups.append(Group(kind="newcomers", name="a few engagements", metrics=_shares(first, second)))
    users = b.strategies[auto[1]].get(USERS)
    return RelationComparison(
        relation=relation,
        how="builds",
        users=None if users is None else int(users),
        auto_a=auto[0],
        auto_b=auto[1],
        strategies=tuple(strategies),
        groups=tuple(groups),
        only_a=tuple(name for name in a.strategies if name not in b.strategies),
        only_b=tuple(name for name in b.strategies if name not in a.strategies),
    )


def _shares(a: Figures, b: Figures) -> dict[str, Difference]:
    """The shares that both have, with Newcombe's interval of the difference."""
    made = {}
    for metric in SHARES:
        if metric in a and metric in b:
            before, after = (wilson(one[metric], int(one.get(USERS, 0))) for one in (a, b))
            if not before.n or not after.n:  # of how many users is not known: no interval
                before, after = (Interval(one[metric], float("nan"), float("nan"), 0) for one in (a, b))
            made[metric] = difference(before, after, unpaired(before, after))
    return made


def of_reports(a: FollowReport, b: FollowReport) -> RelationComparison:
    """The same relation in two reports: every strategy of both, users by known edges, newcomers."""
    before = {row.name: row for row in a.rows if row.missing is None and row.kind == "strategy"}
    after = {row.name: row for row in b.rows if row.missing is None and row.kind == "strategy"}
    strategies, groups = [], list(_newcomers(a.newcomers, b.newcomers))
    if a.auto in before and b.auto in after:
        first, second = before[a.auto], after[b.auto]
        strategies.append(Group(kind="strategy", name="auto", metrics=_estimates(first.metrics, second.metrics)))
        for label, metrics in second.by_degree.items():
            if label in first.by_degree:
                groups.append(
                    Group(kind="known edges", name=label, metrics=_estimates(first.by_degree[label], metrics))
                )
    strategies += [
        Group(kind="strategy", name=name, metrics=_estimates(before[name].metrics, row.metrics))
        for name, row in after.items()
        if name in before
    ]
    return RelationComparison(
        relation=b.relation,
        how="reports",
        users=b.users,
        auto_a=a.auto,
        auto_b=b.auto,
        strategies=tuple(strategies),
        groups=tuple(groups),
        only_a=tuple(name for name in before if name not in after),
        only_b=tuple(name for name in after if name not in before),
    )


def _newcomers(a: tuple[NewcomerRow, ...], b: tuple[NewcomerRow, ...]) -> Iterator[Group]:
    before = {(row.known, row.asked): row for row in a}
    for row in b:
        found = before.get((row.known, row.asked))
        if found is not None and row.asked != "in training":
            name = f"{row.known} engagement{'' if row.known == 1 else 's'}, {row.asked}"
            yield Group(kind="newcomers", name=name, metrics=_estimates(found.metrics, row.metrics))


def _estimates(a: Estimates, b: Estimates) -> dict[str, Difference]:
    """The metrics that both have."""
    made = {}
    for metric in (name for name in b if name in a):
        before, after = (_interval(one[metric], known=metric not in CATALOGUE) for one in (a, b))
        made[metric] = difference(before, after, unpaired(before, after))
    return made


def _interval(estimate: Estimate, known: bool) -> Interval:
    """An estimate as an interval, whose ends are not `known` where one number was measured of all users together."""
    ends = (estimate.low, estimate.high) if known else (None, None)
    mean, low, high = (float("nan") if one is None else one for one in (estimate.mean, *ends))
    return Interval(mean, low, high, estimate.n)

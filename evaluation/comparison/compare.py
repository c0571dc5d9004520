"""Comparing two versions or two reports from end to end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from bundle.errors import UsageError
from bundle.lost import lost
from bundle.prepared import PreparedGraph
from bundle.progress import SILENT, Progress
from evaluation.comparison.asked import AskedVersion
from evaluation.comparison.measure import Pair
from evaluation.comparison.recorded import of_builds, of_reports, side_of
from evaluation.comparison.records import Comparison, RelationComparison, Side
from evaluation.comparison.words import one_version, verdict
from evaluation.drift import DriftReport, evaluate_drift
from evaluation.follow import FollowReport
from evaluation.task import MOST_RELATIONS, follow_task, relations_held_out
from recommend.recommender import Recommender


def compare_versions(
    a: Recommender,
    b: Recommender,
    graph: PreparedGraph | None,
    *,
    relations: Sequence[str] = (),
    held_out: Literal["test", "valid"] = "test",
    users: int = 1000,
    seed: int = 1,
    progress: Progress = SILENT,
) -> Comparison:
    """Two opened versions: asked for the same users about the held-out edges of `graph`; without one, what each build
    measured, and how alike the lists of both are.

    `relations` are those to compare; all of them otherwise, at most MOST_RELATIONS. Raises UsageError for a relation
    that is not there, and for a graph that holds out nothing.
    """
    manifests = a.bundle.manifest, b.bundle.manifest
    rng = np.random.default_rng(seed)
    if graph is None:
        compared, notes = _without_run(a, b, relations, users, rng, progress)
    else:
        ids = {entity.name: entity.ids for entity in graph.entities}
        pair = Pair(AskedVersion(a, ids, graph.digest), AskedVersion(b, ids, graph.digest), seed)
        default = b.bundle.space().entry.default.relation
        both, notes = pair.relations(relations, relations_held_out(graph, held_out, default))
        tasks = [follow_task(graph, held_out, rng, relation=name, n_users=users) for name in both]
        steps = sum(len(pair.strategies(name)[0]) + 1 for name in both)
        with progress.stage("Asking both", steps, "strategies") as bar:
            compared = [pair.compare(task, bar) for task in tasks]
    drift, said = _drift(a.bundle.path, b.bundle.path, progress)
    sides = [side_of(manifest) for manifest in manifests]
    same = a.bundle.path.resolve() == b.bundle.path.resolve()
    return Comparison(
        a=sides[0],
        b=sides[1],
        relations=tuple(compared),
        drift=drift,
        notes=(*notes, *lost(a.bundle, b.bundle), *said),
        verdict=one_version(sides[1].name) if same else verdict(sides[1].name, compared),
    )


def compare_reports(a: Sequence[FollowReport], b: Sequence[FollowReport], names: tuple[str, str]) -> Comparison:
    """What two evaluations found of the relations that both measured. Raises UsageError when there is none."""
    before = {one.relation: one for one in a}
    compared = [of_reports(before[one.relation], one) for one in b if one.relation in before]
    if not compared:
        raise UsageError(
            "The two reports have no relation in common. Name reports of `twhin evaluate follow` or `all`."
        )
    lost = [one.relation for one in (*a, *b) if one.relation not in {same.relation for same in compared}]
    notes = [f"Only one of the reports has {name}." for name in lost]
    called = [name if one[0].version is None else f"{one[0].version}" for name, one in zip(names, (a, b), strict=True)]
    if called[0] == called[1]:
        called = list(names)
    sides = [Side(name=name) for name in called]
    return Comparison(
        a=sides[0], b=sides[1], relations=tuple(compared), notes=tuple(notes), verdict=verdict(called[1], compared)
    )


def _without_run(
    a: Recommender,
    b: Recommender,
    relations: Sequence[str],
    users: int,
    rng: np.random.Generator,
    progress: Progress,
) -> tuple[list[RelationComparison], list[str]]:
    """What both builds measured, and how alike the answers are to users whom both know."""
    space = b.bundle.space()
    ids = {name: table.ids for name, table in space.entities.items()}
    digest = b.bundle.manifest.lineage.graph_digest
    pair = Pair(AskedVersion(a, ids, digest), AskedVersion(b, ids, digest), seed=0)
    measured = {one.relation: one for one in of_builds(a.bundle.manifest, b.bundle.manifest)}
    default = space.entry.default.relation
    ordered = sorted(space.relations, key=lambda one: (one != default, one not in measured))
    named, notes = pair.relations(relations, ordered[:MOST_RELATIONS])
    notes.append(
        "Without --run nobody was asked about held-out edges: differences are those of what each build measured, on "
        "its own users, and intervals are wide."
    )
    compared = []
    with progress.stage("Asking both", sum(len(pair.strategies(one)[0]) for one in named), "strategies") as bar:
        for name in named:
            connected = np.flatnonzero(space.relation(name).targets.degrees())
            known = connected[pair.a.knows(connected, name)]
            some = np.sort(rng.permutation(known)[:users])
            found = pair.overlap(name, some, bar) if len(some) else ()
            empty = RelationComparison(
                relation=name,
                how="builds",
                users=None,
                auto_a=pair.a.relations[name].auto,
                auto_b=pair.b.relations[name].auto,
            )
            compared.append(measured.get(name, empty).model_copy(update={"overlap": found}))
    return compared, notes


def _drift(a: Path, b: Path, progress: Progress) -> tuple[DriftReport | None, list[str]]:
    """How far the shared entities moved, or why that is not to be had."""
    try:
        return evaluate_drift(a, b, progress=progress), []
    except UsageError as error:
        return None, [f"Drift was not measured: {error}"]

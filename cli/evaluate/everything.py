"""`twhin evaluate all`: one page with everything."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.evaluate.compression import measure_compression
from cli.evaluate.follow import measure_relations
from cli.evaluate.mixtures import measure_mixtures
from cli.evaluate.options import RunOption, SeedOption, VersionOption
from cli.evaluate.ranking import measure_ranking
from cli.evaluate.report import require_writable, write
from cli.progress import progress
from cli.versions import BundlesOption, path_of


class Measurement(StrEnum):
    """The parts of the page that --skip may leave out; EASE is the baseline that takes most of the time."""

    follow = "follow"
    mixtures = "mixtures"
    ranking = "ranking"
    compression = "compression"
    ease = "ease"


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
    version: VersionOption = "current",
    old: Annotated[
        Path | None, typer.Option("--old", help="An earlier run or version: also measure drift from it.", metavar="OLD")
    ] = None,
    relation: Annotated[
        list[str] | None,
        typer.Option(
            "--relation", help="A relation whose answers to measure; may be repeated. All with test edges otherwise."
        ),
    ] = None,
    users: Annotated[int, typer.Option(help="How many users a relation to ask for.", min=1)] = 1000,
    skip: Annotated[
        list[Measurement] | None,
        typer.Option("--skip", metavar="PART", help=f"A part to leave out: {', '.join(Measurement)}; may be repeated."),
    ] = None,
    seed: SeedOption = 1,
) -> None:
    """One page with everything: whom to follow by every relation, mixtures, ranking features, compression, and drift
    from --old.

    Each part takes a minute or so of a small graph and may be left out.
    """
    from evaluation.drift import evaluate_drift

    path = path_of(bundles, version)
    wanted = [part for part in Measurement if part not in (skip or ())]
    write(
        report,
        "Evaluation",
        {
            "users": users,
            "seed": seed,
            "relation": ", ".join(relation or ()) or None,
            "skipped": ", ".join(skip or ()) or None,
            "old": old,
        },
        run=run,
        version=path,
        follow=measure_relations(run, path, users, seed, relation, with_ease=Measurement.ease in wanted)
        if Measurement.follow in wanted
        else (),
        mixtures=measure_mixtures(run, path, max(1, users // 2), seed) if Measurement.mixtures in wanted else None,
        ranking=(measure_ranking(path, run=run, seed=seed),) if Measurement.ranking in wanted else (),
        compression=(measure_compression(run, users, seed=seed),) if Measurement.compression in wanted else (),
        drift=None if old is None else evaluate_drift(old, path, progress=progress()),
    )

"""`twhin evaluate all`: one page with everything."""

from pathlib import Path
from typing import Annotated

import typer

from cli.evaluate import compression, follow, mixtures, ranking
from cli.evaluate.options import Part, RunOption, SeedOption, VersionOption
from cli.evaluate.report import require_writable, write
from cli.progress import progress
from cli.versions import BundlesOption, resolve


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
    users: Annotated[int, typer.Option(help="How many users to ask for.", min=1)] = 1000,
    seed: SeedOption = 1,
) -> None:
    """One page with everything: whom to follow, mixtures, ranking features, compression, and drift from --old."""
    from bundle.versions import version_path
    from evaluation.drift import evaluate_drift

    write(
        report,
        "Evaluation",
        follow=follow.measure(run, bundles, version, None, Part.test, users, seed),
        mixtures=mixtures.measure(run, bundles, version, users // 2, seed),
        ranking=(ranking.measure(bundles, version, run=run, seed=seed),),
        compression=(compression.measure(run, users, seed=seed),),
        drift=None
        if old is None
        else evaluate_drift(old, version_path(bundles, resolve(bundles, version)), progress=progress()),
    )

"""The options that several `twhin evaluate` commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Part(StrEnum):
    """Which held-out edges to measure on."""

    test = "test"
    valid = "valid"


RunOption = Annotated[
    Path, typer.Option("--run", help="The run directory, which has the held-out edges.", metavar="DIR")
]
SeedOption = Annotated[int, typer.Option(help="Seed of every sample.", min=0)]
VersionOption = Annotated[str, typer.Option(help="The version to measure.")]

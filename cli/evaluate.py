"""`twhin evaluate`: what a run or a version is worth."""

import typer

app = typer.Typer(help="Measure a run or a version against baselines.", no_args_is_help=True)

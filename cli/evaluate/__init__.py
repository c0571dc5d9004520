"""`twhin evaluate`: what a run or a version is worth."""

import typer

from cli.evaluate.compression import compression
from cli.evaluate.drift import drift
from cli.evaluate.everything import everything
from cli.evaluate.follow import follow
from cli.evaluate.links import links
from cli.evaluate.mixtures import mixtures
from cli.evaluate.ranking import ranking

app = typer.Typer(help="Measure a run or a version against baselines.", no_args_is_help=True)
for command in (links, follow, mixtures, ranking, compression, drift):
    app.command()(command)
app.command(name="all")(everything)

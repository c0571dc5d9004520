"""The command `twhin`: what it offers, and how its errors and interrupts end.

Exit status: 0 done · 1 a bug of ours · 2 usage · 3 the graph files · 4 the run directory · 5 the versions ·
6 the system refused: no room, no permission · 130 interrupted by Ctrl-C. The tree behind the numbers is in
`bundle/errors.py`.
"""

import resource
import sys
from typing import Annotated

import typer

from bundle.disk import is_full, remedy
from bundle.errors import FilterInvalid, TwhinError, UsageError
from bundle.release import code_revision, install_with, release
from cli import (
    build,
    compare,
    data,
    demo,
    evaluate,
    export,
    ingest,
    prepare,
    recommend,
    serve,
    storage,
    train,
    tune,
    versions,
)
from cli.output import fail, line

SYSTEM, INTERRUPTED = 6, 130
# What the extras of the package add, by the name it is imported by. A serving install goes without.
TRAIN_EXTRA = ("openTSNE", "psutil", "pyarrow", "scipy", "torch")
EXTRAS = {**dict.fromkeys(TRAIN_EXTRA, "train"), "obstore": "storage", "confluent_kafka": "kafka", "pyspark": "spark"}
# A wheel of its own, for whoever asks a service.
CLIENT = "twhin_client"

app = typer.Typer(
    name="twhin",
    help=(
        "Graph embeddings and candidates for ranking services.\n\n"
        "From edge files to answers: [bold]train[/bold] a graph, [bold]build[/bold] a version, "
        "[bold]publish[/bold] it, [bold]serve[/bold] it. [bold]demo[/bold] does all of it on a generated graph."
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        revision = code_revision()
        line(f"twhin {release()}" + (f", commit {revision}" if revision else ""))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the release, and the commit if known.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """What the command takes before the name of a subcommand."""


app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.command("prepare")(prepare.prepare)
app.command("tune")(tune.tune)
app.command("train")(train.train)
app.command("build")(build.build)
app.command("publish")(versions.publish)
app.command("rollback")(versions.rollback)
app.command("serve")(serve.serve)
app.command("recommend")(recommend.recommend)
app.command("export")(export.export)
app.command("ingest")(ingest.ingest)
app.add_typer(evaluate.app, name="evaluate")
app.command("compare")(compare.compare)
versions.app.command("push")(storage.push)
versions.app.command("pull")(storage.pull)
app.add_typer(versions.app, name="bundle")


def main() -> None:
    """Run the command; every error raised on purpose ends as one message and its exit status."""
    as_json = "--json" in sys.argv
    _allow_open_files()
    try:
        app()
    except TwhinError as error:
        place = f"{error.pointer}: " if isinstance(error, FilterInvalid) else ""
        fail(f"{place}{error}", error.code, as_json)
        sys.exit(error.exit_status)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library == CLIENT:
            fail(f"This command needs {CLIENT}: in a checkout, pip install ./client.", UsageError.code, as_json)
            sys.exit(UsageError.exit_status)
        if library not in EXTRAS:
            raise
        words = f"This command needs {library}, which an install for serving leaves out. Install it: "
        words += install_with(EXTRAS[library])
        fail(words, UsageError.code, as_json)
        sys.exit(UsageError.exit_status)
    except OSError as error:
        fail(_trouble(error), "system", as_json)
        sys.exit(SYSTEM)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer ends so, without a word, on Ctrl-C
            fail("interrupted; nothing half-done is left behind", "interrupted", as_json)
        raise


def _allow_open_files() -> None:
    """Take as many open files as the system lets this user have. Each array of a version or graph is a mapped file, and
    hundreds of relations or attributes have more of them than the 1,024 that a process is usually begun with."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _trouble(error: OSError) -> str:
    """What the system refused: a full disk, a missing permission, a path through a file."""
    where = f"{error.filename}: " if error.filename else ""
    advice = "Free some space and run it again." if is_full(error) else "Correct the path or its permissions."
    return f"{where}{error.strerror or error}. {remedy(error, advice)}"

"""The command `twhin`: what it offers, and how its errors and interrupts end.

Exit status: 0 done · 1 a bug of ours · 2 usage · 3 the graph files · 4 the run directory · 5 the versions ·
6 the system refused: no room, no permission · 129, 130, 143 ended by SIGHUP, Ctrl-C, SIGTERM · 141 nobody read on.
The tree behind the numbers is in `bundle/errors.py`.
"""

import inspect
import io
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args, get_type_hints

import typer
from typer.core import TyperArgument, TyperOption
from typer.models import ArgumentInfo, ParameterInfo

from bundle.disk import MORE_MEANS, is_full, lacks_means, remedy
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

SYSTEM, UNREAD = 6, 141
# By exit status, what ended the command from outside; the words are codes of errors too.
ENDED = {129: "hung up", 130: "interrupted", 143: "terminated"}
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


def _write_help(commands: typer.Typer) -> None:
    """Join the lines of each paragraph of the help, which typer would break where the docstrings' lines end, and say
    what an option takes in the words of people.
    """
    for command in commands.registered_commands:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        for name, hint in get_type_hints(command.callback, include_extras=True).items():
            for said in getattr(hint, "__metadata__", ()):
                if isinstance(said, ParameterInfo) and said.metavar is None:
                    said.metavar = name.upper() if isinstance(said, ArgumentInfo) else _taken(hint.__origin__)
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _write_help(group.typer_instance)


def _taken(kind: Any) -> str | None:
    """What stands for a value of this type, `N` for an integer; None where the values themselves are told."""
    inner = get_args(kind)
    return _taken(inner[0]) if inner else {int: "N", float: "NUMBER", str: "NAME", Path: "PATH"}.get(kind)


def _leave_out_types() -> None:
    """Have the help show no types, as `<bool>` for a flag and `<path>` beside the name of an argument, but values that
    one is chosen from. Typer has no setting for it, and adds flags of its own."""
    for kind in (TyperArgument, TyperOption):
        kind.display_type = _choices(kind.display_type)  # type: ignore[method-assign, assignment]


def _choices(shown: Callable[[Any, Any], str]) -> Callable[[Any, Any], str]:
    return lambda parameter, context: shown(parameter, context) if parameter.type_descriptor.is_choice else ""


_write_help(app)
_leave_out_types()


def main() -> None:
    """Run the command; every error raised on purpose ends as one message and its exit status."""
    as_json = "--json" in sys.argv
    _open_streams()
    _allow_open_files()
    try:
        with _ended_by_signals():
            try:
                _run(as_json)
            finally:
                sys.stdout.flush()  # here, where it may fail in words
    except TwhinError as error:
        place = f"{error.pointer}: " if isinstance(error, FilterInvalid) else ""
        _end(f"{place}{error}", error.code, error.exit_status, as_json)
    except ModuleNotFoundError as error:
        _end(_missing(error), UsageError.code, UsageError.exit_status, as_json)
    except BrokenPipeError:
        _end_unread()
    except Exception as error:
        if not (isinstance(error, OSError) or lacks_means(error)):
            raise
        _end(_trouble(error), "system", SYSTEM, as_json)
    except SystemExit as end:
        # Typer put something else there when nobody read on; so ends a console of rich's, which shows the help.
        if not isinstance(sys.stdout, io.TextIOBase) or isinstance(end.__context__, BrokenPipeError):
            _end_unread()
        if isinstance(end.code, int) and end.code in ENDED:  # typer ends so, without a word, on Ctrl-C
            _end(f"{ENDED[end.code]}; nothing half-done is left behind", ENDED[end.code], end.code, as_json)
        raise


def _missing(error: ModuleNotFoundError) -> str:
    """What to install where a library is not there; what is none of an extra's is raised."""
    library = (error.name or "").partition(".")[0]
    if library == CLIENT:
        return f"This command needs {CLIENT}: in a checkout, pip install ./client."
    if library not in EXTRAS:
        raise error
    extra = install_with(EXTRAS[library])
    return f"This command needs {library}, which an install for serving leaves out. Install it: {extra}"


def _run(as_json: bool) -> None:
    """Run the command. Faults in its arguments come with the usage, in a box, or as JSON. Raises UsageError."""
    if not as_json:
        app()
        return
    try:
        status = app(standalone_mode=False)
    except Exception as error:
        said = getattr(error, "format_message", None)  # typer's class of such faults is private
        if said is None:
            raise
        context: Any = getattr(error, "ctx", None)
        path = "twhin" if context is None else context.command_path
        raise UsageError(f"{said().rstrip('.')}. `{path} --help` lists what it takes.") from error
    sys.exit(status or 0)


def _end(message: str, code: str, status: int, as_json: bool) -> NoReturn:
    with suppress(OSError):  # nobody may read it
        fail(message, code, as_json)
    sys.exit(status or 0)


def _end_unread() -> NoReturn:
    """Whoever read the answer has read enough, as in `twhin … | head`: end as other programs do, without a word."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)  # what is still to be written is written at the end, and would fail again
    sys.exit(UNREAD)


def _open_streams() -> None:
    """Open the standard streams that the process was started without, on nothing: else the next file would get their
    place, and whatever a library prints. What their encoding lacks is escaped."""
    for stream, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(stream)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != stream:
                os.dup2(nowhere, stream)
                os.close(nowhere)
            os.set_inheritable(stream, True)  # what is started from here has the same need of them
            setattr(sys, name, os.fdopen(stream, "w" if stream else "r"))
    for shown in (sys.stdout, sys.stderr):  # a locale without Unicode has no arrow, and no id of another script
        if isinstance(shown, io.TextIOWrapper):
            shown.reconfigure(errors="backslashreplace")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command as Ctrl-C does, so that it leaves nothing half-done; a second one ends it at
    once. Not where they are ignored (nohup), nor under torchrun, which lets trainers wait for one that is gone."""

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        sys.exit(128 + number)

    numbers = () if "TORCHELASTIC_RUN_ID" in os.environ else (signal.SIGTERM, signal.SIGHUP)
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            if signal.getsignal(number) is end:  # the service has ended by one, and hears no other
                signal.signal(number, signal.SIG_DFL)


def _allow_open_files() -> None:
    """Take as many open files as the system lets this user have. Each array of a version or graph is a mapped file, and
    hundreds of relations or attributes have more of them than the 1,024 that a process is usually begun with."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _trouble(error: Exception) -> str:
    """What the system refused: memory, a full disk, a missing permission, a path through a file."""
    if not isinstance(error, OSError):
        said = str(error) or "none is left"
        return f"There is too little memory, or no further thread was to be had: {said}. {MORE_MEANS}"
    where = f"{error.filename}: " if error.filename else ""
    advice = "Free some space and run it again." if is_full(error) else "Correct the path or its permissions."
    return f"{where}{error.strerror or error}. {remedy(error, advice)}"

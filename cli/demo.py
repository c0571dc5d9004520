"""`twhin demo`: everything once, on a generated graph, ending with a running service."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bundle.errors import UsageError
from cli.output import line, next_command
from cli.progress import progress, say
from cli.serve import require_free, run_service

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


USERS = 20_000


def demo(
    directory: Annotated[Path, typer.Option("--dir", help="Where the demo keeps its files.", metavar="DIR")] = Path(
        ".demo"
    ),
    users: Annotated[
        int | None, typer.Option(help=f"Users of the generated graph; {USERS:,} if not said.", min=1000)
    ] = None,
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    serve: Annotated[bool, typer.Option(help="Start the service at the end.")] = True,
) -> None:
    """Generate a graph, train, build, publish, serve, and say what to open.

    What exists already is kept, so a second run starts in seconds; remove the directory to begin again.
    """
    bundles = directory / "bundles"
    if serve:
        require_free("127.0.0.1", port)  # before minutes of work
    graph = _graph(directory / "graph", users)
    _run(graph, directory / "run")
    _publish(directory / "run", bundles)
    if serve:
        invite(bundles, port)
        run_service(bundles, "127.0.0.1", port)
    else:
        line(f"4/4 Published. {next_command('twhin', 'serve', '--bundles', bundles)}")


def _graph(directory: Path, asked: int | None) -> Path:
    """The graph, generated if missing. Raises UsageError where one of another number of users is there."""
    graph = directory / "graph.toml"
    if graph.exists():
        if asked is not None:
            _require_users(directory, asked)
        return graph
    from graph.synthetic import generate

    users = USERS if asked is None else asked
    say(f"1/4 Generating a graph of {users:,} users with planted interests")
    return generate(directory, n_users=users, seed=1)


def _require_users(directory: Path, asked: int) -> None:
    from graph.synthetic import planted_users

    there = planted_users(directory)
    if there != asked:
        raise UsageError(
            f"{directory} holds a graph of {'other' if there is None else f'{there:,}'} users, and --users asks for "
            f"{asked:,}. Leave it out to go on with what is there, or name another directory by --dir."
        )


def _run(graph: Path, run: Path) -> None:
    if (run / "run.json").exists():
        return
    from graph.prepare import prepare
    from training.config import parse_config
    from training.train import train

    say("2/4 Training embeddings")
    config = parse_config({"dim": 64, "epochs": 6}, "the demo")
    train(prepare(graph, run / "graph", progress()), run, config, resume=True, progress=progress())


def _publish(run: Path, bundles: Path) -> None:
    from bundle.versions import current_version, publish

    if current_version(bundles) is not None:
        return
    from cli.build import build_assessed

    say("3/4 Building a version: clusters, mixtures, codebooks, indexes")
    manifest = build_assessed(run, bundles, {}).manifest
    publish(bundles, manifest.version)


def usual(degrees: "npt.NDArray[np.int64]") -> int:
    """The row of median degree among those with an edge: an example that is like most."""
    import numpy as np

    connected = np.flatnonzero(degrees)
    return int(connected[np.argsort(degrees[connected], kind="stable")[len(connected) // 2]])


def invite(bundles: Path, port: int) -> None:
    """Print what to ask the service and what to open, for a user like most."""
    from bundle.reader import open_bundle
    from bundle.versions import current_path

    bundle = open_bundle(current_path(bundles))
    space = bundle.space()
    default = space.entry.default
    user = space.table(default.user_type).ids.external(usual(space.relation(default.relation).targets.degrees()))
    body: dict[str, object] = {"user": user, "k": 5, "explain": True}
    if "verified" in space.table(default.candidate_type).attributes:  # not in a demo that an earlier release made
        body["filter"] = {"attribute": "verified", "is": True}
    url = f"http://127.0.0.1:{port}"
    say(f"4/4 Serving version {bundle.version} on {url}")
    json_header = "-H 'content-type: application/json'"
    line("", "Try:", "")
    line(f"  curl -s '{url}/recommend/{user}?k=10'")
    line(f"  curl -s {url}/recommend {json_header} -d '{json.dumps(body)}'")
    line(f"  curl -s {url}/v1/embeddings/{default.user_type}/{user}")
    line("", "Open:", "", f"  {url}/?view=map&user={user}  the studio", f"  {url}/docs  the API", "")
    line("Ctrl-C stops it.", "")

"""`twhin bundle push|pull`: versions in object storage."""

from functools import partial
from threading import Event
from typing import Annotated

import typer

from cli.compose import named_by_experiments, open_checked
from cli.output import JsonFlag, counted, emit, line
from cli.progress import progress, say
from cli.versions import BundlesOption, ExperimentsOption, resolve

UrlArgument = Annotated[
    str, typer.Argument(help="Folder of versions in a store: s3://bucket/path, gs:// or az://.", metavar="URL")
]


def push(
    url: UrlArgument,
    bundles: BundlesOption,
    version: Annotated[str, typer.Argument(help="A version's name; `latest` is the newest one built.")] = "latest",
    as_json: JsonFlag = False,
) -> None:
    """Copy a version to an object store; nothing is published by that.

    Every byte is checked first. Files go in parallel and the manifest last, so that nobody sees half a version. The
    same command goes on where an earlier one was cut off.
    """
    from storage.push import push as push_version
    from storage.store import open_store

    store = open_store(url)
    bundle = open_checked(bundles, resolve(bundles, version), progress())
    files = push_version(store, bundle, progress=progress())
    answer = {"version": bundle.version, "url": f"{store.url}/{bundle.version}", "files_sent": files}
    emit(answer, as_json, lambda: line(f"{answer['url']} is complete: {counted(files, 'file')} sent."))


def pull(
    url: UrlArgument,
    bundles: BundlesOption,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on: pull whatever is published next, and survive outages.")
    ] = False,
    every: Annotated[float, typer.Option(help="With --follow: seconds between looks, on average.", min=0.1)] = 10.0,
    keep: Annotated[
        int,
        typer.Option(
            help="Versions to keep there; the current one, the one before it and those of experiments stay.", min=1
        ),
    ] = 2,
    experiments: ExperimentsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring the version that is published in an object store, and make it the current one of a directory.

    Files that another version there has are linked, the others fetched and checked. A service that serves the directory
    changes over by itself. One that is killed or cut off leaves the current version; the next goes on.
    """
    from storage.pull import follow as follow_store
    from storage.pull import only_puller
    from storage.pull import pull as pull_version
    from storage.store import open_store

    store, in_use = open_store(url), partial(named_by_experiments, bundles, experiments)
    in_use()  # raises: now, and not when something is to be removed
    with only_puller(bundles):
        if follow:
            follow_store(store, bundles, keep, every, say, Event(), progress(), in_use)
            return
        pulled = pull_version(store, bundles, keep, progress(), in_use)
    fetched = f"{pulled.fetched_files} of {counted(pulled.files, 'file')} fetched, {pulled.fetched_bytes:,} bytes"
    emit(pulled, as_json, lambda: line(f"{pulled.version} is current in {bundles}: {fetched}."))

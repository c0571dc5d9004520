"""Putting a prepared graph into its directory: whole or not at all, and never over anything else."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle.disk import beside, hold_directory, make_durable, read_plain
from bundle.errors import RunError
from bundle.graph_record import COMMIT_FILE

ARRAYS = {"attributes", "edges", "ids", "shards", "test", "valid"}
RECORDS = {COMMIT_FILE, "source.json"}


@contextmanager
def placed(directory: Path) -> Iterator[Path]:
    """A directory to work in, which replaces `directory` at the end and is removed after an error.

    Raises RunError where another process reads what is there.
    """
    partial = beside(directory, "partial")
    with _held(directory, f"A training reads {directory}. Wait until it ends, or name another directory.", alone=True):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            _replace(partial, directory)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Keep the prepared graph in `directory` from being replaced meanwhile. Raises RunError where it is just now."""
    with _held(directory, f"Another process prepares {directory}. Wait for it, and run it again.", alone=False):
        yield


@contextmanager
def _held(directory: Path, busy: str, *, alone: bool) -> Iterator[None]:
    try:
        lock = hold_directory(directory, alone=alone)
    except BlockingIOError:
        raise RunError(busy) from None
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def require_replaceable(directory: Path) -> None:
    """Raise RunError where `directory` holds anything but a prepared graph: all in it goes when it is replaced."""
    if directory.resolve() == Path.cwd():
        raise RunError("The working directory cannot be replaced by a prepared graph. Name a directory in it.")
    if not directory.exists() or not any(directory.iterdir()):
        return
    if not _holds_graph(directory):
        raise RunError(f"{directory} is not empty and holds no prepared graph. Give a directory of its own.")
    for path in directory.rglob("*"):
        inside = path.relative_to(directory)
        if (
            not path.is_dir()
            and str(inside) not in RECORDS
            and not (inside.parts[0] in ARRAYS and path.suffix == ".npy")
        ):
            raise RunError(
                f"{path} is no part of the prepared graph in {directory}, and would go when that is replaced. Move it, "
                "or name another directory."
            )


def _holds_graph(directory: Path) -> bool:
    """Whether there is a record of a prepared graph, of whatever format: other programs have a graph.json, too."""
    try:
        found = json.loads(read_plain(directory / COMMIT_FILE))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"format_version", "digest", "entities", "relations"} <= found.keys()


def _replace(partial: Path, directory: Path) -> None:
    directory, old = directory.resolve(), beside(directory, "old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    partial.rename(directory)
    make_durable(partial.parent)
    shutil.rmtree(old, ignore_errors=True)

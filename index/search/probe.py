"""Opening index files in a child process first: a library that crashes on a file must not take the service along.

hnswlib 0.8 crashed on 18 of 90 corrupted files. A digest tells an altered file; this tells a file that was
signed as it is and still cannot be read: a full disk, a library of another release, a writer's fault.
"""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from bundle.errors import BundleInvalid, TwhinError
from bundle.manifest import IndexEntry
from bundle.records import Record
from bundle.space import Bundle
from index.search.ivf4 import read_ivf4
from index.search.open import ENGINE_SUFFIX, read_source
from index.search.projection import read_projection

SECONDS = 120  # a busy machine, and an engine that is compiled first
SECONDS_A_GIGABYTE = 30
SPARE_BYTES = 8 << 30


class IndexFile(Record):
    """What a child needs to open one index file: where it is, the rows and columns of the vectors, how it is held."""

    path: Path
    rows: int
    width: int
    entry: IndexEntry


_FILES = TypeAdapter(tuple[IndexFile, ...])


def index_file(path: Path, entry: IndexEntry, rows: int, width: int) -> IndexFile:
    """The file at `path` as `entry` describes it."""
    return IndexFile(path=path, rows=rows, width=width, entry=entry)


def probe_bundle(bundle: Bundle) -> None:
    """Open every index file of a version in a child process. Raises BundleInvalid naming one that cannot be read."""
    probe(
        [
            index_file(bundle.path / entry.file, entry, *space.table(name).vectors.shape)
            for space in bundle.spaces.values()
            for name, entry in space.entry.indexes.items()
            if entry.file is not None
        ]
    )


def probe(files: Sequence[IndexFile]) -> None:
    """Open and search `files` in a child process. Raises BundleInvalid naming the first that fails or crashes it, from
    a MemoryError or TimeoutError where that may be the machine's fault.
    """
    if not files:
        return
    size_bytes = sum(file.path.stat().st_size for file in files)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    lack: OSError | MemoryError | None = None
    try:
        child = subprocess.run(
            [sys.executable, "-m", "index.search.probe"],
            input=_FILES.dump_json(tuple(files)).decode(),
            capture_output=True,
            text=True,
            env=environment,
            timeout=SECONDS + SECONDS_A_GIGABYTE * size_bytes / (1 << 30),
            check=False,
        )
        output, trouble = child.stdout, _trouble(child.returncode, child.stderr)
        # Killed by the system, or not even come to reading: for want of memory.
        if child.returncode == -signal.SIGKILL or not output:
            lack = MemoryError()
    except subprocess.TimeoutExpired as error:
        output, trouble = (error.stdout or b"").decode(), "took too long to open"
        lack = TimeoutError()
    done = output.split()[1:]
    if len(done) < len(files):
        raise BundleInvalid(f"{files[len(done)].path} {trouble}. Build the version again.") from lack


def _trouble(status: int, errors: str) -> str:
    if status < 0:
        return f"crashed the library that reads it (signal {-status})"
    last = errors.strip().splitlines()[-1:] or ["no reason given"]
    return f"cannot be read: {last[0]:.300}"


def main() -> None:
    """The child: read the list from standard input, open and search each file, print a line when it begins and one for
    each that works."""
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    files = _FILES.validate_json(sys.stdin.read())
    limit = SPARE_BYTES + sum(4 * file.path.stat().st_size + 4 * file.rows * file.width for file in files)
    # A corrupt header may ask for any amount of memory: better refused here than granted.
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for file in files:
        _try_out(file)
        sys.stdout.write("read\n")
        sys.stdout.flush()


def _try_out(file: IndexFile) -> None:
    queries = np.random.default_rng(1).normal(0, 1, (8, file.width)).astype(np.float32)
    projection = read_projection(file.path, file.entry, file.width)
    if file.path.suffix == ENGINE_SUFFIX:  # scores vectors itself: of zeros, which take no memory until they are read
        vectors = np.zeros((file.rows, file.width), dtype=np.float32)
        read_ivf4(file.path, file.entry, projection, vectors).search(queries, min(100, file.rows))
        return
    source = read_source(file.path, projection, file.rows)
    found = source.candidates(queries, min(100, file.rows), 100)
    if found.max() >= file.rows:
        raise BundleInvalid(f"answers with row {found.max()}, and has {file.rows}")


if __name__ == "__main__":
    try:
        main()
    except (TwhinError, MemoryError) as error:
        sys.exit(str(error) or "asks for more memory than it can need")

"""Writing files so that a kill, a power cut or a full disk leaves the old state or the new; locks on directories."""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import IO, BinaryIO

from bundle.errors import DiskFull, TwhinError

SYNC_THREADS = 8
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_MEANS = (errno.ENOMEM, errno.EAGAIN)
MORE_MEANS = "Give it more memory, or raise its limits (ulimit -v, ulimit -u, a container's memory and processes)."
_REMEDIES = (
    dict.fromkeys(_NO_MEANS, MORE_MEANS)
    | dict.fromkeys((errno.EMFILE, errno.ENFILE), "Raise the limit of open files (ulimit -Hn) and run it again.")
    | dict.fromkeys((errno.EACCES, errno.EPERM), "Correct the path or its permissions.")
)
_TAIL_BYTES = 4096


def remedy(error: OSError, otherwise: str) -> str:
    """What to do about `error`: about too little memory, too many open files or a missing permission, which are no
    fault of what a file holds, or as for all others.
    """
    return otherwise if error.errno is None else _REMEDIES.get(error.errno, otherwise)


def has_remedy(error: BaseException) -> bool:
    """Whether `error` is one of those: whoever reads a file lets it through, and does not blame the file."""
    return lacks_means(error) or (isinstance(error, OSError) and error.errno in _REMEDIES)


def lacks_means(error: BaseException) -> bool:
    """Whether `error` says that there is too little memory, or that no further thread could be begun, of which
    libraries tell in the system's words.
    """
    if isinstance(error, OSError):
        return error.errno in _NO_MEANS
    words = (*map(os.strerror, _NO_MEANS), "can't start new thread", "failed to map segment")
    return isinstance(error, MemoryError) or any(each in str(error) for each in words)


def is_full(error: BaseException) -> bool:
    """Whether `error` says that there is no room to write.

    FAISS raises RuntimeError with the system's words at the end of a C++ line.
    """
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    return isinstance(error, RuntimeError) and any(os.strerror(number) in str(error) for number in _NO_ROOM)


@contextmanager
def full_disk_named(path: Path, advice: str) -> Iterator[None]:
    """Raise DiskFull with `advice` when writing below `path` fails for want of room; other errors pass."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not is_full(error):
            raise
        where = (isinstance(error, OSError) and error.filename) or path
        raise DiskFull(f"The disk is full: {where} could not be written. {advice}") from error


def require_written(path: Path, size_bytes: int) -> None:
    """Raise OSError (no room) when the file at `path` is shorter than what was written: hnswlib does not look."""
    if path.stat().st_size < size_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@contextmanager
def replacing(path: Path, partial: Path | None = None, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` at the end, so that a reader sees the whole of either.

    It is written to `partial`, beside `path` by default, which an error removes and only a kill leaves behind.
    `durable` waits until the bytes would survive a power cut; the new name does after `make_durable(path.parent)`.
    Raises IsADirectoryError, before anything is written, where the name is a directory's.
    """
    if path.is_dir() and not path.is_symlink():  # of several files some would have taken their places by then
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    partial = partial or path.with_name(path.name + ".partial")
    file = partial.open("wb")
    try:
        with file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a write knows its descriptor alone
            error.filename = str(path)
        raise


def write_text(path: Path, text: str, partial: Path | None = None) -> None:
    """Replace the file at `path` by `text` in one step and make it durable; `partial` as in `replacing`."""
    with replacing(path, partial) as file:
        file.write(text.encode())
    make_durable(path.parent)


def write_together(texts: Mapping[Path, str]) -> None:
    """Replace several files of one directory by texts, none of them where one finds no room, and make them durable.

    The directory is made if missing, and is gone again after an error if it was made here. Raises DiskFull.
    """
    directory = next(iter(texts)).parent
    with filling(directory), ExitStack() as stack:
        for path, text in texts.items():
            file = stack.enter_context(replacing(path))
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())  # here, before any has taken its place: some systems find no room this late
    make_durable(directory)


def append_line(path: Path, text: str) -> None:
    """Add a line to the file at `path`, made if missing, and make it durable; an error adds nothing.

    What a kill or a full disk has left of a line without an end goes first: with the new one it would be neither.
    """
    left = text.encode() + b"\n"
    with path.open("ab+", buffering=0) as file:  # a buffer would write once more when it is closed
        end = _end_of_lines(file)
        try:
            file.truncate(end)
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError as error:
            file.truncate(end)
            error.filename = error.filename or str(path)
            raise
    make_durable(path.parent)


def _end_of_lines(file: FileIO) -> int:
    """Where the last whole line of `file` ends."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _TAIL_BYTES)
        newline = os.pread(file.fileno(), end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


class NotPlain(OSError):
    """A directory, a pipe or a device lies where a file should."""


def open_plain(path: Path) -> BinaryIO:
    """Open the file at `path` for reading. Raises OSError, which is NotPlain for what is no plain file: opening a pipe
    would wait for a writer for ever, and a device may have no end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotPlain(errno.EINVAL, "not a plain file", str(path))
    return os.fdopen(descriptor, "rb")


def read_plain(path: Path, most_bytes: int = 64 << 20) -> bytes:
    """The content of a small file, of which no more than `most_bytes` is read. Raises OSError as `open_plain`."""
    with open_plain(path) as file:
        # Whoever asks for more than there is has the room for it made first.
        return file.read(min(most_bytes, os.fstat(file.fileno()).st_size))


def make_durable(path: Path) -> None:
    """Wait until a file written earlier, or the names in a directory, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_files_durable(paths: Iterable[Path]) -> None:
    """Wait until files written earlier, and their names, would survive a power cut: many at once, which a file system
    commits together; one by one takes a commit each."""
    files = list(paths)
    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        for _ in pool.map(make_durable, files):
            pass
    for directory in {path.parent for path in files}:
        make_durable(directory)


def lock_file(path: Path, *, wait: bool = False) -> IO[str] | None:
    """Lock the file at `path`, made if missing; None when a living process has it, unless told to `wait`.

    The system frees the lock when the file is closed or this process dies, however it dies. The holder may remove the
    file before closing it.
    """
    while True:
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        # Whoever had it may have removed the file between our opening and locking it: then it guards nothing.
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return file
        file.close()


@contextmanager
def locked(path: Path, busy: TwhinError, *, remove: bool = False) -> Iterator[None]:
    """Hold the lock of the file at `path`, in a directory made if missing. Raises `busy` when another has it.

    With `remove` the file goes at the end, and so does a directory that was made for it and has nothing else in it:
    whatever failed left nothing.
    """
    made: list[Path] = []
    try:
        made += make_directory(path.parent)
        file = lock_file(path)
        if file is None:
            raise busy
        with file:
            try:
                yield
            finally:
                if remove:
                    path.unlink(missing_ok=True)
    finally:
        if remove:
            remove_empty(made)


def beside(directory: Path, what: str) -> Path:
    """A name of ours next to `directory`, which nobody else gives a file."""
    place = directory.resolve()  # where a link leads there is room
    return place.with_name(f"{place.name}.twhin-{what}")


def make_directory(directory: Path) -> list[Path]:
    """Make a directory and what is missing above it. Returns what was made, the innermost first: for `remove_empty`."""
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    return missing


@contextmanager
def filling(directory: Path) -> Iterator[None]:
    """Write into a directory, which is made if missing, and is gone again after an error if it was made here.

    Raises DiskFull where there is no room.
    """
    with full_disk_named(directory, "Make room and run it again."):
        made = make_directory(directory)
        try:
            yield
        except BaseException:
            if made:
                shutil.rmtree(directory, ignore_errors=True)
                remove_empty(made[1:])
            raise


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove these directories, the innermost first, as far as nothing is in them."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def hold_directory(directory: Path, *, alone: bool) -> int | None:
    """Lock `directory` itself against those who want it `alone`, or against everybody; the lock lasts until the
    descriptor is closed or the process ends. Raises BlockingIOError when another process has it.

    None where there is no directory, and where the file system cannot lock one.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor

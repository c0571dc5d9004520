"""Which files a relation's edges stand in, and what sort each is by its ending."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from bundle.disk import remedy
from bundle.errors import EdgeFileError, GraphFileError, UsageError
from graph.edge_file import EdgeFile
from graph.jsonlines import JsonLinesEdgeFile
from graph.parquet import ParquetEdgeFile
from graph.partitions import PartitionedEdgeFile, partition_values
from graph.text import CSV_DELIMITERS, TSV_DELIMITERS, TextEdgeFile
from graph.textstream import CODECS, file_opener
from storage.address import is_url
from storage.tables import LOGS, MARKS, PARQUET, holds_rows, is_part_of_hive, told

if TYPE_CHECKING:
    from storage.files import StoredFile

_GLOB_CHARACTERS = frozenset("*?[")
_JSON_LINES = (".jsonl", ".ndjson", ".json")
_TEXT = {".csv": CSV_DELIMITERS, ".tsv": TSV_DELIMITERS}


# A file here, or one in an object store that is brought here while it is read.
InputFile: TypeAlias = "Path | StoredFile"


@dataclass(frozen=True, slots=True)
class FileList:
    """The files to read, in order; `repeats` are further names by which one of them was reached."""

    paths: tuple[InputFile, ...]
    repeats: tuple[InputFile, ...]


def expand(base: Path, patterns: Sequence[str], key: str) -> FileList:
    """The files that `patterns` name: files, folders, globs relative to `base`, or URLs of a store; of one pattern in
    the order of names.

    A folder stands for all files in it and below, without those whose names begin with a dot or an underscore. A part
    of a path that exists as it stands is no glob. A file that is reached twice, by a link or by two patterns, is listed
    once.

    Raises GraphFileError for a pattern that matches nothing, EdgeFileError for what is no file or cannot be read.
    """
    paths: dict[object, InputFile] = {}
    repeats: dict[InputFile, None] = {}
    for pattern in patterns:
        if _is_url(pattern, key):
            for stored in _stored(pattern, key):
                if paths.setdefault(str(stored), stored) is not stored:
                    repeats[stored] = None
            continue
        try:
            matches = sorted((file for match in _matches(base, pattern) for file in _files(match, key)), key=str)
            if not (base / pattern).is_file():  # who names a file knows that it is of the table
                _refuse_tables(matches)
        except OSError as error:
            advice = remedy(error, f"{key} leads there: correct that.")
            raise EdgeFileError(f"{error.filename}: {error.strerror}. {advice}") from error
        if not matches:
            bracket = " A bracket that is part of a name is written [[]." if "[" in pattern else ""
            raise GraphFileError(f"{key}: {pattern!r} matches no file in {base.resolve()}. Correct it.{bracket}")
        for path in dict.fromkeys(matches):
            status = path.stat()
            identity = (status.st_dev, status.st_ino)
            if identity in paths:
                repeats[path] = None
            else:
                paths[identity] = path
    return FileList(tuple(paths.values()), tuple(repeats))


def _is_url(pattern: str, key: str) -> bool:
    try:
        return is_url(pattern)
    except UsageError as error:
        raise GraphFileError(f"{key}: {error}") from error


def _stored(pattern: str, key: str) -> "list[StoredFile]":
    """The files in a store that a URL names. Raises GraphFileError, StorageError."""
    from storage.files import find_files

    try:
        found = find_files(pattern)
    except UsageError as error:
        raise GraphFileError(f"{key}: {error}") from error
    if not found:
        raise GraphFileError(f"{key}: {pattern!r} leads to no file. Correct it.")
    return found


def input_status(file: InputFile) -> tuple[int, int]:
    """Bytes, and the time of the last change in ns."""
    if isinstance(file, Path):
        status = file.stat()
        return status.st_size, status.st_mtime_ns
    return file.size, file.modified_ns


@contextmanager
def local(file: InputFile) -> Iterator[Path]:
    """The file, brought here when it is in a store. What is said of it then names it by its URL."""
    if isinstance(file, Path):
        yield file
        return
    with file.local() as path, called(file, path):
        yield path


@contextmanager
def called(file: InputFile, path: Path) -> Iterator[None]:
    """Errors that name a file by the `path` where it was brought name it as the graph file does."""
    try:
        yield
    except (EdgeFileError, GraphFileError) as error:
        if isinstance(file, Path):
            raise
        raise type(error)(str(error).replace(str(path), str(file))) from error


def _matches(base: Path, pattern: str) -> set[Path]:
    """What a pattern matches. (glob follows links that lead back up for forty rounds, and knows no literal bracket.)"""
    if not _GLOB_CHARACTERS & set(pattern):
        return {base / pattern}
    path = Path(pattern)
    return set(_matches_below(Path("/"), path.parts[1:]) if path.is_absolute() else _matches_below(base, path.parts))


def _matches_below(directory: Path, parts: Sequence[str]) -> Iterator[Path]:
    """What the parts of a pattern match below a folder; `**` is any number of folders."""
    if not parts or tuple(parts) == ("**",):
        yield directory
        return
    part, others = parts[0], parts[1:]
    if part == "**":
        for folder in _folders(directory, hidden=(".",)):
            yield from _matches_below(folder, others)
    elif (directory / part).exists():
        yield from _matches_below(directory / part, others)
    elif directory.is_dir():
        for child in directory.iterdir():
            if fnmatchcase(child.name, part) and (part.startswith(".") or not child.name.startswith(".")):
                yield from _matches_below(child, others)


def _folders(directory: Path, hidden: tuple[str, ...]) -> Iterator[Path]:
    """The folder and all below it, save those whose names begin with `hidden`; each once, so that no link loops."""
    visited: set[Path] = set()
    waiting = [directory]
    while waiting:
        folder = waiting.pop()
        if folder.is_dir() and (real := folder.resolve()) not in visited:
            visited.add(real)
            yield folder
            waiting += [child for child in folder.iterdir() if not child.name.startswith(hidden)]


def _files(match: Path, key: str) -> Iterator[Path]:
    """A file itself, or what a folder stands for. Raises EdgeFileError for what is neither."""
    if match.is_file():
        yield match
    elif not match.is_dir():
        fault = "is no file" if match.exists() else "does not exist"
        raise EdgeFileError(f"{match} {fault}. {key} names it: correct that or put the file there.")
    else:
        for folder in _folders(match, hidden=(".", "_")):
            for child in folder.iterdir():
                if not child.is_dir() and not child.name.startswith((".", "_")):
                    yield from _files(child, key)


def open_edge_file(path: Path, columns: Sequence[str] | None) -> EdgeFile:
    """The edge file at `path`, whose ending says what it is; folders called `name=value` above it add columns.

    `columns` names the columns of a text file that has no header line.

    Raises EdgeFileError for an ending that says nothing.
    """
    file = _open(path, columns)
    values = partition_values(path)
    return PartitionedEdgeFile(file, values) if values else file


def _refuse_tables(files: Sequence[Path]) -> None:
    """Raise EdgeFileError for files below the folder of a table, however far: some may be no part of it any more."""
    here = dict.fromkeys(file.parent for file in files if holds_rows(file.name))
    places = dict.fromkeys(place for folder in here for place in (folder.absolute(), folder.resolve()))
    for folder in dict.fromkeys(above for place in places for above in (place, *place.parents)):
        kind = "Hive" if is_part_of_hive(folder.name) else None
        kind = kind or next((kind for log, kind in (LOGS | MARKS).items() if any(folder.glob(log))), None)
        if kind is not None:
            raise EdgeFileError(told(f"{folder} is", kind))


def is_json_lines(path: Path) -> bool:
    """Whether the file at `path` is one of JSON lines, perhaps compressed, by its ending."""
    return _ending(path) in _JSON_LINES


def _ending(path: Path) -> str:
    """What says how the text of a file is to be read; of other files the last ending."""
    ending = path.suffix.lower()
    return path.with_suffix("").suffix.lower() if ending in CODECS else ending


def _open(path: Path, columns: Sequence[str] | None) -> EdgeFile:
    if path.suffix.lower() in PARQUET:
        return ParquetEdgeFile(path)
    ending = _ending(path)
    if ending in _TEXT:
        return TextEdgeFile(path, _TEXT[ending], tuple(columns) if columns else None, file_opener(path))
    if ending in _JSON_LINES:
        return JsonLinesEdgeFile(path, file_opener(path))
    raise EdgeFileError(
        f"{path}: the ending does not say what the file is. Use .parquet, .csv, .tsv or .jsonl, "
        f"and after one of the last three perhaps {', '.join(CODECS)}; or name the files that are meant by a glob."
    )

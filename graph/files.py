"""Which files a relation's edges stand in, and what sort each is by its ending."""

import glob
from collections.abc import Sequence
from pathlib import Path

from bundle.errors import EdgeFileError, GraphFileError
from graph.edge_file import EdgeFile
from graph.parquet import ParquetEdgeFile
from graph.text import CSV_DELIMITERS, TSV_DELIMITERS, TextEdgeFile
from graph.textstream import CODECS, file_opener

_GLOB_CHARACTERS = frozenset("*?[")


def expand(base: Path, patterns: Sequence[str], key: str) -> list[Path]:
    """The files that `patterns` name, relative to `base`; those of one glob in the order of their names.

    Raises GraphFileError for a glob that matches nothing, EdgeFileError for a file that does not exist.
    """
    paths: list[Path] = []
    for pattern in patterns:
        matches = _matches(base, pattern)
        if not matches:
            raise GraphFileError(f"{key}: {pattern!r} matches no file in {base.resolve()}. Correct it.")
        paths += matches
    for path in paths:
        if not path.is_file():
            fault = "is no file" if path.exists() else "does not exist"
            raise EdgeFileError(f"{path} {fault}. {key} names it: correct that or put the file there.")
    return paths


def _matches(base: Path, pattern: str) -> list[Path]:
    plain = base / pattern
    if plain.exists() or not _GLOB_CHARACTERS & set(pattern):
        return [plain]
    names = glob.glob(pattern, root_dir=base, recursive=True)  # noqa: PTH207  (Path.glob takes no absolute pattern)
    return [base / name for name in sorted(names)]


def open_edge_file(path: Path, columns: Sequence[str] | None) -> EdgeFile:
    """The edge file at `path`, whose ending says what it is.

    `columns` names the columns of a text file that has no header line.

    Raises EdgeFileError for an ending that says nothing.
    """
    name = path.name.lower()
    if name.endswith((".parquet", ".pq")):
        return ParquetEdgeFile(path)
    text = path.with_suffix("").suffix.lower() if path.suffix.lower() in CODECS else path.suffix.lower()
    if text in (".csv", ".tsv"):
        delimiters = CSV_DELIMITERS if text == ".csv" else TSV_DELIMITERS
        return TextEdgeFile(path, delimiters, tuple(columns) if columns else None, file_opener(path))
    raise EdgeFileError(
        f"{path}: the ending does not say what the file is. Use .parquet, .csv or .tsv (text may end in .gz too)."
    )

"""Public data sets, from the files a user has downloaded, to a graph directory: Parquet files and a graph.toml.

Files are streamed. What is imported is left as it stands: repeats and self-loops go when the graph is prepared.
"""

import io
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bundle.appearing import appearing
from bundle.disk import write_text
from bundle.errors import EdgeFileError, UsageError
from bundle.ids import IdKind, parse_int_id
from bundle.progress import SILENT, Progress
from graph.edge_file import EdgeFile
from graph.edge_reader import EdgeBatch, EdgeReader
from graph.files import open_edge_file
from graph.rawtext import squashed_opener, zip_opener
from graph.schema import RelationSpec
from graph.text import CSV_DELIMITERS, TSV_DELIMITERS, TextEdgeFile
from graph.textstream import TextBlocks, file_opener

SourceName = Literal["twitter-follow", "twitter-fave", "snap", "triples"]
ThirdColumn = Literal["time", "weight", "ignore"]
_TRIPLE = ("head", "relation", "tail")
_UNDIRECTED = ("# undirected graph", "% sym ")
# Matrices of which one triangle is written, by the last word of the first line.
_TRIANGLES = ("symmetric", "skew-symmetric", "hermitian")
_UNPACK = {".gz": "gzip -dc", ".bz2": "bzip2 -dc", ".zst": "zstd -dc"}


def import_graph(
    source: SourceName,
    files: Sequence[Path],
    out: Path,
    progress: Progress = SILENT,
    third: ThirdColumn | None = None,
) -> Path:
    """Import `files` of the format `source` into the new directory `out`; returns the path of its graph.toml.

    `third` says what a third column of a SNAP edge list is.

    Raises UsageError when the files do not suit, EdgeFileError for a bad file, and as `appearing`.
    """
    for file in files:
        if not file.is_file():
            fault = "is no file" if file.exists() else "does not exist"
            raise EdgeFileError(f"{file} {fault}. Give the path of the file you downloaded.")
    if third is not None and source != "snap":
        raise UsageError(f"A third column is for SNAP edge lists; {source} files have fixed columns. Leave it out.")
    importers: dict[SourceName, Callable[[Path], str]] = {
        "twitter-follow": lambda staging: _twitter(files, staging, progress, FOLLOW),
        "twitter-fave": lambda staging: _twitter(files, staging, progress, FAVE),
        "snap": lambda staging: _snap(files, staging, progress, third),
        "triples": lambda staging: _triples(files, staging, progress),
    }
    with appearing(out) as staging:
        write_text(staging / "graph.toml", importers[source](staging))
    return out / "graph.toml"


@dataclass(frozen=True, slots=True)
class TwitterFormat:
    """One of Twitter's two published graphs."""

    title: str
    relation: str
    target: str
    target_column: str


FOLLOW = TwitterFormat("TwitterFollowGraph", "follows", "author", "author_index")
FAVE = TwitterFormat("TwitterFaveGraph", "favorites", "tweet", "tweet_index")

TWITTER_TOML = """# {title}: the two columns are separate id spaces, so user 7 is not {target} 7.
# Times are chunks: ordinal, not seconds. A repeated edge counts once, with its earliest chunk.
[entities.user]
id = "int64"
[entities.{target}]
id = "int64"

[[relations]]
name = "{relation}"
source = "user"
target = "{target}"
files = "{relation}.parquet"
time = "time"

[split]
relation = "{relation}"
by = "time"
fraction = 0.1
"""


def _twitter(files: Sequence[Path], out: Path, progress: Progress, form: TwitterFormat) -> str:
    spec = RelationSpec(
        name=form.relation,
        source="user",
        target=form.target,
        files=tuple(str(file) for file in files),
        src="user_index",
        dst=form.target_column,
        time="time_chunk",
    )
    tables = [
        TextEdgeFile(file, CSV_DELIMITERS, None, zip_opener(file))
        if file.suffix.lower() == ".zip"
        else open_edge_file(file, None)
        for file in files
    ]
    _convert(tables, spec, "int64", out / f"{form.relation}.parquet", progress)
    return TWITTER_TOML.format(title=form.title, target=form.target, relation=form.relation)


SNAP_TOML = """# Imported from {names}.
[entities.node]
id = "{kind}"

[[relations]]
name = "edges"
source = "node"
target = "node"
files = "edges.parquet"
{options}
[split]
relation = "edges"
by = "{by}"
fraction = 0.1
"""


def _snap(files: Sequence[Path], out: Path, progress: Progress, third: ThirdColumn | None) -> str:
    for file in files:
        _refuse_others(file)
    undirected = _are_undirected(files)
    plain = [TextEdgeFile(file, (" ",), None, squashed_opener(file)) for file in files]
    columns, kind = _snap_columns(plain[0], third)
    role = third if third != "ignore" and len(columns) > 2 else None
    spec = RelationSpec(
        name="edges",
        source="node",
        target="node",
        files=tuple(str(file) for file in files),
        columns=columns,
        weight="weight" if role == "weight" else None,
        time="time" if role == "time" else None,
    )
    lists = [TextEdgeFile(file.path, (" ",), columns, file.opener) for file in plain]
    _convert(lists, spec, kind, out / "edges.parquet", progress)
    options = f'{role} = "{role}"\n' if role else ""
    if undirected:
        options += "symmetric = true\n"
    names = ", ".join(file.name for file in files)
    return SNAP_TOML.format(names=names, kind=kind, options=options, by="time" if role == "time" else "random")


def _snap_columns(file: TextEdgeFile, third: ThirdColumn | None) -> tuple[tuple[str, ...], IdKind]:
    """The names of the columns and the kind of the ids, from the first line of data."""
    first = file.first_fields()
    if len(first) not in (2, 3):
        raise EdgeFileError(
            f"{file.path}: the first edge has {len(first)} columns, expected 2 or 3 apart by spaces or tabs. "
            "Keep source, target and perhaps a time or weight."
        )
    if len(first) == 3 and third is None:
        raise UsageError(f"{file.path} has a third column. Say what it is with --third time, weight or ignore.")
    kind: IdKind = "string" if None in (parse_int_id(first[0]), parse_int_id(first[1])) else "int64"
    return ("src", "dst", third or "ignore")[: len(first)], kind


def _are_undirected(files: Sequence[Path]) -> bool:
    """SNAP and KONECT say it in a comment at the head of the file. Raises UsageError where only some files do."""
    said = {any(line.startswith(_UNDIRECTED) for line in _head(file)): file for file in files}
    if len(said) > 1:
        raise UsageError(
            f"{said[True]} says at its head that it is undirected, {said[False]} does not. Import them apart, or begin "
            "each part of an undirected graph with the line `# Undirected graph`."
        )
    return True in said


def _refuse_others(file: Path) -> None:
    """Raise EdgeFileError for files that look like edge lists and would be read as other edges than they hold."""
    head = _head(file)
    kind = next((line.split() for line in head if line.startswith("%%matrixmarket")), None)
    if kind is not None:
        raise EdgeFileError(
            f"{file} is in MatrixMarket's format, where a line of sizes stands before the entries. If rows and columns "
            f"are the same nodes, write the entries alone and import those: `{_entries_alone(file, kind[-1])}`. Else "
            "describe it in a graph.toml of two types."
        )
    if any(line.startswith("% bip") for line in head):
        raise EdgeFileError(
            f"{file} is bipartite, as its first line says: node 1 on the left is another than node 1 on the right. "
            "Write it as CSV and describe it in a graph.toml of two types."
        )


def _entries_alone(file: Path, kind: str) -> str:
    """The command that writes the entries of a matrix, below a line that says so where they are one triangle."""
    script = "1,/^[^%]/{1!d;s/.*/% sym MatrixMarket/;}" if kind in _TRIANGLES else "1,/^[^%]/d"
    path, out = shlex.quote(str(file)), shlex.quote(f"{file}.edges")
    unpack = _UNPACK.get(file.suffix.lower())
    return f"sed '{script}' {path} > {out}" if unpack is None else f"{unpack} {path} | sed '{script}' > {out}"


def _head(file: Path) -> list[str]:
    """The comments before the first edge, in lower case."""
    binary = io.BufferedReader(TextBlocks(file_opener(file)().file))
    with io.TextIOWrapper(binary, encoding="utf-8-sig", errors="replace") as lines:
        return list(takewhile(lambda line: line.startswith(("#", "%")), map(str.lower, lines)))


TRIPLES_TOML = """# Imported from {names}: one relation for each value of the column rel.
[entities.entity]
id = "string"

[[relations]]
name = "*"
relation_column = "rel"
source = "entity"
target = "entity"
files = "train.parquet"

[split]
{split}
"""


def _triples(files: Sequence[Path], out: Path, progress: Progress) -> str:
    parts = _triple_parts(files)
    spec = RelationSpec(
        name="*",
        relation_column="relation",
        source="entity",
        target="entity",
        files=tuple(str(file) for file in files),
        src="head",
        dst="tail",
    )
    for part, file in parts.items():
        _convert([_triple_file(file)], spec, "string", out / f"{part}.parquet", progress)
    names = ", ".join(file.name for file in files)
    return TRIPLES_TOML.format(names=names, split=_triple_split(parts))


def _triple_split(parts: dict[str, Path]) -> str:
    if "test" not in parts:
        return 'by = "random"\nfraction = 0.1'
    held_out = [f'{part} = "{part}.parquet"' for part in ("valid", "test") if part in parts]
    return "\n".join(['by = "files"', *held_out])


def _triple_parts(files: Sequence[Path]) -> dict[str, Path]:
    """Which file is which, by its name; a single file is the training set."""
    if len(files) == 1:
        return {"train": files[0]}
    parts: dict[str, Path] = {}
    for file in files:
        matches = [part for part in ("train", "valid", "test") if part in file.name.lower()]
        if len(matches) != 1 or matches[0] in parts:
            raise UsageError(f"{file}: give one file, or files whose names hold train, test and perhaps valid.")
        parts[matches[0]] = file
    if "train" not in parts or "test" not in parts:
        raise UsageError(f"Of several files one must be named train and one test; found {', '.join(parts)}.")
    return parts


def _triple_file(file: Path) -> TextEdgeFile:
    headerless = TextEdgeFile(file, TSV_DELIMITERS, _TRIPLE, file_opener(file))
    fields = headerless.first_fields()
    if len(fields) != len(_TRIPLE):
        raise EdgeFileError(f"{file}: the first line has {len(fields)} columns apart by tabs, expected {_TRIPLE}.")
    return TextEdgeFile(file, TSV_DELIMITERS, None, file_opener(file)) if fields == _TRIPLE else headerless


def _convert(files: Sequence[EdgeFile], spec: RelationSpec, kind: IdKind, path: Path, progress: Progress) -> None:
    """Write the edges of all tables to one Parquet file. Raises EdgeFileError when there are none."""
    reader = EdgeReader(spec, kind, kind)
    partial = path.with_name(path.name + ".partial")
    total = sum(file.path.stat().st_size for file in files)
    try:
        with (
            pq.ParquetWriter(partial, _schema(spec, kind), compression="zstd") as writer,
            progress.stage(f"importing {path.stem}", total, "B") as stage,
        ):
            count = sum(_write(writer, batch) for file in files for batch in reader.file_batches(file, stage))
        if count == 0:
            raise EdgeFileError(f"{files[0].path}: no edge in it. Give the file with the edges.")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _schema(spec: RelationSpec, kind: IdKind) -> Any:
    ids = pa.int64() if kind == "int64" else pa.large_string()
    fields = [("src", ids), ("dst", ids)]
    if spec.relation_column is not None:
        fields.append(("rel", pa.large_string()))
    if spec.weight is not None:
        fields.append(("weight", pa.float64()))
    if spec.time is not None:
        fields.append(("time", pa.int64()))
    return pa.schema(fields)


def _write(writer: Any, batch: EdgeBatch) -> int:
    columns = [batch.src, batch.dst, batch.relation, batch.weight, batch.time]
    arrays = [
        pa.array(column) if isinstance(column, np.ndarray) else column for column in columns if column is not None
    ]
    fields = [array.cast(field.type) for array, field in zip(arrays, writer.schema, strict=True)]
    writer.write_batch(pa.record_batch(fields, schema=writer.schema))
    return len(batch)

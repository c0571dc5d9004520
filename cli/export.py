"""`twhin export`: a version in the formats of others."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.output import JsonFlag, counted, emit, line
from cli.progress import progress
from cli.versions import BundlesOption, resolve


class To(StrEnum):
    """The formats."""

    parquet = "parquet"
    npy = "npy"
    safetensors = "safetensors"
    projector = "projector"
    feast = "feast"


def export(
    version: Annotated[str, typer.Argument(help="A version's name, `latest` or `current`.")],
    bundles: BundlesOption,
    out: Annotated[Path, typer.Option("--out", help="Directory for the files; a new one.", metavar="DIR")],
    to: Annotated[To, typer.Option("--to", metavar="FORMAT", help=f"One of {', '.join(To)}.")] = To.parquet,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="An entity type; may be repeated. All by default.")
    ] = None,
    columns: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help="What besides the ids: vector, decoded, codes, cluster, mixture; comma separated."
        ),
    ] = "vector",
    space: Annotated[str | None, typer.Option(help="The embedding space; the version's first by default.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the ids and vectors of a version as Parquet, .npy, safetensors, for the Embedding Projector or for Feast.

    Written a few thousand rows at a time: memory stays small whatever the version's size.
    """
    from bundle.versions import open_version
    from export.table import chosen
    from export.write import export as write

    opened = open_version(bundles, resolve(bundles, version))
    tables = chosen(opened, space, types or [], [name.strip() for name in columns.split(",")])
    files = write(tables, to.value, out, progress())
    size = sum(path.stat().st_size for path in files)
    answer = {
        "version": opened.version,
        "files": [{"path": path, "size_bytes": path.stat().st_size} for path in files],
        "rows": {table.name: len(table) for table in tables},
    }
    rows = counted(sum(map(len, tables)), "row")
    emit(answer, as_json, lambda: line(f"Exported {rows} of {opened.version} to {out}: {size:,} bytes."))

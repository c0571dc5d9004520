"""Writing an export into a new directory."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from bundle.appearing import appearing
from bundle.progress import Progress, Stage
from export.table import ExportedTable

Format = Literal["parquet", "npy", "safetensors", "projector", "feast"]
Writer = Callable[[ExportedTable, Path, Stage], list[Path]]


def export(tables: Sequence[ExportedTable], to: Format, out: Path, progress: Progress) -> list[Path]:
    """Write `tables` into the new directory `out`. Returns the files. Raises as `appearing`."""
    write = _writer(to)
    with appearing(out) as staging:
        files = _write_all(tables, write, staging, progress)
    return [out / path.name for path in dict.fromkeys(files)]


def _write_all(tables: Sequence[ExportedTable], write: Writer, staging: Path, progress: Progress) -> list[Path]:
    files = []
    for table in tables:
        with progress.stage(f"Exporting {table.name}", len(table), "rows") as stage:
            files += write(table, staging, stage)
    return files


def _writer(to: Format) -> Writer:
    """The writer of a format, imported when it is asked for: two of them need pyarrow."""
    if to == "parquet":
        from export.parquet import write
    elif to == "feast":
        from export.feast import write
    elif to == "projector":
        from export.projector import write
    elif to == "npy":
        from export.arrays import write_npy as write
    else:
        from export.arrays import write_safetensors as write
    return write

"""Writing an export: a new directory that appears whole or not at all."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from bundle.disk import beside, full_disk_named, locked, make_durable
from bundle.errors import UsageError
from bundle.progress import Progress, Stage
from export.table import ExportedTable

Format = Literal["parquet", "npy", "safetensors", "projector", "feast"]
Writer = Callable[[ExportedTable, Path, Stage], list[Path]]


def export(tables: Sequence[ExportedTable], to: Format, out: Path, progress: Progress) -> list[Path]:
    """Write `tables` into the new directory `out`. Returns the files. Raises UsageError when `out` has files already,
    DiskFull when there is no room.
    """
    write = _writer(to)
    with appearing(out) as staging:
        files = _write_all(tables, write, staging, progress)
    return [out / path.name for path in dict.fromkeys(files)]


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """A directory to write into, which becomes `out` at the end and is gone after an error. Raises as `export`."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already. Give --out a new directory.")
    staging, busy = beside(out, "partial"), UsageError(f"Another process writes {out}. Give --out another directory.")
    with full_disk_named(out, "Make room and run it again."), locked(beside(out, "lock"), busy, remove=True):
        shutil.rmtree(staging, ignore_errors=True)
        try:
            staging.mkdir()
            yield staging
            for path in staging.iterdir():
                make_durable(path)
            final = out.resolve()
            if final.is_dir():
                final.rmdir()
            staging.rename(final)
            make_durable(final.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


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

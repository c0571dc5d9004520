"""Tables of a lakehouse, told by their logs: their folders also hold files of rows that were deleted since."""

import re

# The logs, as patterns of paths below the folder of a table, and what the tables are called.
LOGS = {
    "_delta_log": "Delta",
    ".hoodie": "Hudi",
    "metadata/version-hint.text": "Iceberg",
    "metadata/v[0-9]*.metadata.json*": "Iceberg",  # or .json.gz, as earlier releases called it
    "metadata/[0-9][0-9][0-9][0-9][0-9]-*.metadata.json*": "Iceberg",
}
# What stands in each folder of a table that holds rows, whatever the folders are called.
MARKS = {".hoodie_partition_metadata*": "Hudi"}
# What their rows stand in.
PARQUET = (".parquet", ".pq")
# Folders within a table: `data`, partitions (`dt=2026-01-31`, `2026`), the digits that Iceberg spreads files by.
_WITHIN = re.compile(r"data|[^=]+=.*|[0-9]+(-[0-9]+)*")


def holds_rows(name: str) -> bool:
    """Whether a file of this name may be one of a table."""
    return name.lower().endswith(PARQUET)


def may_be_within(folder: str) -> bool:
    """Whether a folder of this name may lie in that of a table."""
    return _WITHIN.fullmatch(folder) is not None


def told(table: str, kind: str) -> str:
    """What to say of a table, and what to do instead."""
    article = "an" if kind == "Iceberg" else "a"
    return (
        f"{table} {article} {kind} table: its folder may hold files of rows that were deleted since. "
        "Export the table to Parquet files and name those."
    )

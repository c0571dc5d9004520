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
# What a transaction of Hive's wrote, in a folder of its own; it keeps no other log where the files are.
_OF_HIVE = re.compile(r"(base|delta|delete_delta)_[0-9]{7,}(_v?[0-9]+)*")


def holds_rows(name: str) -> bool:
    """Whether a file of this name may be one of a table."""
    return name.lower().endswith(PARQUET)


def is_part_of_hive(folder: str) -> bool:
    """Whether a folder of this name is a part of a transactional table of Hive's."""
    return _OF_HIVE.fullmatch(folder) is not None


def told(table: str, kind: str) -> str:
    """What to say of a table, or a part of one, and what to do instead."""
    article = "an" if kind == "Iceberg" else "a"
    return (
        f"{table} {article} {kind} table: what lies below it may be files of rows that were deleted since. "
        "Export the table to Parquet files and name those; files that are none of its are read where each is named."
    )

"""Feast: a Parquet file a type with the time from which its vectors were served, and the definitions that read it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bundle.progress import Stage
from bundle.versions import timeline
from export.parquet import WRITING, arrow, column_type
from export.table import ExportedTable

HEAD = '''"""Feature views over version {version} of twhin, as `twhin export --to feast` wrote them."""

from collections.abc import Sequence
from datetime import timedelta

from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, Int32, UInt8

'''
VIEW = """{variable} = Entity(name="{name}", join_keys=["{name}_id"], value_type=ValueType.STRING)
{variable}_twhin = FeatureView(
    name="{name}_twhin",
    entities=[{variable}],
    ttl=timedelta(0),
    schema=[{fields}],
    source=FileSource(path="{name}.parquet", timestamp_field="event_timestamp", created_timestamp_column="created"),
    tags={{"version": "{version}"}},
)

"""
STORE = """project: twhin
provider: local
registry: registry.db
offline_store:
  type: file
entity_key_serialization_version: 3
"""
TIME = pa.timestamp("us", tz="UTC")
FEAST_TYPES = {"vector": "Array(Float32)", "decoded": "Array(Float32)", "codes": "Array(UInt8)", "cluster": "Int32"}


def write(table: ExportedTable, directory: Path, stage: Stage) -> list[Path]:
    """Write `<type>.parquet`, the type's part of `features.py`, and `feature_store.yaml`.

    `event_timestamp` is when the version was first published, so that a point-in-time join over the files of several
    versions finds what was served; `created` is when it was built. Mixtures, which Feast has no type for, stay out.
    """
    columns = [column for column in table.columns if column not in table.mixtures]
    fields = [pa.field(f"{table.name}_id", pa.string(), nullable=False)]
    fields += [pa.field(name, TIME, nullable=False) for name in ("event_timestamp", "created")]
    # Feast reads lists of any size, not those of a fixed one.
    fields += [pa.field(name, _loose(column_type(table, name))) for name in columns]
    schema = pa.schema(fields, metadata=table.about())
    path, moments = directory / f"{table.name}.parquet", (served_since(table), table.bundle.manifest.created)
    with pq.ParquetWriter(path, schema, **WRITING | {"write_statistics": [f"{table.name}_id"]}) as writer:
        for part in table.parts():
            times = [pa.repeat(pa.scalar(moment, TIME), len(part)) for moment in moments]
            arrays = [arrow(part.columns[name], schema).cast(schema.field(name).type) for name in columns]
            batch = pa.record_batch([pa.array(part.texts(), pa.string()), *times, *arrays], schema=schema)
            writer.write_batch(batch, row_group_size=len(part))
            stage.advance(len(part))
    return [path, *_definitions(table, columns, directory)]


def served_since(table: ExportedTable) -> datetime:
    """When the version was first published; when it was built, if it never was."""
    published = [one.at for one in timeline(table.bundle.path.parent) if one.version == table.bundle.version]
    return datetime.fromtimestamp(published[0], UTC) if published else table.bundle.manifest.created


def _loose(kind: pa.DataType) -> pa.DataType:
    return pa.list_(kind.value_type) if pa.types.is_fixed_size_list(kind) else kind


def _definitions(table: ExportedTable, columns: Sequence[str], directory: Path) -> list[Path]:
    features, store = directory / "features.py", directory / "feature_store.yaml"
    version = table.bundle.version
    fields = ", ".join(f'Field(name="{name}", dtype={FEAST_TYPES[name]})' for name in columns)
    variable = table.name.replace("-", "_")
    new = not features.exists()
    with features.open("a", encoding="utf-8") as file:
        file.write(
            (HEAD.format(version=version) if new else "")
            + VIEW.format(variable=variable, name=table.name, fields=fields, version=version)
        )
    store.write_text(STORE, encoding="utf-8")
    return [features, store]

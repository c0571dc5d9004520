"""Parquet: a file a type, with `id`, and vectors as lists of a fixed size."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bundle.csr import Csr
from bundle.progress import Stage
from export.table import Array, ExportedTable

# Floats of an embedding hardly compress; what is tried costs more than it saves.
WRITING = {"use_dictionary": False, "compression": "none", "write_statistics": ["id"]}
MODE = pa.struct([pa.field("cluster", pa.int32(), nullable=False), pa.field("weight", pa.float32(), nullable=False)])


def write(table: ExportedTable, directory: Path, stage: Stage) -> list[Path]:
    """Write `<type>.parquet`."""
    path = directory / f"{table.name}.parquet"
    id_type = pa.int64() if table.integers else pa.string()
    columns = [pa.field(name, column_type(table, name), nullable=name == "cluster") for name in table.columns]
    schema = pa.schema([pa.field("id", id_type, nullable=False), *columns], metadata=table.about())
    with pq.ParquetWriter(path, schema, **WRITING) as writer:
        for part in table.parts():
            arrays = [pa.array(part.ids, id_type), *(arrow(part.columns[name], schema) for name in table.columns)]
            writer.write_batch(pa.record_batch(arrays, schema=schema), row_group_size=len(part))
            stage.advance(len(part))
    return [path]


def column_type(table: ExportedTable, column: Any) -> pa.DataType:
    """The Arrow type of a column."""
    if column == "cluster":
        return pa.int32()
    if column in table.mixtures:
        return pa.list_(MODE)
    number = pa.uint8() if column == "codes" else pa.float32()
    return pa.list_(pa.field("element", number, nullable=False), table.width(column))


def arrow(values: Array | Csr, schema: pa.Schema) -> pa.Array:
    """Rows as Arrow has them: numbers, lists of a fixed size, or the modes of a mixture."""
    if isinstance(values, Csr):
        modes = pa.StructArray.from_arrays([pa.array(values.indices), pa.array(values.weights)], fields=list(MODE))
        return pa.ListArray.from_arrays(pa.array(values.indptr.astype(np.int32)), modes, type=pa.list_(MODE))
    if values.ndim == 1:
        return pa.array(values, mask=values < 0)
    number = pa.uint8() if values.dtype == np.uint8 else pa.float32()
    kind = pa.list_(pa.field("element", number, nullable=False), values.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)

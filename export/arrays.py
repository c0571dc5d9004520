"""Bare arrays: `.npy` files, or one safetensors file a type, written row by row behind a header."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bundle.csr import Csr
from bundle.progress import Stage
from export.table import ExportedTable

# safetensors' names of the types used here, and their bytes.
TENSOR_TYPES = {"float32": "F32", "uint8": "U8", "int32": "I32", "int64": "I64"}
Shape = tuple[int, ...]


def write_npy(table: ExportedTable, directory: Path, stage: Stage) -> list[Path]:
    """Write `<type>.id.npy` (int64) or `<type>.id.jsonl` (a JSON string a line), and `<type>.<column>.npy`."""
    files = {name: directory / f"{table.name}.{name}.npy" for name, _, _ in _layout(table)}
    texts = directory / f"{table.name}.id.jsonl"
    with ExitStack() as stack:
        opened = {name: stack.enter_context(path.open("wb")) for name, path in files.items()}
        for name, dtype, shape in _layout(table):
            header = {"descr": dtype.newbyteorder("<").str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(opened[name], header)
        if table.integers:
            _write_rows(table, opened, stage)
            return list(files.values())
        with texts.open("w", encoding="utf-8") as lines:
            _write_rows(table, opened, stage, lambda ids: lines.write("".join(f"{json.dumps(one)}\n" for one in ids)))
    return [texts, *files.values()]


def write_safetensors(table: ExportedTable, directory: Path, stage: Stage) -> list[Path]:
    """Write `<type>.safetensors`: `id` (I64) or `id.utf8` and `id.offsets`, and a tensor a column.

    Id i of a type of strings is `utf8[offsets[i]:offsets[i + 1]]`.
    """
    path = directory / f"{table.name}.safetensors"
    layout, ids = list(_layout(table)), table.table.ids
    strings = {} if table.integers else {"id.offsets": ids.offsets, "id.utf8": ids.utf8}  # type: ignore[attr-defined]
    shapes: list[tuple[str, Any, Shape]] = [(name, array.dtype, array.shape) for name, array in strings.items()]
    header: dict[str, object] = {"__metadata__": table.about()}
    places, end = {}, 0
    # Wide types first, so that every tensor begins at a multiple of its type's size.
    for name, dtype, shape in sorted([*layout, *shapes], key=lambda one: -one[1].itemsize):
        begin, end = end, end + int(np.prod(shape)) * dtype.itemsize
        header[name] = {"dtype": TENSOR_TYPES[dtype.name], "shape": list(shape), "data_offsets": [begin, end]}
        places[name] = begin
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with ExitStack() as stack:
        file = stack.enter_context(path.open("wb"))
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
        file.flush()
        opened = {name: stack.enter_context(path.open("r+b")) for name in places}
        for name, own in opened.items():
            own.seek(8 + len(text) + places[name])
            if name in strings:
                own.write(np.ascontiguousarray(strings[name]).data)
        _write_rows(table, opened, stage)
    return [path]


def _layout(table: ExportedTable) -> Iterator[tuple[str, Any, Shape]]:
    """Name, type and shape of every array of a type, ids of strings aside."""
    n = len(table)
    if table.integers:
        yield "id", np.dtype(np.int64), (n,)
    for column in table.columns:
        if column in table.mixtures:
            entries = len(table.mixtures[column].indices)
            yield f"{column}.indptr", np.dtype(np.int64), (n + 1,)
            yield f"{column}.cluster", np.dtype(np.int32), (entries,)
            yield f"{column}.weight", np.dtype(np.float32), (entries,)
        elif column == "cluster":
            yield "cluster", np.dtype(np.int32), (n,)
        else:
            yield column, np.dtype(np.uint8 if column == "codes" else np.float32), (n, table.width(column))


def _write_rows(
    table: ExportedTable,
    files: Mapping[str, BinaryIO],
    stage: Stage,
    write_texts: Callable[[Sequence[str]], object] = lambda ids: None,
) -> None:
    written = dict.fromkeys(table.mixtures, 0)  # entries of each
    for column in table.mixtures:
        files[f"{column}.indptr"].write(np.zeros(1, dtype="<i8").data)
    for part in table.parts():
        if isinstance(part.ids, list):
            write_texts(part.ids)
        else:
            files["id"].write(np.ascontiguousarray(part.ids).data)
        for column, values in part.columns.items():
            if isinstance(values, Csr):
                _write_modes(files, column, values, written[column])
                written[column] += len(values.indices)
            else:
                files[column].write(np.ascontiguousarray(values).data)
        stage.advance(len(part))


def _write_modes(files: Mapping[str, BinaryIO], column: str, modes: Csr, before: int) -> None:
    """Those of some rows, behind the entries that were written `before`."""
    files[f"{column}.indptr"].write((modes.indptr[1:] + before).data)
    files[f"{column}.cluster"].write(modes.indices.data)
    files[f"{column}.weight"].write(np.asarray(modes.weights, dtype=np.float32).data)

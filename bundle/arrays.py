"""Arrays on disk: `.npy` files written in one step and mapped read-only, never pickled."""

import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from bundle.errors import BundleIncomplete, BundleInvalid

AnyArray = npt.NDArray[Any]
AGAIN = "Build or copy the version again."


def save_array(path: Path, array: AnyArray) -> None:
    """Write `array` to `path` so that a reader sees the whole file or none: temporary file, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def map_array(path: Path) -> AnyArray:
    """Map the `.npy` file at `path` read-only.

    Raises BundleIncomplete when the file is missing or short, BundleInvalid when it is not such a file.
    """
    try:
        with path.open("rb") as file:
            shape, fortran_order, dtype = _read_header(file)
            offset = file.tell()
            size_bytes = os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise BundleIncomplete(f"{path} is missing. {AGAIN}") from error
    except (ValueError, EOFError) as error:
        raise BundleInvalid(f"{path} is not a .npy array. {AGAIN}") from error
    if dtype.hasobject or fortran_order or min(shape, default=0) < 0:
        raise BundleInvalid(f"{path} is not a plain array of numbers in C order. {AGAIN}")
    n_bytes = math.prod(shape) * dtype.itemsize
    if size_bytes < offset + n_bytes:
        raise BundleIncomplete(f"{path} is cut short: {size_bytes} bytes of {offset + n_bytes}. {AGAIN}")
    if n_bytes == 0:  # nothing to map
        return np.empty(shape, dtype)
    # A plain view: np.memmap objects cost more on every slice.
    return np.memmap(path, dtype, mode="r", offset=offset, shape=shape).view(np.ndarray)


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    if np.lib.format.read_magic(file) == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def write_text(path: Path, text: str, partial: Path | None = None) -> None:
    """Replace the file at `path` by `text` in one step and make it durable.

    It is written to `partial` first: a file beside `path` by default, which a kill may leave behind.
    """
    partial = partial or path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames inside the directory at `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

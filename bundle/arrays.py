"""Arrays on disk: `.npy` files written in one step and mapped read-only, never pickled."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.errors import BundleIncomplete, BundleInvalid

AnyArray = npt.NDArray[Any]


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
    """Map the `.npy` file at `path` read-only; an empty array is read instead, since it cannot be mapped.

    Raises BundleIncomplete when the file is missing or short, BundleInvalid when it is not such a file.
    """
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
        array: AnyArray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise BundleIncomplete(f"{path} is missing. Build or copy the version again.") from error
    except ValueError as error:
        if "empty file" in str(error) or path.stat().st_size < 64:
            raise BundleIncomplete(f"{path} is cut short. Build or copy the version again.") from error
        if "mmap" in str(error):
            return read_array(path)
        raise BundleInvalid(f"{path} is not a plain .npy array. Build or copy the version again.") from error
    return array.view(np.ndarray)


def read_array(path: Path) -> AnyArray:
    """Read the whole `.npy` file at `path` into memory."""
    array: AnyArray = np.load(path, allow_pickle=False)
    return array


def write_text(path: Path, text: str) -> None:
    """Replace the file at `path` by `text` in one step and make it durable."""
    partial = path.with_name(path.name + ".partial")
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

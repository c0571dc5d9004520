""".npy files that grow by batches, with a digest of what is in them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.arrays import forget_pages, map_array
from bundle.disk import make_files_durable

# Bytes of a mapped array.
_HASHED_AT_ONCE = 4 << 20


class GrowingArray:
    """A one-dimensional `.npy` file written batch by batch.

    The header is written first and its length patched at the end; numpy pads it for just that.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self.path = path
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.count = 0
        self._sha = hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            self._write_header(file)

    def append(self, values: npt.NDArray[Any]) -> None:
        """Write one batch."""
        data = np.ascontiguousarray(values, dtype=self.dtype).data
        with self.path.open("ab") as file:
            file.write(data)
        self._sha.update(data)
        self.count += len(values)

    def mapped(self) -> npt.NDArray[Any]:
        """What was written so far, mapped read-only."""
        if self.count == 0:
            return np.zeros(0, dtype=self.dtype)
        size = self.path.stat().st_size - self.count * self.dtype.itemsize
        return np.memmap(self.path, self.dtype, mode="r", offset=size, shape=(self.count,)).view(np.ndarray)

    def finish(self) -> str:
        """Set the length and return the digest of its type, length and values; the file is not made durable."""
        with self.path.open("r+b") as file:
            self._write_header(file)
        return _digest(self.dtype, self.count, self._sha.hexdigest())

    def _write_header(self, file: Any) -> None:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.count,)}
        np.lib.format.write_array_header_1_0(file, header)


def array_digest(path: Path) -> str:
    """The digest of the one-dimensional `.npy` file at `path`, as `GrowingArray.finish` gives it. Raises BundleError
    for what is no such file."""
    array, sha = map_array(path), hashlib.sha256()
    step = _HASHED_AT_ONCE // array.dtype.itemsize
    for start in range(0, array.size, step):
        sha.update(array[start : start + step].data)
        forget_pages(array)
    return _digest(array.dtype, array.size, sha.hexdigest())


def _digest(dtype: np.dtype[Any], count: int, sha256: str) -> str:
    return f"{dtype.str}:{count}:{sha256}"


class ArrayFiles:
    """The growing arrays of one directory, each opened when its first batch comes."""

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        self.directory = directory
        self._durable = durable
        self._arrays: dict[Path, GrowingArray] = {}

    def append(self, path: Path, values: npt.NDArray[Any]) -> None:
        """Add a batch to the array at `path`, whose type is that of its first batch."""
        if path not in self._arrays:
            self._arrays[path] = GrowingArray(path, values.dtype)
        self._arrays[path].append(values)

    def count(self, path: Path) -> int:
        """How many values the array at `path` has so far."""
        return self._arrays[path].count if path in self._arrays else 0

    def mapped(self, path: Path) -> npt.NDArray[Any]:
        """What the array at `path` has so far, mapped read-only."""
        return self._arrays[path].mapped()

    def finish(self) -> dict[str, str]:
        """Finish all arrays, and make them durable unless they are for passing use. Returns their digests by file name
        relative to the directory, in the order of names."""
        paths = sorted(self._arrays)
        digests = [self._arrays[path].finish() for path in paths]
        if self._durable:
            make_files_durable(paths)
        return {str(path.relative_to(self.directory)): digest for path, digest in zip(paths, digests, strict=True)}

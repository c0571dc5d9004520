"""Arrays on disk: `.npy` files written in one step and mapped read-only, never pickled."""

import math
import mmap
import os
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from bundle.disk import open_plain, remedy, replacing
from bundle.errors import BundleIncomplete, BundleInvalid

AnyArray = npt.NDArray[Any]
AGAIN = "Build or copy the version again."
# Up to so many bytes are read instead of mapped. A map holds a descriptor and an area of the address space, of which a
# process has some ten thousand: a graph of a thousand relations has as many small files.
READ_BYTES = 16 << 10


def save_array(path: Path, array: AnyArray, *, durable: bool = True) -> None:
    """Write `array` to `path`, whose directory is made if missing, so that a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.asarray(array, order="C")
    with replacing(path, durable=durable) as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        # Not `tofile`, which tells of a full disk in words of its own and without the system's number.
        file.write(array.reshape(-1).view(np.uint8).data)


def map_array(path: Path) -> AnyArray:
    """Map the `.npy` file at `path` read-only; one of READ_BYTES at most is read, and is read-only too.

    Raises BundleIncomplete when the file is missing or short, BundleInvalid when it is not such a file.
    """
    try:
        with open_plain(path) as file:
            shape, fortran_order, dtype = _read_header(file)
            empty = np.empty(shape, dtype) if 0 in shape else None
            offset = file.tell()
            size_bytes = os.fstat(file.fileno()).st_size
            content = file.read(READ_BYTES) if size_bytes <= offset + READ_BYTES else None
    except FileNotFoundError as error:
        raise BundleIncomplete(f"{path} is missing. {AGAIN}") from error
    except OSError as error:
        raise BundleInvalid(f"{path} cannot be read: {error.strerror}. {remedy(error, AGAIN)}") from error
    except MemoryError:
        raise
    except Exception as error:  # numpy's reader passes on whatever Python raises for a literal
        raise BundleInvalid(f"{path} is not a .npy array. {AGAIN}") from error
    if dtype.kind not in "biuf" or fortran_order or min(shape, default=0) < 0:
        raise BundleInvalid(f"{path} is not a plain array of numbers in C order. {AGAIN}")
    n_bytes = math.prod(shape) * dtype.itemsize
    if size_bytes < offset + n_bytes:
        raise BundleIncomplete(f"{path} is cut short: {size_bytes} bytes of {offset + n_bytes}. {AGAIN}")
    if empty is not None:  # nothing to map
        return empty
    if content is not None:
        return np.frombuffer(content, dtype, math.prod(shape)).reshape(shape)
    # A plain view: np.memmap objects cost more on every slice.
    return np.memmap(path, dtype, mode="r", offset=offset, shape=shape).view(np.ndarray)


_HEADER = re.compile(
    rb"\{ *'descr': *'(?P<type>[<>|=][a-zA-Z][0-9]+)', *'fortran_order': *(?P<fortran>True|False), *"
    rb"'shape': *\((?P<shape>[0-9, ]*)\),? *\} *\n?"
)


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran's order or not, type; the file is left where the numbers begin."""
    version = np.lib.format.read_magic(file)
    start, width = file.tell(), 2 if version == (1, 0) else 4
    header = _HEADER.fullmatch(file.read(int.from_bytes(file.read(width), "little")))
    if header is not None:
        shape = tuple(map(int, filter(None, header["shape"].replace(b" ", b"").split(b","))))
        return shape, header["fortran"] == b"True", np.dtype(header["type"].decode())
    # Written in another order than numpy writes. Its own reader evaluates a literal, which takes longer and leaves
    # objects that refer to one another: what opens many files in a process that lives long had better not need it.
    file.seek(start)
    return np.lib.format.read_array_header_1_0(file) if width == 2 else np.lib.format.read_array_header_2_0(file)


def read_array(path: Path) -> AnyArray:
    """Read a whole array into memory of its own."""
    array: AnyArray = np.load(path, allow_pickle=False)
    return array


def forget_pages(array: AnyArray | None) -> None:
    """Take the pages of a mapped file out of this process: they are resident memory until then, though read again at
    no cost but time. An array in memory of its own stays as it is."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)

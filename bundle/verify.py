"""Is a version what its manifest says? Names and sizes at once, digests byte by byte."""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from bundle.arrays import AGAIN, AnyArray, map_array
from bundle.errors import BundleAltered, BundleIncomplete, BundleInvalid
from bundle.layout import MANIFEST
from bundle.manifest import FileEntry, Manifest

CHUNK_BYTES = 4 << 20


def check_files(root: Path, manifest: Manifest) -> None:
    """Compare the names and sizes under `root` with the manifest.

    Raises BundleIncomplete for a missing or short file, BundleAltered for a longer, extra or linked one.
    """
    for name, entry in manifest.files.items():
        _check_size(root, name, entry)
    extra = set(_names_under(root)) - set(manifest.files) - {MANIFEST}
    if extra:
        raise BundleAltered(
            f"{root / min(extra)} is not in the manifest. A version is immutable: remove the file, or build again."
        )


def _check_size(root: Path, name: str, entry: FileEntry) -> None:
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()) or path.is_symlink():
        raise BundleAltered(f"{path} points outside the version. {AGAIN}")
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError:
        raise BundleIncomplete(f"{path} is missing. {AGAIN}") from None
    if size_bytes < entry.size_bytes:
        raise BundleIncomplete(
            f"{path} is cut short: {size_bytes} bytes; the manifest says {entry.size_bytes}. {AGAIN}"
        )
    if size_bytes > entry.size_bytes:
        raise BundleAltered(f"{path} has {size_bytes} bytes; the manifest says {entry.size_bytes}. {AGAIN}")


def _names_under(root: Path) -> Iterable[str]:
    for directory, folders, files in os.walk(root):
        links = [folder for folder in folders if (Path(directory) / folder).is_symlink()]  # which are not walked into
        for file in (*files, *links):
            yield (Path(directory) / file).relative_to(root).as_posix()


def check_digests(
    root: Path,
    manifest: Manifest,
    names: Iterable[str] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Compare SHA-256 of the named files (all by default) with the manifest; `advance` gets bytes read.

    Raises BundleAltered naming the first file that differs.
    """
    for name in manifest.files if names is None else names:
        if digest_of(root / name, advance) != manifest.files[name].sha256:
            raise BundleAltered(f"{root / name} differs from its digest in the manifest. {AGAIN}")


def digest_of(path: Path, advance: Callable[[int], None] = lambda _: None) -> str:
    """SHA-256 of the file at `path` in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


def check_finite(root: Path, manifest: Manifest) -> None:
    """Look for NaN and Inf in every floating-point array. Raises BundleInvalid naming file and row."""
    for name in manifest.files:
        if name.endswith(".npy"):
            array = map_array(root / name)
            if array.dtype.kind == "f":
                require_finite(array, str(root / name))


def require_finite(array: AnyArray, where: str) -> None:
    """Raise BundleInvalid when `array` holds NaN or Inf, naming the first row that does; read in slices."""
    step = max(1, CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        finite = np.isfinite(array[start : start + step])
        if not finite.all():
            row = start + int(np.argwhere(~finite)[0][0])
            raise BundleInvalid(f"{where}: row {row} holds NaN or Inf. Train or build again.")

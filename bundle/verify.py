"""Is a version what its manifest says? Names and sizes at once, digests byte by byte, then the numbers."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bundle.arrays import AGAIN, AnyArray, forget_pages, map_array
from bundle.consistency import check_consistency
from bundle.disk import open_plain, remedy
from bundle.errors import BundleAltered, BundleError, BundleIncomplete, BundleInvalid, TwhinError
from bundle.layout import MANIFEST
from bundle.manifest import FileEntry, Manifest
from bundle.space import Bundle

CHUNK_BYTES = 4 << 20


def verify_bundle(bundle: Bundle, advance: Callable[[int], None] = lambda _: None) -> None:
    """Check every byte of an opened version against its digest, and that its numbers are finite and agree.

    `advance` gets the bytes read. Raises BundleError naming the first file at fault.
    """
    with refusing(bundle.path):
        check_digests(bundle.path, bundle.manifest, advance=advance)
        check_finite(bundle.path, bundle.manifest)
        check_consistency(bundle)


@contextmanager
def refusing(path: Path, family: type[TwhinError] = BundleError, again: str = AGAIN) -> Iterator[None]:
    """Make whatever goes wrong in reading the version, or the run, at `path` an error of its family, with what to do
    `again`: what damage can raise has no end."""
    try:
        yield
    except family:
        raise
    except TwhinError as error:
        raise family(f"{path}: {error}") from error
    except OSError as error:
        raise family(
            f"{error.filename or path} cannot be read: {error.strerror or error}. {remedy(error, again)}"
        ) from error
    except Exception as error:
        raise family(f"{path} cannot be read: {type(error).__name__}: {error!s:.200}. {again}") from error


def check_files(root: Path, manifest: Manifest) -> None:
    """Compare the names and sizes under `root` with the manifest.

    Raises BundleIncomplete for a missing or short file, BundleAltered for a longer or additional one and for what is
    neither file nor folder: a link would let the version change after it was checked.
    """
    found = dict(_files_under(root))
    for name, entry in manifest.files.items():
        _check_size(root / name, found.get(name), entry)
    extra = set(found) - set(manifest.files) - {MANIFEST}
    if extra:
        raise BundleAltered(
            f"{root / min(extra)} is not in the manifest. A version is immutable: remove the file, or build again."
        )


def _check_size(path: Path, size_bytes: int | None, entry: FileEntry) -> None:
    if size_bytes is None:
        raise BundleIncomplete(f"{path} is missing. {AGAIN}")
    if size_bytes < entry.size_bytes:
        raise BundleIncomplete(
            f"{path} is cut short: {size_bytes} bytes; the manifest says {entry.size_bytes}. {AGAIN}"
        )
    if size_bytes > entry.size_bytes:
        raise BundleAltered(f"{path} has {size_bytes} bytes; the manifest says {entry.size_bytes}. {AGAIN}")


def _files_under(root: Path) -> Iterator[tuple[str, int]]:
    """Every file below `root`, its path from there and its size in bytes."""
    folders = [root]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    raise BundleAltered(f"{entry.path} points outside the version: it is a link. {AGAIN}")
                if entry.is_dir():
                    folders.append(Path(entry.path))
                elif entry.is_file():
                    yield Path(entry.path).relative_to(root).as_posix(), entry.stat().st_size
                else:
                    raise BundleAltered(f"{entry.path} is a pipe or a device, not a file. {AGAIN}")


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


def find_damaged(
    root: Path, digests: Mapping[str, str], advance: Callable[[int], None] = lambda _: None
) -> Path | None:
    """The first file below `root` that is missing or is not what its SHA-256 says; None when all are whole."""
    for name, digest in digests.items():
        if not (root / name).is_file() or digest_of(root / name, advance) != digest:
            return root / name
    return None


def digest_of_fields(fields: Mapping[str, object]) -> str:
    """SHA-256 of every field but `digest`, in canonical JSON: what a record says of itself under that name."""
    others = {name: value for name, value in fields.items() if name != "digest"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def digest_of(path: Path, advance: Callable[[int], None] = lambda _: None) -> str:
    """SHA-256 of the file at `path` in hexadecimal."""
    digest = hashlib.sha256()
    with open_plain(path) as file:
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
                forget_pages(array)


def require_finite(array: AnyArray, where: str) -> None:
    """Raise BundleInvalid when `array` holds NaN or Inf, naming the first row that does; read in slices."""
    step = max(1, CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        finite = np.isfinite(array[start : start + step])
        if not finite.all():
            row = start + int(np.argwhere(~finite)[0][0])
            raise BundleInvalid(f"{where}: row {row} holds NaN or Inf. Train or build again.")

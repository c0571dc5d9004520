"""A version read from its directory, without a service: ids, vectors, mixtures, codes as NumPy, mapped, not copied."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from twhin_client.features import FeatureDecoder
from twhin_client.ids import ABSENT, Ids, IntIds, StringIds, listed
from twhin_client.manifest import InterestsEntry, Manifest, SpaceEntry, read_manifest, verify_file, version_directory
from twhin_client.problems import BundleIncomplete, BundleInvalid, EntityNotFound, QueryInvalid
from twhin_client.vectors import Vectors

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

Column = Literal["vector", "decoded", "codes", "cluster", "mixture"]
CODEWORDS = 256
ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Mixtures:
    """Row i's modes are `clusters[indptr[i]:indptr[i + 1]]`, heaviest first, with `weights` that sum to 1."""

    indptr: npt.NDArray[np.int64]
    clusters: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]

    def row(self, row: int) -> list[tuple[int, float]]:
        """The clusters of one row and their weights."""
        start, stop = self.indptr[row], self.indptr[row + 1]
        return list(zip(self.clusters[start:stop].tolist(), self.weights[start:stop].tolist(), strict=True))


class Version:
    """One version. `created` is when it was built; `spaces` has its embedding spaces, the first one is the default."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.spaces: Mapping[str, Space] = {name: Space(self, name, entry) for name, entry in manifest.spaces.items()}

    @property
    def name(self) -> str:
        """The version's name."""
        return self.manifest.version

    @property
    def created(self) -> datetime:
        """When it was built."""
        return self.manifest.created

    def space(self, name: str | None = None) -> Space:
        """The space called `name`. Raises QueryInvalid naming those there are."""
        if name is None:
            return next(iter(self.spaces.values()))
        if name not in self.spaces:
            raise QueryInvalid(f"no such space in {self.name}; it has: {', '.join(self.spaces)}")
        return self.spaces[name]

    def entities(self, type: str, space: str | None = None) -> Entities:
        """The entities of a type. Raises QueryInvalid naming the types there are."""
        return self.space(space).entities(type)

    def verify(self) -> None:
        """Compare every byte with the manifest: about 1.5 CPU seconds a GB. Raises BundleAltered, BundleIncomplete."""
        for name, entry in self.manifest.files.items():
            verify_file(self.path / name, entry)

    def array(self, file: str, dtype: Any, *shape: int | None) -> npt.NDArray[Any]:
        """Map an array and compare it with the manifest; None fits any size. Raises BundleIncomplete, BundleInvalid."""
        listed = self.manifest.files.get(file)
        path = self.path / file
        if listed is None or not path.is_file():
            raise BundleIncomplete(f"{path} is missing: copy the version again")
        try:
            mapped = np.load(path, mmap_mode=None if 0 in (listed.shape or ()) else "r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise BundleInvalid(f"{path} is no array: {error}") from error
        array: npt.NDArray[Any] = np.asarray(mapped)
        fits = len(array.shape) == len(shape) and all(
            want is None or want == have for want, have in zip(shape, array.shape, strict=True)
        )
        if array.dtype != np.dtype(dtype) or not fits or tuple(listed.shape or ()) != array.shape:
            raise BundleInvalid(
                f"{path} is {array.dtype} {array.shape}; the manifest has {listed.dtype} {listed.shape}"
            )
        return array


class Space:
    """One embedding space of a version."""

    def __init__(self, version: Version, name: str, entry: SpaceEntry) -> None:
        self._version = version
        self._tables: dict[str, Entities] = {}
        self.name = name
        self.entry = entry

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return self.entry.dim

    @property
    def types(self) -> tuple[str, ...]:
        """The entity types."""
        return tuple(entity.name for entity in self.entry.entities)

    @property
    def relations(self) -> tuple[str, ...]:
        """The relations, in the order of their vectors."""
        return tuple(relation.name for relation in self.entry.relations)

    def entities(self, type: str) -> Entities:
        """The entities of a type. Raises QueryInvalid naming the types there are."""
        if type not in self.types:
            raise QueryInvalid(f"no such entity type in {self._version.name}; it has: {', '.join(self.types)}")
        return self._tables.setdefault(type, Entities(self._version, self, type))

    def relation_vectors(self, name: str) -> npt.NDArray[np.float32]:
        """θr of a relation and its inverse, float32 [2, dim]: a source's score of a target is `(θs + θr)ᵀ θt`."""
        if name not in self.relations:
            raise QueryInvalid(f"no such relation in {self._version.name}; it has: {', '.join(self.relations[:20])}")
        every = self._version.array(f"spaces/{self.name}/relations.npy", np.float32, len(self.relations), 2, self.dim)
        vectors: npt.NDArray[np.float32] = every[self.relations.index(name)]
        return vectors

    @cached_property
    def centroids(self) -> npt.NDArray[np.float32]:
        """The centres of the clusters, float32 [clusters, dim]."""
        return self._version.array(
            f"spaces/{self.name}/clusters/centroids.npy", np.float32, self.entry.clusters.count, self.dim
        )


class Entities:
    """The entities of one type: row i of every array is `ids`' i-th."""

    def __init__(self, version: Version, space: Space, type: str) -> None:
        self._version = version
        self._space = space
        self._root = f"spaces/{space.name}"
        self._entry = next(entity for entity in space.entry.entities if entity.name == type)
        self.type = type

    def __len__(self) -> int:
        return self._entry.count

    def _file(self, kind: str, part: str = "") -> str:
        return f"{self._root}/{kind}/{self.type}{part}.npy"

    @cached_property
    def ids(self) -> Ids:
        """The external ids."""
        if self._entry.id == "int64":
            return IntIds(self._version.array(self._file("ids"), np.int64, len(self)))
        utf8 = self._version.array(self._file("ids", ".utf8"), np.uint8, None)
        offsets = self._version.array(self._file("ids", ".offsets"), np.int64, len(self) + 1)
        if offsets[-1] != len(utf8):
            raise BundleInvalid(
                f"the ids of {self.type} in {self._version.name} end at {offsets[-1]} of {len(utf8)} bytes"
            )
        return StringIds(offsets, utf8)

    @cached_property
    def vectors(self) -> npt.NDArray[np.float32]:
        """float32 [n, dim], a view of the mapped file."""
        width = self._space.dim + len(self._space.entry.columns) - 1
        return self._version.array(self._file("vectors"), np.float32, len(self), width)[:, : self._space.dim]

    @cached_property
    def codes(self) -> npt.NDArray[np.uint8] | None:
        """uint8 [n, parts]; None where the type is not compressed."""
        entry = self._space.entry.compression.get(self.type)
        if entry is None:
            return None
        return self._version.array(self._file("pq", ".codes"), np.uint8, len(self), entry.subquantizers)

    @cached_property
    def decoder(self) -> FeatureDecoder | None:
        """The codebook of the codes; None where the type is not compressed."""
        entry = self._space.entry.compression.get(self.type)
        if entry is None:
            return None
        dim, parts = self._space.dim, entry.subquantizers
        books = self._version.array(self._file("pq", ".codebooks"), np.float32, parts, CODEWORDS, dim // parts)
        rotation = self._version.array(self._file("pq", ".rotation"), np.float32, dim, dim) if entry.rotated else None
        return FeatureDecoder(books, rotation, self._etag())

    def _etag(self) -> str:
        """The name that the service gives the same codebook."""
        files = [self._file("pq", ".codebooks"), self._file("pq", ".rotation")]
        digests = [self._version.manifest.files[file].sha256 for file in files if file in self._version.manifest.files]
        return hashlib.sha256("".join(digests).encode()).hexdigest()[:32]

    @cached_property
    def clusters(self) -> npt.NDArray[np.int32] | None:
        """The cluster of each entity, int32 [n]; None where the type was not clustered."""
        if self.type not in self._space.entry.clusters.types:
            return None
        return self._version.array(f"{self._root}/clusters/of_{self.type}.npy", np.int32, len(self))

    @cached_property
    def interests(self) -> Mapping[tuple[str, ...], Mixtures]:
        """What each user likes, by the types of what is liked; empty for types that are no users."""
        entry = self._space.entry.clusters
        every = entry.interests or (InterestsEntry(entry.types, entry.mixture_type),)
        return {
            one.types: self._mixtures(f"{one.types[0]}." if place else "")
            for place, one in enumerate(every)
            if one.user_type == self.type
        }

    def _mixtures(self, prefix: str) -> Mixtures:
        root = f"{self._root}/mixtures/{prefix}"
        indptr = self._version.array(f"{root}indptr.npy", np.int64, len(self) + 1)
        n = int(indptr[-1])
        clusters = self._version.array(f"{root}clusters.npy", np.int32, n)
        return Mixtures(indptr, clusters, self._version.array(f"{root}weights.npy", np.float32, n))

    @property
    def mixtures(self) -> Mixtures | None:
        """The first of the `interests`, of the version's default where the users have some there; None for types that
        have none."""
        return next(iter(self.interests.values()), None)

    def of(self, ids: Iterable[str | int] | npt.NDArray[Any], *, decoded: bool = False) -> Vectors:
        """The vectors of `ids`, as the service's look-up gives them; `decoded`: as the codes give them back."""
        given = ids if isinstance(ids, np.ndarray) else listed(ids)
        rows = self.ids.rows(given)
        missing = rows == ABSENT
        values = np.zeros((len(rows), self._space.dim), dtype=np.float32)
        values[~missing] = self._decoded(rows[~missing]) if decoded else self.vectors[rows[~missing]]
        return Vectors(list(map(str, given)), values, missing, self._version.name)

    def _decoded(self, rows: npt.NDArray[np.int64] | slice) -> npt.NDArray[np.float32]:
        if self.decoder is None or self.codes is None:
            raise EntityNotFound(f"{self._version.name} has no compressed vectors of {self.type}")
        return self.decoder.decode(self.codes[rows])

    def batches(
        self, columns: Iterable[Column] = ("vector",), rows: int = ROWS_AT_ONCE
    ) -> Iterator[dict[str, npt.NDArray[Any] | list[str]]]:
        """All entities, `rows` at a time: `id` (int64, or strings) and the `columns` as NumPy, but `mixture`."""
        for start in range(0, len(self), rows):
            part = slice(start, min(start + rows, len(self)))
            ids = self.ids.values[part] if isinstance(self.ids, IntIds) else self.ids.externals(part)
            yield {"id": ids, **{column: self._column(column, part) for column in columns}}

    def _column(self, column: Column, part: slice) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] | None
        if column == "vector":
            found = self.vectors[part]
        elif column == "decoded":
            found = self._decoded(part)
        else:
            array = {"codes": self.codes, "cluster": self.clusters}.get(column)
            found = None if array is None else array[part]
        if found is None:
            raise QueryInvalid(f"{self._version.name} has no {column} of {self.type}")
        return found

    def to_arrow(self, columns: Iterable[Column] = ("vector",)) -> pa.Table:
        """A table of `id` (int64 or string) and `columns`: vectors and codes as lists of a fixed size, `mixture` as a
        list of {cluster, weight}, and `mixture_<type>` for each of the `interests` but the first, `cluster` null where
        there is none. Needs pyarrow.
        """
        import pyarrow as pa

        ids = self.ids.values if isinstance(self.ids, IntIds) else self.ids.externals()
        arrays: dict[str, Any] = {"id": pa.array(ids)}
        for column in columns:
            if column != "mixture":
                arrays[column] = _in_arrow(self._column(column, slice(None)))
                continue
            if not self.interests:
                raise QueryInvalid(f"{self._version.name} has no mixtures of {self.type}")
            for place, (types, mixtures) in enumerate(self.interests.items()):
                arrays[f"mixture_{types[0]}" if place else "mixture"] = _modes_in_arrow(mixtures)
        return pa.table(arrays)

    def to_pandas(self, columns: Iterable[Column] = ("vector",)) -> pd.DataFrame:
        """The same as a frame with `id` as its index; a vector is an array in its cell. Needs pandas and pyarrow."""
        frame: pd.DataFrame = self.to_arrow(columns).to_pandas().set_index("id")
        return frame

    def to_polars(self, columns: Iterable[Column] = ("vector",)) -> pl.DataFrame:
        """The same as a frame of polars. Needs polars and pyarrow."""
        import polars as pl

        frame: pl.DataFrame = pl.from_arrow(self.to_arrow(columns))
        return frame


def _modes_in_arrow(mixtures: Mixtures) -> pa.Array:
    import pyarrow as pa

    modes = [pa.array(mixtures.clusters), pa.array(mixtures.weights)]
    return pa.LargeListArray.from_arrays(
        pa.array(mixtures.indptr), pa.StructArray.from_arrays(modes, names=["cluster", "weight"])
    )


def _in_arrow(values: npt.NDArray[Any]) -> pa.Array:
    """Rows as lists of a fixed size; one number a row as it is, null where it is negative."""
    import pyarrow as pa

    if values.ndim == 1:
        return pa.array(values, mask=values < 0)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def open(path: str | Path, version: str | None = None, *, verify: bool = False) -> Version:
    """Open a version: `path` is its directory, or one of versions, of which the published one is opened unless
    `version` names another. `verify` reads every byte.

    Raises VersionNotFound, BundleFormatUnsupported, BundleInvalid, BundleAltered, BundleIncomplete.
    """
    directory = version_directory(Path(path), version)
    opened = Version(directory, read_manifest(directory))
    if verify:
        opened.verify()
    return opened

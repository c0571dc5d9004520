"""Opening a version: every file is accounted for and mapped; nothing is parsed that was not checked.

Opening looks at names, sizes, dtypes and shapes, which takes milliseconds whatever the size. The
digests, which need every byte, are checked by `bundle.verify` before publishing and before a swap.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bundle.arrays import AGAIN, AnyArray, map_array
from bundle.attributes import Attribute, open_attribute
from bundle.csr import Csr
from bundle.disk import read_plain, remedy
from bundle.errors import BundleAltered, BundleIncomplete, BundleInvalid, BundleNotFound
from bundle.ids import IdTable, IntIds, StringIds
from bundle.layout import MANIFEST, ListQuery, SpaceLayout
from bundle.manifest import Manifest, SpaceEntry
from bundle.manifest_file import parse_manifest
from bundle.pq import CODEWORDS, ProductQuantizer
from bundle.rows import CompactRows, stored_columns
from bundle.space import Bundle, CandidateLists, Clusters, EntityTable, Interests, Relation, Space, interests_among
from bundle.verify import check_files, refusing

QUERIES: tuple[ListQuery, ...] = ("centroid", "medoid")


def read_manifest(path: Path) -> Manifest:
    """The manifest of the version directory `path`. Raises BundleNotFound, BundleInvalid and others of BundleError."""
    file = path / MANIFEST
    try:
        if file.is_symlink():
            raise BundleAltered(f"{file} points outside the version: it is a link. {AGAIN}")
        content = read_plain(file)
    except FileNotFoundError as error:
        raise BundleNotFound(
            f"{path} holds no finished version: {MANIFEST} is missing. "
            "`twhin bundle show` lists the versions there are."
        ) from error
    except OSError as error:
        raise BundleInvalid(f"{file} cannot be read: {error.strerror}. {remedy(error, AGAIN)}") from error
    return parse_manifest(content, str(file))


def open_bundle(path: Path) -> Bundle:
    """Map the version at `path`. Raises BundleError naming the first file that is missing, extra or misshapen."""
    manifest = read_manifest(path)
    with refusing(path):
        check_files(path, manifest)
        spaces = {name: _SpaceReader(path, manifest, name, entry).read() for name, entry in manifest.spaces.items()}
    return Bundle(path, manifest, spaces)


class _SpaceReader:
    """Maps the arrays of one space and checks that they fit one another."""

    def __init__(self, root: Path, manifest: Manifest, name: str, entry: SpaceEntry) -> None:
        self._root = root
        self._manifest = manifest
        self._name = name
        self._entry = entry
        self._layout = SpaceLayout(name)
        self._counts = {entity.name: entity.count for entity in entry.entities}

    def read(self) -> Space:
        for index in self._entry.indexes.values():
            if index.file is not None and not self._has(index.file):
                raise BundleIncomplete(f"{self._root / MANIFEST} lists no {index.file}. {AGAIN}")
        entities = {entity.name: self._entity(entity.name) for entity in self._entry.entities}
        return Space(self._name, self._entry, entities, self._relations(), self._clusters())

    def _has(self, file: str) -> bool:
        return file in self._manifest.files

    def _array(self, file: str, dtype: Any, *shape: int | None) -> AnyArray:
        """Map `file` and compare its dtype and shape with what the manifest's counts ask for; None fits any size."""
        if not self._has(file):
            raise BundleIncomplete(f"{self._root / MANIFEST} lists no {file}. {AGAIN}")
        array = map_array(self._root / file)
        fits = len(array.shape) == len(shape) and all(
            want is None or want == have for want, have in zip(shape, array.shape, strict=True)
        )
        listed = self._manifest.files[file]
        if (listed.dtype, listed.shape) != (array.dtype.str, array.shape):
            raise BundleInvalid(
                f"{self._root / file} is {array.dtype.str} {array.shape}; the manifest lists {listed.dtype} "
                f"{listed.shape}. {AGAIN}"
            )
        if array.dtype != np.dtype(dtype) or not fits:
            wanted = "×".join("any" if size is None else str(size) for size in shape)
            found = "×".join(str(size) for size in array.shape)
            raise BundleInvalid(
                f"{self._root / file} is {array.dtype} {found}; the manifest asks for {np.dtype(dtype)} {wanted}. "
                f"{AGAIN}"
            )
        return array

    def _entity(self, name: str) -> EntityTable:
        count = self._counts[name]
        vectors = self._array(self._layout.vectors(name), np.float32, count, self._entry.width)
        quantizer, codes = self._quantizer(name, count)
        ids, attributes = self._ids(name, count), self._attributes(name, count)
        file = self._layout.coordinates(name)
        coordinates = self._array(file, np.float32, count, 2) if self._has(file) else None
        candidates = None
        if name in self._entry.candidates:
            # A plain array, so that whoever checks its bytes hands on this one and no view of it.
            candidates = np.ascontiguousarray(self._array(self._layout.candidates(name), np.uint8, (count + 7) // 8))
        return EntityTable(
            name,
            ids,
            vectors,
            self._entry.dim,
            quantizer,
            codes,
            attributes,
            coordinates,
            compact=self._compact(name, count),
            candidates=candidates,
        )

    def _compact(self, name: str, count: int) -> CompactRows | None:
        entry, dim, width = self._entry.rows.get(name), self._entry.dim, self._entry.width
        if entry is None:
            return None
        dtype, columns = stored_columns(entry.kind, dim, width)
        return CompactRows(self._array(self._layout.rows(name), dtype, count, columns), entry.kind, dim, width)

    def _attributes(self, name: str, count: int) -> dict[str, Attribute]:
        entries = next(entity.attributes for entity in self._entry.entities if entity.name == name)
        opened = {}
        for number, entry in enumerate(entries):

            def array(part: str, dtype: Any, *shape: int | None, number: int = number) -> AnyArray:
                return self._array(self._layout.attribute(name, number, part), dtype, *shape)

            opened[entry.name] = open_attribute(entry.kind, count, array)
        return opened

    def _ids(self, name: str, count: int) -> IdTable:
        kind = next(entity.id for entity in self._entry.entities if entity.name == name)
        files = self._layout.ids(name, kind)
        if kind == "int64":
            return IntIds(self._array(files[0], np.int64, count))
        utf8 = self._array(files[1], np.uint8, None)
        return StringIds(self._offsets(files[0], count, len(utf8)), utf8)

    def _offsets(self, file: str, n_rows: int, n_entries: int) -> AnyArray:
        """Map where each of `n_rows` rows begins among `n_entries` entries, and where the last one ends."""
        offsets = self._array(file, np.int64, n_rows + 1)
        if offsets[-1] != n_entries:
            raise BundleInvalid(f"{self._root / file} ends at {offsets[-1]} of {n_entries} entries. {AGAIN}")
        return offsets

    def _quantizer(self, name: str, count: int) -> tuple[ProductQuantizer | None, AnyArray | None]:
        entry = self._entry.compression.get(name)
        if entry is None:
            return None, None
        parts = entry.subquantizers
        codebooks = self._array(
            self._layout.pq(name, "codebooks"), np.float32, parts, CODEWORDS, self._entry.dim // parts
        )
        rotation = None
        if entry.rotated:
            rotation = self._array(self._layout.pq(name, "rotation"), np.float32, self._entry.dim, self._entry.dim)
        codes = self._array(self._layout.pq(name, "codes"), np.uint8, count, parts)
        return ProductQuantizer(codebooks, rotation), codes

    def _relations(self) -> dict[str, Relation]:
        vectors = self._array(self._layout.relations, np.float32, len(self._entry.relations), 2, self._entry.dim)
        relations = {}
        for position, entry in enumerate(self._entry.relations):
            targets = self._csr(self._layout.edges(position, "targets"), self._counts[entry.source])
            times = self._layout.times(position)
            relations[entry.name] = Relation(
                entry=entry,
                position=position,
                forward=vectors[position, 0],
                inverse=vectors[position, 1],
                targets=targets,
                sources=self._csr(self._layout.edges(position, "sources"), self._counts[entry.target]),
                popular=self._array(self._layout.popular(position), np.int32, None),
                times=self._array(times, np.int64, len(targets.indices)) if self._has(times) else None,
            )
        return relations

    def _csr(self, files: tuple[str, str, str], n_rows: int) -> Csr:
        indices = self._array(files[1], np.int32, None)
        weights = self._array(files[2], np.float32, len(indices)) if self._has(files[2]) else None
        return Csr(self._offsets(files[0], n_rows, len(indices)), indices, weights)

    def _clusters(self) -> Clusters:
        entry, layout = self._entry.clusters, self._layout
        interests = tuple(self._interests())
        return Clusters(
            centroids=self._array(layout.clusters("centroids"), np.float32, entry.count, self._entry.dim),
            medoid_types=self._array(layout.clusters("medoid_types"), np.uint8, entry.count),
            medoid_rows=self._array(layout.clusters("medoid_rows"), np.int32, entry.count),
            sizes=self._array(layout.clusters("sizes"), np.int64, entry.count),
            types=entry.types,
            assignment={
                name: self._array(layout.assignment(name), np.int32, self._counts[name]) for name in entry.types
            },
            interests=interests,
            lists=self._lists(interests),
        )

    def _interests(self) -> Iterator[Interests]:
        first, unnamed = 0, not self._entry.clusters.interests
        for entry in self._entry.clusters.all_interests:
            file = partial(self._layout.mixtures, among=entry.types[0] if first else None)
            clusters = self._array(file("clusters"), np.int32, None)
            weights = self._array(file("weights"), np.float32, len(clusters))
            indptr = self._offsets(file("indptr"), self._counts[entry.user_type], len(clusters))
            yield Interests(entry, first, Csr(indptr, clusters, weights), answers_all=unnamed)
            first += entry.count

    def _lists(self, interests: Sequence[Interests]) -> dict[tuple[str, ListQuery], CandidateLists]:
        lists = {}
        for name in self._entry.indexes:
            own = interests_among(interests, name)
            if own is None:
                continue
            for query in QUERIES:
                file = self._layout.candidate_list(name, query, "rows")
                if self._has(file):
                    rows = self._array(file, np.int32, own.entry.count, None)
                    scores = self._array(self._layout.candidate_list(name, query, "scores"), np.float32, *rows.shape)
                    lists[name, query] = CandidateLists(rows, scores, own.first)
        return lists

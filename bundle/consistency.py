"""Do the numbers of a version agree with one another? Order, ranges and sums of every array, by the file at fault.

A digest tells that a file is the one that was written; this tells that what was written can be served: rows that
exist, ids that a binary search finds, offsets that ascend, weights that are shares.
"""

import operator
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from bundle.arrays import AnyArray, forget_pages, map_array
from bundle.attributes import Attribute, Labels, Scalars, parts_of, scalar_faults
from bundle.csr import Csr
from bundle.errors import BundleInvalid
from bundle.ids import MAX_STRING_ID_BYTES, IdTable, IntIds, StringIds
from bundle.layout import SpaceLayout
from bundle.rows import furthest_apart
from bundle.space import Bundle, EntityTable, Interests, Space

# Entries looked at together: temporary arrays stay at some megabytes.
BLOCK = 1 << 20
# How far the sum of a user's shares, which are float32, may be from 1.
SHARE_TOLERANCE = 1e-3
# How far decoded vectors may be off, relative to their largest coordinate.
GOLDEN_TOLERANCE = 1e-3
# How far a compact row may be from its vector: half a step, and what rounding adds to it.
MOST_STEPS = 0.51

Faults = Iterator[tuple[str, str]]  # a file of the version, and what is wrong in it


def check_consistency(bundle: Bundle) -> None:
    """Look through every array of an opened version. Raises BundleInvalid naming the first file at fault."""
    for space in bundle.spaces.values():
        for file, fault in _SpaceFaults(bundle, space).all():
            raise BundleInvalid(f"{bundle.path / file} {fault}. Build the version again.")


class _SpaceFaults:
    """What is wrong in one space. Each part gives its faults lazily, so that a later one may rely on an earlier."""

    def __init__(self, bundle: Bundle, space: Space) -> None:
        self._bundle = bundle
        self._space = space
        self._layout = SpaceLayout(space.name)

    def all(self) -> Faults:
        yield from self._entities()
        yield from self._relations()
        yield from self._clusters()
        yield from self._mixtures()
        yield from self._lists()
        yield from self._optimizer()

    def _entities(self) -> Faults:
        layout = self._layout
        for name, table in self._space.entities.items():
            yield from id_faults(layout.ids(name, table.ids.kind), table.ids)
            yield from self._attributes(name, table)
            yield from self._compact(name, table)
            yield from self._candidates(name, table)
            golden = layout.pq(name, "golden")
            if table.quantizer is None or table.codes is None or golden not in self._bundle.manifest.files:
                continue
            expected = map_array(self._bundle.path / golden)
            decoded = table.quantizer.decode(table.codes[: len(expected)])
            largest = np.abs(decoded).max(initial=1.0)
            if decoded.shape != expected.shape or np.abs(decoded - expected).max(initial=0) > (
                GOLDEN_TOLERANCE * largest
            ):
                yield golden, "holds other vectors than the codes decode to"

    def _compact(self, name: str, table: EntityTable) -> Faults:
        if table.compact is None:
            return
        step = max(1, BLOCK // table.compact.width)
        for first in range(0, len(table), step):
            # NaN is no distance.
            if not furthest_apart(table.compact, table.vectors, first, first + step) <= MOST_STEPS:
                yield self._layout.rows(name), f"holds other rows than {self._layout.vectors(name)}"
        forget_pages(table.compact.stored)

    def _candidates(self, name: str, table: EntityTable) -> Faults:
        if table.candidates is None:
            return
        file, bits = self._layout.candidates(name), table.candidates
        if len(table) % 8 and bits[-1] >> (len(table) % 8):
            yield file, "names rows past the last"
        if int(np.bitwise_count(bits).sum(dtype=np.int64)) != self._space.entry.candidates[name].count:
            yield file, "has another number of candidates than the manifest"

    def _all_candidates(self, file: str, name: str, rows: AnyArray) -> Faults:
        """A row of a stored answer that must not be answered; the rows exist."""
        bits = self._space.entities[name].candidates
        if bits is not None and not np.all(bits[rows >> 3] >> (rows & 7).astype(np.uint8) & 1):
            yield file, f"holds a row that is not among the candidates of {name}"

    def _attributes(self, name: str, table: EntityTable) -> Faults:
        for number, attribute in enumerate(table.attributes.values()):
            files = {part: self._layout.attribute(name, number, part) for part in parts_of(attribute.kind)}
            yield from attribute_faults(files, attribute)

    def _relations(self) -> Faults:
        for relation in self._space.relations.values():
            n_sources = len(self._space.entities[relation.entry.source])
            n_targets = len(self._space.entities[relation.entry.target])
            targets = self._layout.edges(relation.position, "targets")
            sources = self._layout.edges(relation.position, "sources")
            yield from _csr_faults(targets, relation.targets, n_targets)
            yield from _csr_faults(sources, relation.sources, n_sources)
            if not np.array_equal(_counts(relation.targets.indices, n_targets), relation.sources.degrees()):
                yield sources[0], f"counts other edges than {targets[1]} holds"
            if not np.array_equal(_counts(relation.sources.indices, n_sources), relation.targets.degrees()):
                yield targets[0], f"counts other edges than {sources[1]} holds"
            weights = relation.targets.weights
            if weights is not None and weights.min(initial=0) < 0:
                yield targets[2], "holds a negative weight"
            popular = self._layout.popular(relation.position)
            yield from range_faults(popular, relation.popular, n_targets)
            yield from self._all_candidates(popular, relation.entry.target, relation.popular)
            in_degrees = relation.sources.degrees()[relation.popular]
            if len(np.unique(relation.popular)) < len(relation.popular) or np.any(np.diff(in_degrees) > 0):
                yield popular, "is not in the order of falling in-degree, each row once"

    def _clusters(self) -> Faults:
        clusters, layout = self._space.clusters, self._layout
        yield from range_faults(layout.clusters("medoid_types"), clusters.medoid_types, len(clusters.types))
        members = np.zeros(len(clusters.centroids), dtype=np.int64)
        for position, name in enumerate(clusters.types):
            table = self._space.entities[name]
            medoids = clusters.medoid_rows[clusters.medoid_types == position]
            yield from range_faults(layout.clusters("medoid_rows"), medoids, len(table))
            own = clusters.interests_in(name).clusters
            yield from range_faults(layout.assignment(name), clusters.assignment[name], own)
            members += _counts(clusters.assignment[name], len(members))
        if not np.array_equal(members, clusters.sizes):
            yield layout.clusters("sizes"), "counts other members than the clusters have"

    def _mixtures(self) -> Faults:
        for interests in self._space.clusters.interests:
            yield from self._mixtures_of(interests)

    def _mixtures_of(self, interests: Interests) -> Faults:
        mixtures, file = interests.mixtures, partial(self._layout.mixtures, among=interests.among)
        indptr, clusters, weights = (file(part) for part in ("indptr", "clusters", "weights"))
        yield from _offset_faults(indptr, mixtures.indptr)
        yield from range_faults(clusters, mixtures.indices, interests.clusters)
        lengths = mixtures.degrees()
        if lengths.max(initial=0) > self._space.entry.clusters.modes:
            yield indptr, f"gives a user more than {self._space.entry.clusters.modes} modes"
        shares = mixtures.weights
        if shares is None or not len(shares):
            return
        sums = np.add.reduceat(shares.astype(np.float64), mixtures.indptr[:-1][lengths > 0])
        if shares.min() < 0 or np.abs(sums - 1).max() > SHARE_TOLERANCE:
            yield weights, "holds shares of a user that do not sum to 1"
        if not _only_at_row_starts(mixtures.indptr, np.flatnonzero(np.diff(shares) > 0) + 1):
            yield weights, "does not hold a user's heaviest mode first"

    def _lists(self) -> Faults:
        for (name, query), lists in self._space.clusters.lists.items():
            rows, scores = (self._layout.candidate_list(name, query, part) for part in ("rows", "scores"))
            yield from range_faults(rows, lists.rows, len(self._space.entities[name]))
            yield from self._all_candidates(rows, name, lists.rows)
            if np.any(lists.scores[:, 1:] > lists.scores[:, :-1]):
                yield scores, "does not hold the best candidate of each list first"
            ordered = np.sort(lists.rows, axis=1)
            if np.any(ordered[:, 1:] == ordered[:, :-1]):
                yield rows, "holds a candidate twice in one list"

    def _optimizer(self) -> Faults:
        shapes = {name: ((len(table),),) for name, table in self._space.entities.items()}
        n_relations = len(self._space.relations)
        shapes["relations"] = ((n_relations, 2), (n_relations, 2, self._space.entry.dim))  # type: ignore[assignment]
        for name, allowed in shapes.items():
            file = self._layout.optimizer(name)
            if file in self._bundle.manifest.files:
                state = map_array(self._bundle.path / file)
                if state.shape not in allowed or state.dtype != np.float32 or state.min(initial=0) < 0:
                    yield file, f"is {state.dtype} {state.shape}, expected float32 {allowed[0]}, none below 0"


def id_faults(files: tuple[str, ...], ids: IdTable) -> Faults:
    """Ids that a binary search would miss, or that are no ids; `files` are those of the table's arrays."""
    if isinstance(ids, IntIds):
        for block in _blocks(ids.values):
            if block[0] < 0 or np.any(block[1:] <= block[:-1]):
                yield files[0], "does not hold ids that ascend from 0 or more"
    if isinstance(ids, StringIds):
        yield from _offset_faults(files[0], ids.offsets)
        lengths = np.diff(ids.offsets)
        if lengths.min(initial=1) < 1 or lengths.max(initial=1) > MAX_STRING_ID_BYTES:
            yield files[0], f"has an id that is not 1 to {MAX_STRING_ID_BYTES} bytes long"
        for offsets in _blocks(ids.offsets):
            text = ids.utf8[offsets[0] : offsets[-1]].tobytes()
            starts = (offsets - offsets[0]).tolist()
            parts = [text[start:stop] for start, stop in zip(starts, starts[1:], strict=False)]
            if not all(map(operator.lt, parts, parts[1:])):
                yield files[1], "does not hold ids that ascend by their bytes"
            if not _all_utf8(parts):
                yield files[1], "holds an id that is not UTF-8"


def attribute_faults(files: Mapping[str, str], attribute: Attribute) -> Faults:
    """What is wrong in an attribute; `files` maps its parts to their names."""
    if isinstance(attribute, Scalars):
        yield from ((files[part], fault) for part, fault in scalar_faults(attribute))
    elif isinstance(attribute, Labels):
        yield from _ending_faults(files["offsets"], attribute.offsets, len(attribute.utf8))
        if not _all_utf8([attribute.utf8.tobytes()]):
            yield files["utf8"], "holds a label that is not UTF-8"
    else:
        vocabulary, codes = attribute.vocabulary, attribute.codes
        yield from _ending_faults(files["offsets"], vocabulary.offsets, len(vocabulary.utf8))
        yield from id_faults((files["offsets"], files["utf8"]), vocabulary)
        yield from _ending_faults(files["indptr"], codes.indptr, len(codes.indices))
        yield from _csr_faults((files["indptr"], files["codes"], ""), codes, len(vocabulary))


def _ending_faults(file: str, offsets: npt.NDArray[np.int64], n_entries: int) -> Faults:
    if not len(offsets) or offsets[-1] != n_entries:
        yield file, f"does not end at {n_entries}, the number of entries"
    else:
        yield from _offset_faults(file, offsets)


def _all_utf8(parts: Iterable[bytes]) -> bool:
    try:
        for part in parts:
            part.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _csr_faults(files: tuple[str, str, str], csr: Csr, n_columns: int) -> Faults:
    yield from _offset_faults(files[0], csr.indptr)
    yield from range_faults(files[1], csr.indices, n_columns)
    first = 1
    for block in _blocks(csr.indices):
        # A row that is no larger than the one before it must begin another row of the adjacency.
        if not _only_at_row_starts(csr.indptr, np.flatnonzero(block[1:] <= block[:-1]) + first):
            yield files[1], "does not hold the rows of each entity once, ascending"
        first += len(block) - 1
    forget_pages(csr.indices)


def _offset_faults(file: str, offsets: npt.NDArray[np.int64]) -> Faults:
    """Faults of `offsets`, which the reader has compared with the length of what they lead into."""
    if offsets[0] != 0 or any(np.any(block[1:] < block[:-1]) for block in _blocks(offsets)):
        yield file, "does not ascend from 0"


def _only_at_row_starts(indptr: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]) -> bool:
    return bool(np.all(indptr[np.searchsorted(indptr, positions)] == positions))


def range_faults(file: str, numbers: AnyArray, known: int | range) -> Faults:
    """A number of the array in `file` that is outside `known`, or outside those from 0 to before it."""
    known = range(known) if isinstance(known, int) else known
    if any(block.min() < known.start or block.max() >= known.stop for block in _blocks(numbers)):
        yield file, f"holds a number outside {known.start} to {known.stop - 1}"


def _counts(rows: npt.NDArray[np.integer], n: int) -> npt.NDArray[np.int64]:
    counts = np.zeros(n, dtype=np.int64)
    for start in range(0, len(rows), BLOCK):
        counts += np.bincount(rows[start : start + BLOCK], minlength=n)
    return counts


def _blocks(numbers: AnyArray) -> Iterator[AnyArray]:
    """The array in pieces that are never empty, each beginning with the last item of the one before."""
    step = max(1, BLOCK // max(1, numbers[:1].size))
    for start in range(0, max(1, len(numbers) - 1), step):
        block = numbers[start : start + step + 1]
        if block.size:
            yield block

"""Opening the searchers of an opened version."""

from pathlib import Path

from bundle.errors import BundleInvalid, QueryError
from bundle.manifest import IndexEntry
from bundle.space import Bundle
from bundle.verify import check_digests
from index.search.among import among
from index.search.eligible import Bitmap
from index.search.exact import ExactSearcher
from index.search.faiss_index import read_faiss
from index.search.hnsw import read_hnsw
from index.search.ivf4 import read_ivf4
from index.search.native import exact_searcher
from index.search.projection import QueryProjection, projection_file, read_projection
from index.search.protocol import Searcher
from index.search.ranking import Matrix
from index.search.refined import CandidateSource, RefinedSearcher

HNSWLIB_SUFFIX, ENGINE_SUFFIX = ".hnsw", ".ivf4"
# Kinds whose depth is a number of rows and not of inverted lists.
DEPTH_IN_ROWS = ("hnsw", "pq")


def open_searchers(bundle: Bundle) -> dict[tuple[str, str], Searcher]:
    """Every searcher of the version by space and candidate type. Raises BundleAltered, BundleInvalid."""
    return {(space, name): open_searcher(bundle, space, name) for space, name in _searched(bundle)}


def exact_searchers(bundle: Bundle) -> dict[tuple[str, str], Searcher]:
    """An exact searcher for every type that the version has an index of: the truth to hold the others against."""
    tables = {(space, name): bundle.spaces[space].table(name) for space, name in _searched(bundle)}
    return {key: among(ExactSearcher(table.vectors), table.candidates) for key, table in tables.items()}


def _searched(bundle: Bundle) -> list[tuple[str, str]]:
    return [(space.name, entity_type) for space in bundle.spaces.values() for entity_type in space.entry.indexes]


def open_searcher(bundle: Bundle, space: str | None, entity_type: str) -> Searcher:
    """The searcher that the version was measured with, over the candidates of `entity_type`.

    Compares the index file's digest with the manifest before the library sees it: both libraries load
    most altered files without a word, and hnswlib crashes on some. Raises QueryError for a type without
    an index, BundleAltered or BundleInvalid for a file that is not the one that was built.
    """
    chosen = bundle.space(space)
    entry = chosen.entry.indexes.get(entity_type)
    if entry is None:
        known = ", ".join(chosen.entry.indexes)
        raise QueryError(f"candidates of that type are not searched in this space; it has: {known}")
    table = chosen.entities[entity_type]
    if entry.file is None:
        return among(exact_searcher(table.scored), table.candidates)
    if entry.file not in bundle.manifest.files:
        raise BundleInvalid(f"{bundle.path}: the manifest lists no {entry.file}. Build the version again.")
    files = (entry.file, projection_file(Path(entry.file)).as_posix())  # versions from before have no second
    check_digests(bundle.path, bundle.manifest, [name for name in files if name in bundle.manifest.files])
    return read_searcher(bundle.path / entry.file, entry, table.scored, table.candidates)


def read_searcher(path: Path, entry: IndexEntry, vectors: Matrix, candidates: Bitmap | None = None) -> Searcher:
    """The searcher in the file at `path`, which is one that this process may trust, kept to `candidates` where not all
    rows are. Raises BundleInvalid.
    """
    return among(_read(path, entry, vectors, candidates), candidates)


def _read(path: Path, entry: IndexEntry, vectors: Matrix, candidates: Bitmap | None) -> Searcher:
    if entry.kind == "exact":
        return exact_searcher(vectors)
    projection = read_projection(path, entry, int(vectors.shape[1]))
    if path.suffix == ENGINE_SUFFIX:
        return read_ivf4(path, entry, projection, vectors, candidates)
    source = read_source(path, projection, len(vectors))
    return RefinedSearcher(
        vectors,
        source,
        depth=entry.depth,
        refine=float(entry.parameters.get("refine", 1.0)),
        recall_at=int(entry.parameters.get("recall_at", 0)) or None,  # versions from before do not say
        depth_in_rows=entry.kind in DEPTH_IN_ROWS,
        filter_depth=float(entry.parameters.get("filter_depth", 1.0)),
        candidates=candidates,
    )


def read_source(path: Path, projection: QueryProjection, rows: int) -> CandidateSource:
    """The library's index at `path`. Raises BundleInvalid when it is none, or has other rows or columns."""
    if path.suffix == HNSWLIB_SUFFIX:
        return read_hnsw(path, projection, rows)
    return read_faiss(path, projection, rows)

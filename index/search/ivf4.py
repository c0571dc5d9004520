"""`ivf4`: inverted lists of 4-bit codes, searched by the compiled engine in one call."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

import engine
from bundle.errors import BundleInvalid
from bundle.manifest import IndexEntry
from index.search.eligible import Bitmap, count_of
from index.search.ivf4_file import DEPTH_UNIT, Ivf4Source, map_ivf4
from index.search.native import NativeSearcher, ScanSearcher
from index.search.projection import QueryProjection
from index.search.protocol import Hits, Searcher
from index.search.ranking import Matrix, Rows, row_handle
from index.search.refined import RefinedSearcher

# So few eligible rows are scored exactly in less time than lists are looked through for them.
FEW_ELIGIBLE = 1024
# As deep as nothing but a scan of every eligible row is.
SCANNED = 1e6
# Without the engine so many candidates are scored exactly for each row wanted.
REFERENCE_REFINE = 4.0


def read_ivf4(
    path: Path, entry: IndexEntry, projection: QueryProjection, vectors: Matrix, candidates: Bitmap | None = None
) -> Searcher:
    """The searcher over the file at `path`; without an engine one in NumPy. Raises BundleInvalid."""
    filter_depth = float(entry.parameters.get("filter_depth", 1.0))
    if not engine.available():
        source = Ivf4Source(map_ivf4(path, len(vectors), projection.held), projection)
        recall_at = int(entry.parameters.get("recall_at", 0)) or None
        return RefinedSearcher(
            vectors,
            source,
            depth=entry.depth,
            refine=REFERENCE_REFINE,
            recall_at=recall_at,
            filter_depth=filter_depth,
            candidates=candidates,
        )
    refine = float(entry.parameters.get("refine", 1.0))
    return Ivf4Searcher(
        vectors,
        path,
        projection,
        depth=entry.depth,
        refine=refine,
        filter_depth=filter_depth,
        candidates=candidates,
    )


class Ivf4Searcher(NativeSearcher):
    """Looks into the lists whose best row may be among the k best, and scores exactly what its code leaves in doubt.

    Which lists those are follows from the k-th best score found so far, so that `depth` holds for any k, and for few
    eligible rows as for many; `filter_depth` is how many times as deep it looks for these. With `candidates` the file
    holds these rows alone, and their bitmap is no filter.
    """

    def __init__(
        self,
        vectors: Matrix,
        path: Path,
        projection: QueryProjection,
        *,
        depth: int,
        refine: float,
        filter_depth: float = 1.0,
        candidates: Bitmap | None = None,
    ) -> None:
        native = engine.native()
        try:
            file = np.memmap(path, dtype=np.uint8, mode="r")
            handle = native.ivf4_open(file, np.ascontiguousarray(projection.for_queries), row_handle(native, vectors))
        except ValueError as error:  # also an empty file's
            raise BundleInvalid(
                f"{path} is no ivf4 index of these vectors: {error}. Build the version again."
            ) from error
        super().__init__(vectors, handle)
        self.depth = depth
        self.refine = refine
        self._filter_depth = filter_depth
        self._candidates = candidates
        self._scan = ScanSearcher(vectors)

    def effort(self, depth: int | None, share: float = 1.0) -> tuple[float, float]:
        """What C++ is told of `depth` (None: as measured), or of a share of it: depth and refine, in deviations."""
        wanted = self.depth if depth is None else depth
        return max(1, int(wanted * share)) / DEPTH_UNIT, self.refine

    def _search(
        self,
        queries: Float32[npt.NDArray[np.float32], "q width"],
        k: int,
        depth: int | None,
        exclude: Sequence[Rows],
        eligible: Bitmap | None,
    ) -> list[Hits]:
        if eligible is not None and eligible is not self._candidates:
            if count_of(eligible) <= FEW_ELIGIBLE or self._filter_depth >= SCANNED:
                return self._scan.search(queries, k, exclude=exclude, eligible=eligible)
            depth = math.ceil((self.depth if depth is None else depth) * self._filter_depth)
        return super()._search(queries, k, depth, exclude, eligible)

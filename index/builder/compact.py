"""Fewer bytes for the vectors that scores are made of: the smallest form whose loss of recall is within the budget.

The index proposes the same rows; what can be lost is the order of those that are scored, so the loss is measured on the
queries that judged the searcher, by the exact scores of what it then answers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from bundle.errors import ConfigError
from bundle.manifest import RowsEntry
from bundle.rows import LARGEST_HALF, CompactKind, CompactRows, encoded, stored_columns
from bundle.writer import BundleWriter
from index.builder.config import IndexConfig
from index.builder.measure import Measurement, Truth, measure
from index.builder.room import blocks
from index.search.protocol import Searcher

Vectors = Float32[npt.NDArray[np.float32], "_ width"]
# The smallest first.
FORMS: tuple[CompactKind, ...] = ("int8", "float16")
# From so many rows on, fewer bytes are looked for unasked: as float32 they are more than a processor's caches hold, so
# that reading them is most of what an exact score costs.
MANY_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class ChosenRows:
    """What scores are made of, as the manifest says it, and the searcher's measurement with it."""

    compact: CompactRows
    entry: RowsEntry
    judgement: Measurement


def forms_to_try(n_rows: int, config: IndexConfig) -> tuple[CompactKind, ...]:
    """The forms that the settings allow for `n_rows` rows, in the order in which they are tried."""
    if config.rows == "auto":
        return FORMS if n_rows >= MANY_ROWS else ()
    return () if config.rows == "float32" else (config.rows,)


@dataclass(frozen=True, slots=True)
class RowsChoice:
    """The choice for one type: its vectors, of which the first `dim` columns are the embedding, and the settings."""

    writer: BundleWriter
    file: str
    vectors: Vectors
    dim: int
    config: IndexConfig

    def choose(
        self, open_searcher: Callable[[CompactRows], Searcher], truth: Truth, judged: Measurement
    ) -> ChosenRows | None:
        """Write the first form that may be taken; None for float32. `judged` is the searcher over the vectors.

        A form that was asked for by name is taken whatever it loses. Raises ConfigError where it cannot hold the
        numbers.
        """
        for kind in forms_to_try(len(self.vectors), self.config):
            if kind == "float16" and self._largest() > LARGEST_HALF:
                if self.config.rows == kind:
                    raise ConfigError(
                        f"index.rows is float16, which ends at {LARGEST_HALF:g}; the vectors hold larger numbers. "
                        "Choose int8 or float32."
                    )
                continue
            compact = self._write(kind)
            found = measure(open_searcher(compact), truth, exact=self.vectors)
            loss = judged.recall - found.recall
            if self.config.rows == kind or self._may_be_taken(loss, judged, found):
                self.writer.add(self.file)
                size = compact.nbytes / len(self.vectors)
                entry = RowsEntry(
                    kind=kind, bytes_per_vector=size, recall=round(found.recall, 4), recall_loss=round(loss, 4)
                )
                return ChosenRows(compact, entry, found)
            self._path.unlink()
        return None

    def _may_be_taken(self, loss: float, judged: Measurement, found: Measurement) -> bool:
        missed = found.recall < self.config.target_recall <= judged.recall
        return loss <= self.config.rows_loss and not missed

    @property
    def _path(self) -> Path:
        return self.writer.path(self.file)

    def _largest(self) -> float:
        return max(float(np.abs(self.vectors[block]).max()) for block in blocks(*self.vectors.shape))

    def _write(self, kind: CompactKind) -> CompactRows:
        width = int(self.vectors.shape[1])
        dtype, columns = stored_columns(kind, self.dim, width)
        stored = self.writer.create(self.file, dtype, (len(self.vectors), columns))
        for block in blocks(*self.vectors.shape):
            stored[block] = encoded(self.vectors[block], kind, self.dim)
        return CompactRows(stored, kind, self.dim, width)

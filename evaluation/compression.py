"""What compression costs (section 7.1 of the TwHIN paper): code sizes swept, distortion and recall beside them.

How codes are learnt is handed in as a function, and so is the task that judges them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, UInt8

from bundle.pq import ProductQuantizer
from bundle.progress import SILENT, Progress
from bundle.records import Record
from bundle.strategies import BLEND
from evaluation.metrics import hit_ranks, recall
from evaluation.task import FollowTask
from index.search.exact import ExactSearcher
from index.search.protocol import Hits

Embeddings = Float32[npt.NDArray[np.float32], "_ d"]
RATIOS = (8, 16, 32, 64)
FLOAT_BYTES = 4
BATCH = 256
DEPTH = 100


@runtime_checkable
class Quantize(Protocol):
    """Learns a product quantiser of the vectors, with a rotation if asked, and encodes them."""

    def __call__(
        self, vectors: Embeddings, subquantizers: int, *, rotated: bool
    ) -> tuple[ProductQuantizer, UInt8[npt.NDArray[np.uint8], "n parts"]]: ...


class CompressionRow(Record):
    """One code size. Recalls are of exact search over the decoded vectors; `task_loss` is relative to uncompressed."""

    subquantizers: int
    rotated: bool
    ratio: float
    mse: float
    cosine: float
    recall_at_100: float
    task_recall: float
    task_loss: float


class CompressionReport(Record):
    """The sweep over one entity type, what the task measures without compression, and the code to take."""

    entity_type: str
    dim: int
    vectors: int
    task: str
    uncompressed: float
    loss_budget: float
    rows: tuple[CompressionRow, ...]
    advised: CompressionRow | None

    def best_of(self, *, rotated: bool) -> list[CompressionRow]:
        """The rows with or without a rotation, by rising ratio."""
        return sorted((row for row in self.rows if row.rotated is rotated), key=lambda row: row.ratio)


def sizes_of(dim: int, ratios: Sequence[int] = RATIOS) -> list[int]:
    """Bytes a code that divide `dim` and come nearest each ratio; each once, largest codes first."""
    divisors = [parts for parts in range(1, dim + 1) if dim % parts == 0]
    nearest = {min(divisors, key=lambda parts: abs(np.log(FLOAT_BYTES * dim / parts / ratio))) for ratio in ratios}
    return sorted(nearest, reverse=True)


def sweep(
    entity_type: str,
    vectors: Embeddings,
    queries: Embeddings,
    quantize: Quantize,
    task_recall: Callable[[Embeddings], float],
    *,
    task: str,
    loss_budget: float = 0.02,
    ratios: Sequence[int] = RATIOS,
    progress: Progress = SILENT,
) -> CompressionReport:
    """Compress `vectors` to every size, with and without a rotation, and measure what is lost.

    `queries` are real ones: their exact top 100 among the vectors is what the decoded vectors should keep.
    `task_recall` is given embeddings to use in place of the type's own.
    """
    judge = _Judge(vectors, queries, ExactSearcher(vectors).search(queries, DEPTH), task_recall)
    kinds = [(parts, rotated) for rotated in (False, True) for parts in sizes_of(vectors.shape[1], ratios)]
    rows = []
    with progress.stage("Compression", len(kinds), "codes") as bar:
        uncompressed = task_recall(np.ascontiguousarray(vectors))
        for parts, rotated in kinds:
            quantizer, codes = quantize(vectors, parts, rotated=rotated)
            rows.append(judge.row(quantizer, quantizer.decode(codes), uncompressed))
            bar.advance()
    return CompressionReport(
        entity_type=entity_type,
        dim=vectors.shape[1],
        vectors=len(vectors),
        task=task,
        uncompressed=uncompressed,
        loss_budget=loss_budget,
        rows=tuple(rows),
        advised=advise(rows, loss_budget) if uncompressed > 0.0 else None,
    )


@dataclass(frozen=True, slots=True)
class _Judge:
    """Holds decoded vectors against the true ones."""

    vectors: Embeddings
    queries: Embeddings
    truth: Sequence[Hits]
    task_recall: Callable[[Embeddings], float]

    def row(self, quantizer: ProductQuantizer, decoded: Embeddings, uncompressed: float) -> CompressionRow:
        parts = len(quantizer.codebooks)
        decoded_hits = ExactSearcher(decoded).search(self.queries, DEPTH)
        pairs = zip(self.truth, decoded_hits, strict=True)
        measured = self.task_recall(decoded)
        return CompressionRow(
            subquantizers=parts,
            rotated=quantizer.rotation is not None,
            ratio=FLOAT_BYTES * self.vectors.shape[1] / parts,
            mse=float(np.square(self.vectors - decoded).mean()),
            cosine=_mean_cosine(self.vectors, decoded),
            recall_at_100=float(np.mean([len(np.intersect1d(a.rows, b.rows)) / len(a.rows) for a, b in pairs])),
            task_recall=measured,
            task_loss=1.0 - measured / uncompressed if uncompressed else 0.0,
        )


def advise(rows: Sequence[CompressionRow], loss_budget: float) -> CompressionRow | None:
    """The smallest code that loses no more of the task than `loss_budget`; of two as small, the one without a rotation.

    None when every code loses more.
    """
    affordable = [row for row in rows if row.task_loss <= loss_budget]
    return min(affordable, key=lambda row: (row.subquantizers, row.rotated), default=None)


def _mean_cosine(vectors: Embeddings, decoded: Embeddings) -> float:
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(decoded, axis=1)
    products = np.einsum("ij,ij->i", vectors, decoded)
    return float(np.divide(products, lengths, out=np.ones_like(products), where=lengths > 0).mean())


def follow_recall(
    task: FollowTask, sources: Embeddings, forward: Float32[npt.NDArray[np.float32], " d"], k: int = 50
) -> Callable[[Embeddings], float]:
    """Recall@k of a relation as a function of the embeddings of its targets, which stand for the users too where these
    are of the same type; else users have the vectors of `sources`.

    A user's query is that of the strategy `blend` before anything is learnt.
    """
    popularity = np.log1p(task.train_by_target.degrees()).astype(np.float32)

    def measured(embeddings: Embeddings) -> float:
        columns = np.column_stack([embeddings, popularity])
        searcher = ExactSearcher(columns)
        own = embeddings if task.same_type else sources
        recalls = []
        for start in range(0, len(task.users), BATCH):
            users = task.users[start : start + BATCH]
            queries = np.stack([_query(task, own, embeddings, forward, int(user)) for user in users])
            hits = searcher.search(queries, k, exclude=[task.known(int(user)) for user in users])
            for user, hit in zip(users.tolist(), hits, strict=True):
                relevant = task.relevant(user)
                recalls.append(recall(hit_ranks(hit.rows, relevant), len(relevant), k))
        return float(np.mean(recalls))

    return measured


def _query(
    task: FollowTask,
    own: Embeddings,
    embeddings: Embeddings,
    forward: Float32[npt.NDArray[np.float32], " d"],
    user: int,
) -> Float32[npt.NDArray[np.float32], " width"]:
    followed = embeddings[task.train.row(user)].mean(axis=0)
    query = BLEND.user * own[user] + BLEND.fold_in * followed + BLEND.relation * forward
    return np.append(query, np.float32(BLEND.popularity)).astype(np.float32)

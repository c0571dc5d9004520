"""The sweep of code sizes: what it reports, what it advises, and the decoder that a ranking model carries."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from bundle.csr import csr_from_pairs
from bundle.pq import ProductQuantizer
from evaluation.compression import CompressionReport, CompressionRow, advise, follow_recall, sizes_of, sweep
from evaluation.task import FollowTask
from index.builder.compression import Learner, decode_by_faiss
from twhin_client.features import FeatureDecoder
from twhin_client.torch import TorchDecoder

N, DIM = 600, 16


@pytest.fixture(scope="module")
def vectors() -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(1)
    return (rng.normal(0, 1, (N, 5)) @ rng.normal(0, 1, (5, DIM)) + rng.normal(0, 0.1, (N, DIM))).astype(np.float32)


@pytest.fixture(scope="module")
def report(vectors: npt.NDArray[np.float32]) -> CompressionReport:
    """A task that measures how much of the vectors' variance is kept."""
    variance = float(vectors.var())

    def kept(embeddings: npt.NDArray[np.float32]) -> float:
        return 1.0 - float(np.square(vectors - embeddings).mean()) / variance

    return sweep("item", vectors, vectors[:20], Learner(N, 1), kept, task="variance kept", ratios=(8, 16, 32))


def row(parts: int, loss: float, *, rotated: bool = False) -> CompressionRow:
    return CompressionRow(
        subquantizers=parts,
        rotated=rotated,
        ratio=64 / parts,
        mse=0.0,
        cosine=1.0,
        recall_at_100=1.0,
        task_recall=1.0 - loss,
        task_loss=loss,
    )


def test_smaller_codes_lose_more(report: CompressionReport) -> None:
    for rotated in (False, True):
        rows = report.best_of(rotated=rotated)
        assert [line.ratio for line in rows] == [8, 16, 32]
        assert rows[0].mse < rows[1].mse < rows[2].mse
        assert rows[0].cosine > rows[2].cosine
        assert rows[0].recall_at_100 > rows[2].recall_at_100
    assert report.uncompressed == 1.0


def test_the_advice_is_the_smallest_code_within_the_budget() -> None:
    rows = [row(8, 0.001), row(4, 0.015), row(4, 0.01, rotated=True), row(2, 0.08)]
    assert advise(rows, 0.02) == rows[1]
    assert advise(rows, 0.012) == rows[2]
    assert advise(rows, 0.0001) is None


@pytest.mark.parametrize(("dim", "expected"), [(128, [64, 32, 16, 8]), (100, [50, 25, 10, 5]), (7, [7, 1])])
def test_sizes_divide_the_dimension(dim: int, expected: list[int]) -> None:
    assert sizes_of(dim, (8, 16, 32, 64)) == expected


def test_users_of_another_type_keep_their_own_vectors() -> None:
    """Users 0 to 5 like items 0 and 1 of three, and are as many more than there are items: rows of one type are none of
    the other."""
    likes = csr_from_pairs(np.arange(6, dtype=np.int32), np.zeros(6, np.int32), 6)
    held_out = csr_from_pairs(np.arange(6, dtype=np.int32), np.ones(6, np.int32), 6)
    nothing = csr_from_pairs(np.empty(0, np.int32), np.empty(0, np.int32), 6)
    task = FollowTask("likes", np.arange(6), likes, likes.transposed(3), nothing, held_out, same_type=False)
    items = np.array([[1, 0], [0.5, 1], [-1, -1]], dtype=np.float32)
    users = np.repeat(np.array([[0, 9]], np.float32), 6, axis=0)
    measured = follow_recall(task, users, np.zeros(2, np.float32), k=1)
    assert measured(items) == 1.0
    assert measured(-items) == 0.0


def test_where_whole_vectors_find_nothing_no_code_is_advised(vectors: npt.NDArray[np.float32]) -> None:
    found = sweep("item", vectors, vectors[:20], Learner(N, 1), lambda _: 0.0, task="nothing", ratios=(8,))
    assert (found.uncompressed, found.advised) == (0.0, None)


def torch_decoder(quantizer: ProductQuantizer) -> TorchDecoder:
    return TorchDecoder(FeatureDecoder(quantizer.codebooks, quantizer.rotation, "etag"))


@pytest.mark.parametrize("parts", [2, 8, 16])
def test_the_torch_decoder_agrees_bit_for_bit_with_faiss(vectors: npt.NDArray[np.float32], parts: int) -> None:
    quantizer, codes = Learner(N, 1)(vectors, parts, rotated=False)
    decoded = torch_decoder(quantizer)(torch.from_numpy(codes)).numpy()
    np.testing.assert_array_equal(decoded, decode_by_faiss(quantizer, codes))


def test_the_torch_decoder_applies_the_rotation(vectors: npt.NDArray[np.float32]) -> None:
    quantizer, codes = Learner(N, 1)(vectors, 4, rotated=True)
    assert quantizer.rotation is not None
    decoded = torch_decoder(quantizer)(torch.from_numpy(codes)).numpy()
    np.testing.assert_allclose(decoded, decode_by_faiss(quantizer, codes), atol=1e-5)


def test_the_torch_decoder_learns_nothing_and_travels_with_its_model(vectors: npt.NDArray[np.float32]) -> None:
    quantizer, _ = Learner(N, 1)(vectors, 4, rotated=False)
    decoder = torch_decoder(quantizer)
    assert list(decoder.parameters()) == []
    assert set(decoder.state_dict()) == {"codebooks", "offsets", "rotation"}

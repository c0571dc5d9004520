"""The gradients: of the definition against differences of its loss, of torch's step against the definition."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from training.backends.torch_step import direction
from training.model import DirectionGradient, logistic_loss, rank, rank_sources_by_one_vector

Rank = Callable[..., DirectionGradient]


def true_pairs() -> Tensor:
    """Of five edges and seven candidates: two pairs that are edges too."""
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[[0, 2], [1, 3]] = True
    return mask


@pytest.mark.parametrize("loss", ["softmax", "logistic"])
@pytest.mark.parametrize("how", [rank, rank_sources_by_one_vector])
def test_the_definition_gives_the_derivatives_of_its_own_loss(how: Rank, loss: str) -> None:
    """By central differences, in every coordinate of every vector."""
    rng, step = np.random.default_rng(1), 1e-6
    vectors = [rng.normal(size=(4,)), rng.normal(size=(4,)), rng.normal(size=(6, 4))]
    found = how(*vectors, loss)
    for vector, gradient in zip(vectors, (found.end, found.relation, found.candidates), strict=True):
        for at in np.ndindex(vector.shape):
            kept, losses = vector[at], []
            for moved in (kept + step, kept - step):
                vector[at] = moved
                losses.append(how(*vectors, loss).loss)
            vector[at] = kept
            assert gradient[at] == pytest.approx((losses[0] - losses[1]) / (2 * step), abs=1e-7)


def test_eq_2_counts_the_true_edge_once_and_every_false_one() -> None:
    """Both directions of one edge, written out as in the paper."""
    forward, backward = np.array([0.3, -1.0, 2.0]), np.array([0.3, 0.5])
    expected = -np.log(sigmoid(0.3)) - np.log(sigmoid(-np.array([-1.0, 2.0, 0.5]))).sum()
    assert logistic_loss(forward)[0] + logistic_loss(backward)[0] == pytest.approx(expected)


def sigmoid(x: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x)))


@pytest.mark.parametrize("loss", ["softmax", "logistic"])
@pytest.mark.parametrize("single", [False, True])
def test_torch_differentiates_as_the_definition(loss: str, single: bool) -> None:
    """A chunk in one go, true pairs masked and a weight an edge, against its edges one by one."""
    torch.manual_seed(1)
    known = true_pairs()
    end, relation, positive, candidate = (
        torch.randn(shape, dtype=torch.float64) for shape in [(5, 4), (5, 4), (5, 4), (7, 4)]
    )
    weight = torch.rand(5, dtype=torch.float64) + 0.5
    query, bias = (end, (end * relation).sum(1)) if single else (end + relation, torch.zeros(5, dtype=torch.float64))
    found = direction(query, positive, candidate, bias, known, weight, loss == "logistic")
    by_end = found.query + found.bias[:, None] * relation if single else found.query
    by_relation = found.bias[:, None] * end if single else found.query
    total, by_candidate = 0.0, np.zeros((7, 4))
    for i in range(5):
        others = np.flatnonzero(~known[i].numpy())
        candidates = np.concatenate([positive[i : i + 1].numpy(), candidate.numpy()[others]])
        how = rank_sources_by_one_vector if single else rank
        expected = how(end[i].numpy(), relation[i].numpy(), candidates, loss)
        total += float(weight[i]) * expected.loss
        by_candidate[others] += float(weight[i]) * expected.candidates[1:]
        for mine, theirs in (
            (by_end, expected.end), (by_relation, expected.relation), (found.positive, expected.candidates[0]),
        ):  # fmt: skip
            np.testing.assert_allclose(mine[i].numpy(), float(weight[i]) * theirs, rtol=1e-9, atol=1e-12)
    assert float(found.loss) == pytest.approx(total)
    np.testing.assert_allclose(found.candidate.numpy(), by_candidate, rtol=1e-9)


def test_the_softmax_of_a_single_relation_vector_gives_sources_no_say_in_it() -> None:
    """The reason for the second vector: a constant added to all of a query's scores has no gradient."""
    query, positive, candidate, bias = (torch.randn(s) for s in [(5, 4), (5, 4), (7, 4), (5,)])
    found = direction(query, positive, candidate, bias, true_pairs(), torch.ones(5), False)
    torch.testing.assert_close(found.bias, torch.zeros(5), atol=1e-6, rtol=0)


@pytest.mark.parametrize("logistic", [False, True])
def test_chunks_together_are_the_chunks_one_by_one(logistic: bool) -> None:
    torch.manual_seed(2)
    query, positive, candidate, bias = (torch.randn(s) for s in [(3, 5, 4), (3, 5, 4), (3, 7, 4), (3, 5)])
    known, weight = torch.rand(3, 5, 7) < 0.2, torch.rand(3, 5)
    together = direction(query, positive, candidate, bias, known, weight, logistic)
    for i in range(3):
        alone = direction(query[i], positive[i], candidate[i], bias[i], known[i], weight[i], logistic)
        for name in ("loss", "query", "positive", "candidate", "bias"):
            torch.testing.assert_close(getattr(together, name)[i], getattr(alone, name), msg=name)


def test_true_pairs_are_a_mask_or_places() -> None:
    torch.manual_seed(3)
    query, positive, candidate, bias = (
        torch.randn(2, 5, 4),
        torch.randn(2, 5, 4),
        torch.randn(2, 7, 4),
        torch.zeros(2, 5),
    )
    known, weight = torch.rand(2, 5, 7) < 0.2, torch.ones(2, 5)
    by_mask = direction(query, positive, candidate, bias, known, weight, logistic=False)
    by_place = direction(query, positive, candidate, bias, known.nonzero(as_tuple=True), weight, logistic=False)
    torch.testing.assert_close(by_place.loss, by_mask.loss, rtol=0, atol=0)
    torch.testing.assert_close(by_place.candidate, by_mask.candidate, rtol=0, atol=0)

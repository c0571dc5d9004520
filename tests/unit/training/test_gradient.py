"""The hand-written gradients against torch's own, from eq. 2 and the softmax written out in scores."""

import pytest
import torch
from torch import Tensor

from training.backends.torch_step import direction


def true_pairs() -> Tensor:
    """Of five edges and seven candidates: two pairs that are edges too."""
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[[0, 2], [1, 3]] = True
    return mask


def eq2(positive: Tensor, negative: Tensor) -> Tensor:
    """Eq. 2 of the paper, negated; the positive's term is shared by both directions."""
    return -(0.5 * torch.sigmoid(positive).log() + torch.sigmoid(-negative).log().nansum(1))


def softmax(positive: Tensor, negative: Tensor) -> Tensor:
    return -torch.cat([positive[:, None], negative], 1).softmax(1)[:, 0].log()


@pytest.mark.parametrize("logistic", [False, True])
def test_gradients_are_the_derivatives_of_the_loss(logistic: bool) -> None:
    torch.manual_seed(1)
    known = true_pairs()
    query, positive, candidate, bias = (torch.randn(s, dtype=torch.float64) for s in [(5, 4), (5, 4), (7, 4), (5,)])
    inputs = [x.requires_grad_() for x in (query, positive, candidate, bias)]
    negative = query @ candidate.T + bias[:, None]
    negative = negative.masked_fill(known, -torch.inf)
    weight = torch.rand(5, dtype=torch.float64) + 0.5
    loss = ((eq2 if logistic else softmax)((query * positive).sum(1) + bias, negative) * weight).sum()
    loss.backward()
    with torch.no_grad():
        found = direction(query, positive, candidate, bias, known, weight, logistic)
    assert float(found.loss) == pytest.approx(float(loss.detach()))
    for name, variable in zip(("query", "positive", "candidate", "bias"), inputs, strict=True):
        torch.testing.assert_close(getattr(found, name), variable.grad, msg=name)


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

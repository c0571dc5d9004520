"""The hand-written gradients against torch's own, from eq. 2 and the softmax written out in scores."""

import numpy as np
import pytest
import torch
from torch import Tensor

from training.batch import Chunk
from training.torch_step import direction


def chunk(rng: np.random.Generator) -> Chunk:
    def rows(k: int) -> np.ndarray:
        return rng.integers(0, 9, k).astype(np.int32)

    none = np.empty(0, np.intp), np.empty(0, np.intp)
    weight = rng.uniform(0.5, 2, 5).astype(np.float32)
    known = np.array([0, 2]), np.array([1, 3])
    return Chunk(rows(5), rows(5), np.zeros(5, np.int32), weight, rows(7), rows(7), known, none)


def eq2(positive: Tensor, negative: Tensor) -> Tensor:
    """Eq. 2 of the paper, negated; the positive's term is shared by both directions."""
    return -(0.5 * torch.sigmoid(positive).log() + torch.sigmoid(-negative).log().nansum(1))


def softmax(positive: Tensor, negative: Tensor) -> Tensor:
    return -torch.cat([positive[:, None], negative], 1).softmax(1)[:, 0].log()


@pytest.mark.parametrize("logistic", [False, True])
def test_gradients_are_the_derivatives_of_the_loss(logistic: bool) -> None:
    torch.manual_seed(1)
    made = chunk(np.random.default_rng(1))
    query, positive, candidate, bias = (torch.randn(s, dtype=torch.float64) for s in [(5, 4), (5, 4), (7, 4), (5,)])
    inputs = [x.requires_grad_() for x in (query, positive, candidate, bias)]
    negative = query @ candidate.T + bias[:, None]
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[made.known_targets] = True
    negative = negative.masked_fill(mask, -torch.inf)
    weight = torch.from_numpy(made.weight).double()
    loss = ((eq2 if logistic else softmax)((query * positive).sum(1) + bias, negative) * weight).sum()
    loss.backward()
    with torch.no_grad():
        found = direction(query, positive, candidate, bias, made.known_targets, weight, logistic)
    assert float(found.loss) == pytest.approx(float(loss.detach()))
    for name, variable in zip(("query", "positive", "candidate", "bias"), inputs, strict=True):
        torch.testing.assert_close(getattr(found, name), variable.grad, msg=name)


def test_the_softmax_of_a_single_relation_vector_gives_sources_no_say_in_it() -> None:
    """The reason for the second vector: a constant added to all of a query's scores has no gradient."""
    made = chunk(np.random.default_rng(2))
    query, positive, candidate, bias = (torch.randn(s) for s in [(5, 4), (5, 4), (7, 4), (5,)])
    found = direction(query, positive, candidate, bias, made.known_targets, torch.ones(5), False)
    torch.testing.assert_close(found.bias, torch.zeros(5), atol=1e-6, rtol=0)

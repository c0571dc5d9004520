"""The small models of a ranking: a logistic one, or a network of one hidden layer, over frozen embeddings.

Labelled examples (user, item, label, other features) train them; the embeddings stay as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float32, Int64

Vectors = Float32[npt.NDArray[np.float32], "_ d"]
Model = Literal["logistic", "mlp"]
HIDDEN = 64
UPDATES = 600
# Passes without a better one, and learning ends.
PATIENCE = 40


@dataclass(frozen=True, slots=True)
class Labelled:
    """Examples: rows of the user and of the item type, whether it happened, and what a ranker knows besides."""

    users: Int64[npt.NDArray[np.int64], " n"]
    items: Int64[npt.NDArray[np.int64], " n"]
    labels: Bool[npt.NDArray[np.bool_], " n"]
    others: Float32[npt.NDArray[np.float32], "n f"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """One column of the experiment: which embeddings the model sees; None leaves that side out."""

    name: str
    users: Vectors | None = None
    items: Vectors | None = None


def predict(train: Labelled, test: Labelled, features: FeatureSet, model: Model, seed: int) -> npt.NDArray[np.float64]:
    """Train on `train`, return the probability of each test example. The same seed gives the same model."""
    inputs = design(train, features)
    mean, deviation = inputs.mean(axis=0), inputs.std(axis=0) + np.float32(1e-6)
    with _one_thread():
        network = _train((inputs - mean) / deviation, train.labels, model, seed)
        with torch.no_grad():
            logits = network.logits(torch.from_numpy((design(test, features) - mean) / deviation))
            probabilities: npt.NDArray[np.float64] = torch.sigmoid(logits).double().numpy()
    return probabilities


@contextmanager
def _one_thread() -> Iterator[None]:
    """A product this small is done before a second thread has woken, and threads that wait for each other on a busy
    machine take ten times as long as one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def design(examples: Labelled, features: FeatureSet) -> Float32[npt.NDArray[np.float32], "n columns"]:
    """The inputs: other features, the embeddings, and where both sides are there their product by coordinate.

    A linear model of two vectors side by side cannot see whether they agree; the product shows it.
    """
    parts = [examples.others]
    if features.users is not None:
        parts.append(features.users[examples.users])
    if features.items is not None:
        parts.append(features.items[examples.items])
    if features.users is not None and features.items is not None:
        parts.append(parts[-2] * parts[-1])
    return np.concatenate(parts, axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Network:
    """A logistic model, or with `hidden` one of a hidden layer."""

    weights: list[torch.Tensor]

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        first, bias, *rest = self.weights
        values = inputs @ first + bias
        if rest:
            values = torch.relu(values) @ rest[0] + rest[1]
        return values[:, 0]


def _train(
    inputs: Float32[npt.NDArray[np.float32], "n columns"],
    labels: Bool[npt.NDArray[np.bool_], " n"],
    model: Model,
    seed: int,
    *,
    batch: int = 512,
) -> _Network:
    """AdamW on nine tenths of the examples; the weights kept are those with the least loss on the last tenth."""
    generator = torch.Generator().manual_seed(seed)
    network = _new_network(inputs.shape[1], model, float(labels.mean()), generator)
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels.astype(np.float32))
    order = torch.randperm(len(x), generator=generator)
    watched, learning = order[: max(1, len(x) // 10)], order[max(1, len(x) // 10) :]
    optimizer = torch.optim.AdamW(network.weights, lr=3e-3, weight_decay=0.05)
    best, kept, waited = float("inf"), network, 0
    # A small set needs more passes to learn anything: at least 600 updates.
    for _ in range(max(5, UPDATES // -(-len(learning) // batch))):
        for part in torch.split(torch.randperm(len(learning), generator=generator), batch):
            rows = learning[part]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(network.logits(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            logits = network.logits(x[watched])
            now = float(torch.nn.functional.binary_cross_entropy_with_logits(logits, y[watched]))
        if now < best:
            best, kept, waited = now, _Network([weight.detach().clone() for weight in network.weights]), 0
        waited += 1
        if waited > PATIENCE:
            break
    return kept


def _new_network(columns: int, model: Model, mean_label: float, generator: torch.Generator) -> _Network:
    """Small random weights; the last bias starts at the log-odds of the mean label, as the reference of RCE does."""
    sizes = [columns, 1] if model == "logistic" else [columns, HIDDEN, 1]
    weights: list[torch.Tensor] = []
    for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
        weights.append(torch.randn(fan_in, fan_out, generator=generator) * (0.5 / max(1, fan_in) ** 0.5))
        weights.append(torch.zeros(fan_out))
    chance = min(max(mean_label, 1e-6), 1.0 - 1e-6)
    weights[-1] += float(np.log(chance / (1.0 - chance)))
    return _Network([weight.requires_grad_() for weight in weights])

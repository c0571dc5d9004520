"""Embeddings as frozen features of a ranking model: what they add to a small network's predictions.

Labelled examples (user, item, label, other features) train a logistic model or a network of one hidden layer,
with and without the embeddings of the user, of the item and of both, raw or decoded from their codes. The
embeddings stay as they are; only the small model learns.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float32, Int64

from bundle.prepared import Edges, PreparedGraph
from bundle.progress import SILENT, Progress
from bundle.records import Record
from evaluation.follow import Estimate, estimate
from evaluation.ranking_metrics import measure

Vectors = Float32[npt.NDArray[np.float32], "_ d"]
Model = Literal["logistic", "mlp"]
HIDDEN = 64
UPDATES = 600
PATIENCE = 40  # passes without a better one, and learning ends


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


class RankingRow(Record):
    """What one model with one feature set measured on the test examples."""

    features: str
    model: Model
    metrics: dict[str, Estimate]


class RankingReport(Record):
    """All feature sets on one task."""

    task: str
    train: int
    test: int
    rows: tuple[RankingRow, ...]

    def row(self, features: str, model: Model = "mlp") -> RankingRow:
        """The row of one feature set and model. Raises KeyError."""
        return {(row.features, row.model): row for row in self.rows}[features, model]


def feature_sets(tables: Mapping[str, tuple[Vectors | None, Vectors | None]]) -> list[FeatureSet]:
    """None, then user, item and both for every named pair of (user vectors, item vectors), raw or decoded.

    A side that is None has no vectors there: a space without that type.
    """
    found = [FeatureSet("none")]
    for name, (users, items) in tables.items():
        if users is not None:
            found.append(FeatureSet(f"user ({name})", users=users))
        if items is not None:
            found.append(FeatureSet(f"item ({name})", items=items))
        if users is not None and items is not None:
            found.append(FeatureSet(f"user + item ({name})", users=users, items=items))
    return found


def ranking_report(
    task: str,
    train: Labelled,
    test: Labelled,
    sets: Sequence[FeatureSet],
    *,
    models: Sequence[Model] = ("logistic", "mlp"),
    seed: int = 0,
    progress: Progress = SILENT,
) -> RankingReport:
    """Train every model on every feature set and measure it on `test`."""
    rows = []
    with progress.stage("Ranking models", len(sets) * len(models), "models") as bar:
        for features, model in itertools.product(sets, models):
            probabilities = predict(train, test, features, model, seed)
            found = measure(test.users, test.labels, probabilities, np.random.default_rng(seed))
            metrics = {name: estimate(interval) for name, interval in found.items()}
            rows.append(RankingRow(features=features.name, model=model, metrics=metrics))
            bar.advance()
    return RankingReport(task=task, train=len(train), test=len(test), rows=tuple(rows))


def predict(train: Labelled, test: Labelled, features: FeatureSet, model: Model, seed: int) -> npt.NDArray[np.float64]:
    """Train on `train`, return the probability of each test example. The same seed gives the same model."""
    inputs = design(train, features)
    mean, deviation = inputs.mean(axis=0), inputs.std(axis=0) + np.float32(1e-6)
    network = _train((inputs - mean) / deviation, train.labels, model, seed)
    with torch.no_grad():
        logits = network.logits(torch.from_numpy((design(test, features) - mean) / deviation))
        probabilities: npt.NDArray[np.float64] = torch.sigmoid(logits).double().numpy()
    return probabilities


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


def examples_from_graph(
    graph: PreparedGraph, relation: str, part: Literal["valid", "test"], rng: np.random.Generator, *, negatives: int = 4
) -> Labelled:
    """Held-out edges as positives and, for each, `negatives` non-edges of the same source as negatives.

    Negatives are targets of other held-out edges, so that popularity alone does not tell them apart; pairs that
    are an edge in any part are left out. Other features: ln(1 + degree) of either end in training.
    """
    chosen = graph.relation(relation)
    edges = chosen.part(part)
    n_targets = graph.count(chosen.target)
    positives = np.asarray(edges.src).astype(np.int64), np.asarray(edges.dst).astype(np.int64)
    users = np.repeat(positives[0], negatives)
    items = rng.choice(positives[1], len(users))
    known = np.concatenate([_keys(chosen.part(name), n_targets) for name in ("edges", "valid", "test")])
    fresh = ~np.isin(users * n_targets + items, known)
    pairs = np.unique((users * n_targets + items)[fresh])
    all_users = np.concatenate([positives[0], pairs // n_targets])
    all_items = np.concatenate([positives[1], pairs % n_targets])
    labels = np.arange(len(all_users)) < len(positives[0])
    degrees = (
        np.bincount(np.asarray(chosen.train.src), minlength=graph.count(chosen.source))[all_users],
        np.bincount(np.asarray(chosen.train.dst), minlength=n_targets)[all_items],
    )
    return Labelled(all_users, all_items, labels, np.log1p(np.stack(degrees, axis=1)).astype(np.float32))


def _keys(edges: Edges, n_targets: int) -> Int64[npt.NDArray[np.int64], " e"]:
    keys: npt.NDArray[np.int64] = np.asarray(edges.src).astype(np.int64) * n_targets + np.asarray(edges.dst)
    return keys

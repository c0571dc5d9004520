"""What embeddings add to a ranking model's predictions: every model with and without them, on one task.

With and without the embeddings of the user, of the item and of both, raw or decoded from their codes.
"""

import itertools
from collections.abc import Mapping, Sequence

from bundle.progress import SILENT, Progress
from bundle.records import Record
from evaluation.ranking.metrics import measure
from evaluation.ranking.models import FeatureSet, Labelled, Model, Vectors, predict
from evaluation.rows import Estimate, estimate


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
    sets = [FeatureSet("none")]
    for name, (users, items) in tables.items():
        if users is not None:
            sets.append(FeatureSet(f"user ({name})", users=users))
        if items is not None:
            sets.append(FeatureSet(f"item ({name})", items=items))
        if users is not None and items is not None:
            sets.append(FeatureSet(f"user + item ({name})", users=users, items=items))
    return sets


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
            intervals = measure(test.users, test.labels, probabilities, seed)
            metrics = {name: estimate(interval) for name, interval in intervals.items()}
            rows.append(RankingRow(features=features.name, model=model, metrics=metrics))
            bar.advance()
    return RankingReport(task=task, train=len(train), test=len(test), rows=tuple(rows))

"""Saying in words what the tables show: when a mixture of interests pays, and when one vector does."""

from collections.abc import Sequence

import numpy as np

from evaluation.follow import FollowReport
from evaluation.mixtures import MixtureReport, judged
from evaluation.rows import Row

ONE_VECTOR = ("unimodal", "fold_in", "blend", "rescored", "newcomer")
SAID = (
    ("recall@10", "recall in the first ten"),
    ("recall@50", "recall in the first fifty"),
    ("one_way_recall@10", "one-way recall in the first ten, which a following back cannot explain"),
    ("one_way_recall@50", "one-way recall in the first fifty"),
    ("diversity@10", "the lists' diversity"),
    ("coverage@10", "the share of the catalogue in anybody's list"),
)
GROUPED = ("recall@50", "one_way_recall@10", "one_way_recall@50", "diversity@10")


def mixture_in_words(report: FollowReport) -> str:
    """What the version's own strategies say."""
    strategies = [row for row in report.rows if row.kind == "strategy" and row.missing is None]
    singles = [row for row in strategies if row.name in ONE_VECTOR]
    mixtures = [row for row in strategies if row.name.startswith("mixture")]
    if not singles or not mixtures:
        return "Without both a mixture and a single-vector strategy there is nothing to compare."
    one = max(singles, key=lambda row: row.mean("recall@10"))
    many = max(mixtures, key=lambda row: row.mean("recall@10"))
    words = compared(many, [one])
    pays = [label for label in many.by_degree if _ahead(many, one, label)]
    return f"{words} It finds more for users with {', '.join(pays)} known edges." if pays else words


def sweep_in_words(report: MixtureReport) -> str:
    """What the sweep says, over all users and over those with several interests."""
    best = max(report.mixtures, key=lambda one: judged(one.row))
    words = [compared(best.row.model_copy(update={"name": best.name}), report.singles)]
    for users, rows in (("several interests", report.several), ("one interest", report.one)):
        if len(rows) == 2:
            many, one = rows
            metrics = [name for name in GROUPED if not np.isnan(many.mean(name)) and not np.isnan(one.mean(name))]
            values = ", ".join(f"{name} {many.mean(name):.3f} to {one.mean(name):.3f}" for name in metrics)
            words.append(f"For users with {users}, against {one.name}: {values}.")
    return " ".join(words)


def compared(many: Row, singles: Sequence[Row]) -> str:
    """In what a mixture is ahead of the best single vector of each kind, and in what behind."""
    ahead: list[str] = []
    behind: list[str] = []
    for name, said in SAID:
        values = [row for row in singles if not np.isnan(row.mean(name))]
        if values and not np.isnan(many.mean(name)):
            one = max(values, key=lambda row: row.mean(name))
            text = f"{said} ({many.mean(name):.3f} to {one.mean(name):.3f} of {one.name})"
            (ahead if many.mean(name) > one.mean(name) else behind).append(text)
    sentence = f"On this graph the mixture {many.name} "
    sentence += f"pays in {'; '.join(ahead)}" if ahead else "pays in nothing that was measured"
    return sentence + (f". One vector is ahead in {'; '.join(behind)}." if behind else ".")


def _ahead(many: Row, one: Row, label: str) -> bool:
    if label not in one.by_degree:
        return False
    ours, theirs = many.by_degree[label]["recall@10"].mean, one.by_degree[label]["recall@10"].mean
    return ours is not None and theirs is not None and ours > theirs

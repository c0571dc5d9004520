"""Labelled examples from the toy's held-out edges."""

from pathlib import Path

import numpy as np

from bundle.run import open_graph
from evaluation.ranking.tasks import examples_from_graph
from tests.support.toy import item_row


def test_positives_are_held_out_edges_and_negatives_are_no_edges(toy_directory: Path) -> None:
    graph = open_graph(toy_directory / "run")
    examples = examples_from_graph(graph, "likes", "test", np.random.default_rng(1))
    likes = graph.relation("likes")
    edges = set(zip(likes.train.src.tolist(), likes.train.dst.tolist(), strict=True))
    held_out = set(zip(likes.test.src.tolist(), likes.test.dst.tolist(), strict=True))
    pairs = list(zip(examples.users.tolist(), examples.items.tolist(), strict=True))
    assert {pair for pair, label in zip(pairs, examples.labels, strict=True) if label} == held_out
    negatives = {pair for pair, label in zip(pairs, examples.labels, strict=True) if not label}
    assert negatives.isdisjoint(edges | held_out)
    # Negatives are as popular as positives: here only the two held-out items can be drawn.
    assert {item for _, item in negatives} <= {item_row("jazz-06"), item_row("chess-06")}

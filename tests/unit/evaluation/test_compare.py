"""Release gates between two versions' manifests."""

from datetime import UTC, datetime

import pytest

from bundle.manifest import ClustersEntry, DefaultQuery, Evaluation, Lineage, Manifest, SpaceEntry, Strategy
from evaluation.learning.assess import popularity_gate
from evaluation.learning.compare import compare
from evaluation.rows import Estimate, Row


def version(name: str, **strategies: dict[str, float]) -> Manifest:
    """A manifest whose default strategy is `blend`, with these measurements."""
    space = SpaceEntry(
        dim=2,
        entities=(),
        relations=(),
        default=DefaultQuery(relation="follows", user_type="user", candidate_type="user"),
        clusters=ClustersEntry(count=1, types=("user",), modes=1, mixture_type="user", list_length=1),
        compression={},
        indexes={},
        strategies={"blend": Strategy(merge="single")},
        auto="blend",
    )
    lineage = Lineage(graph_digest="", training_config_digest="", build_config_digest="")
    created = datetime(2026, 1, 1, tzinfo=UTC)
    evaluation = Evaluation(strategies=strategies)
    return Manifest(
        version=name, created=created, lineage=lineage, spaces={"a": space}, files={}, evaluation=evaluation
    )


OLD = version("old", blend={"recall@10": 0.50, "recall@50": 0.80, "mrr": 0.3})


def test_a_small_fall_passes_and_a_large_one_does_not() -> None:
    new = version("new", blend={"recall@10": 0.48, "recall@50": 0.70})
    gates = {gate.metric: gate for gate in compare(new, OLD, tolerance=0.05)}
    assert gates["recall@10 against version old"].passed
    assert not gates["recall@50 against version old"].passed
    assert gates["recall@50 against version old"].floor == pytest.approx(0.76)


def test_the_first_version_has_nothing_to_be_compared_with() -> None:
    assert compare(OLD, None, tolerance=0.05) == []


def test_a_version_that_was_not_measured_is_not_compared() -> None:
    assert compare(version("new"), OLD, tolerance=0.05) == []


def test_a_version_that_popularity_beats_does_not_pass() -> None:
    def row(name: str, recall: float) -> Row:
        return Row(
            name=name, kind="baseline", metrics={"recall@10": Estimate(mean=recall, low=recall, high=recall, n=9)}
        )

    assert not popularity_gate(row("blend", 0.1), [row("popularity", 0.2)]).passed
    assert popularity_gate(row("blend", 0.3), [row("popularity", 0.2)]).passed

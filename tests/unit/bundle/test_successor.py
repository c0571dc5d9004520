"""Release gates between two versions' manifests."""

from datetime import UTC, datetime

import pytest

from bundle.manifest import ClustersEntry, DefaultQuery, Evaluation, Lineage, Manifest, SpaceEntry, Strategy
from bundle.successor import compare
from evaluation.learning.assess import popularity_floor, popularity_gate
from evaluation.rows import Estimate, Row


def version(name: str, relation: str = "follows", **strategies: dict[str, float]) -> Manifest:
    """A manifest whose default strategy is `blend`, with these measurements."""
    space = SpaceEntry(
        dim=2,
        entities=(),
        relations=(),
        default=DefaultQuery(relation=relation, user_type="user", candidate_type="user"),
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


def test_two_samples_of_users_may_differ_by_chance() -> None:
    """Of forty users each, .50 and .35 is no fall; of four thousand it is."""
    for users, passed in ((40.0, True), (4000.0, False)):
        old, new = (
            version(name, blend={"recall@10": at, "users": users}) for name, at in (("old", 0.5), ("new", 0.35))
        )
        assert compare(new, old, tolerance=0.05)[0].passed is passed


def test_recall_of_another_relation_is_not_compared() -> None:
    other = version("new", relation="likes", blend={"recall@10": 0.1, "recall@50": 0.2})
    assert compare(other, OLD, tolerance=0.05) == []


def test_the_first_version_has_nothing_to_be_compared_with() -> None:
    assert compare(OLD, None, tolerance=0.05) == []


def test_a_version_that_was_not_measured_is_not_compared() -> None:
    assert compare(version("new"), OLD, tolerance=0.05) == []


def test_a_version_that_popularity_beats_does_not_pass() -> None:
    def row(name: str, recall: float) -> Row:
        return Row(
            name=name, kind="baseline", metrics={"recall@10": Estimate(mean=recall, low=recall, high=recall, n=9)}
        )

    floor = popularity_floor([row("popular", 0.21), row("blend", 0.1)], [row("popularity", 0.2)])
    assert floor == 0.2
    assert not popularity_gate(row("blend", 0.1), floor).passed
    assert popularity_gate(row("blend", 0.3), floor).passed


def test_popularity_as_it_is_served_always_reaches_the_floor() -> None:
    """The baseline and the strategy order equally popular targets in other ways."""

    def row(name: str, recall: float) -> Row:
        return Row(name=name, kind="strategy", metrics={"recall@10": Estimate(mean=recall, low=None, high=None, n=9)})

    served = row("popular", 0.18)
    assert popularity_gate(served, popularity_floor([served], [row("popularity", 0.2)])).passed

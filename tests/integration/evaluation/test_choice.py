"""What answers by default where few users judge: small graphs that `benchmarks.relations` draws."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.relations import CASES, prepared
from bundle.assessment import Assessment
from bundle.run import open_run
from evaluation.learning.assess import assess_relation


def learnt(seed: int, directory: Path) -> Assessment:
    """What a build learns of the likes of a drawn graph."""
    recommender = prepared(CASES["drawn"], seed, directory)
    found = assess_relation(recommender, open_run(directory / "run").graph, "likes", seed)
    assert isinstance(found, Assessment)
    return found


def judged(found: Assessment, name: str) -> Mapping[str, float]:
    return found.measured.strategies[name]


def test_the_walk_answers_where_it_leads_what_was_learnt_by_more_than_chance(tmp_path: Path) -> None:
    found = learnt(2, tmp_path)
    assert judged(found, "walk")["recall@10"] > 1.5 * judged(found, "rescored")["recall@10"]
    assert found.auto == "walk"
    network = found.strategies["walk"].rescoring
    assert network is not None
    assert network.hidden[0][network.features.index("in_degree")] < 0  # its β was chosen, and is not the first


def test_newcomers_are_answered_by_what_was_taught_for_them_unless_another_s_lead_is_more_than_chance(
    tmp_path: Path,
) -> None:
    found = learnt(2, tmp_path)
    taught, blend = (found.measured.newcomers[name] for name in ("newcomer", "blend"))
    means = [(one["recall@10"] + one["recall@50"]) / 2 for one in (taught, blend)]
    assert means[0] == pytest.approx(means[1], abs=0.02)  # of 67 users
    assert found.auto_newcomer == "newcomer"


def test_popularity_is_no_bar_where_its_lead_is_chance(tmp_path: Path) -> None:
    found = learnt(3, tmp_path)
    popular, best = judged(found, "popular"), judged(found, "rescored")
    assert best["recall@10"] < popular["recall@10"] < best["recall@10"] + 0.03  # of 136 users
    assert best["recall@50"] > popular["recall@50"] + 0.05
    assert found.auto == "rescored"
    assert found.gates[0].passed

"""What `twhin build` says of the defaults it chose."""

from pathlib import Path

import pytest

from cli.build import defaults_in_words
from tests.support.toy import build_toy


def test_a_build_says_which_strategy_answers_whom_in_which_relation(tmp_path: Path) -> None:
    manifest = build_toy(tmp_path).manifest
    space = manifest.spaces["default"].model_copy(update={"auto_newcomer": "fold_in", "fallback": None})
    evaluation = manifest.evaluation.model_copy(update={"newcomers": {"fold_in": {"recall@10": 0.25}}})
    told = manifest.model_copy(update={"spaces": {"default": space}, "evaluation": evaluation})
    assert list(defaults_in_words(told)) == [
        "likes: blend by default for users in training; not measured.",
        "likes: fold_in by default for newcomers; recall@10 on validation edges is 0.2500.",
        "follows: blend by default, not learnt: it was built without learning.",
    ]


def test_relations_that_are_answered_alike_share_a_line(tmp_path: Path) -> None:
    manifest = build_toy(tmp_path).manifest
    space = manifest.spaces["default"]
    alike = {f"r{number}": space.relation_strategies["follows"] for number in range(1500)}
    many = manifest.model_copy(update={"spaces": {"default": space.model_copy(update={"relation_strategies": alike})}})
    assert list(defaults_in_words(many)) == [
        "likes, r0, r1, r2, r3 and 1,496 more: blend by default, not learnt: it was built without learning.",
    ]


@pytest.mark.parametrize(("recall", "told"), [(0.45, True), (0.405, False), (0.3, False)])
def test_a_build_says_where_a_simple_method_finds_clearly_more(tmp_path: Path, recall: float, told: bool) -> None:
    manifest = build_toy(tmp_path).manifest
    space = manifest.spaces["default"].model_copy(update={"fallback": None})
    measured = {
        "strategies": {"blend": {"recall@10": 0.4}},
        "baselines": {"popularity": {"recall@10": 0.1}, "rp3b": {"recall@10": recall}, "item_knn": {}},
    }
    evaluation = manifest.evaluation.model_copy(update=measured)
    lines = list(
        defaults_in_words(manifest.model_copy(update={"spaces": {"default": space}, "evaluation": evaluation}))
    )
    assert lines[0] == "likes: blend by default for users in training; recall@10 on validation edges is 0.4000."
    assert ("likes: the simple method rp3b finds more of these edges than blend: 0.4500." in lines) == told
    assert sum("simple method" in line for line in lines) == told

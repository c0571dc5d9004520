"""What `twhin build` says of the defaults it chose."""

from pathlib import Path

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

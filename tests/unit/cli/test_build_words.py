"""What `twhin build` says of the defaults it chose."""

from pathlib import Path

from cli.build import defaults_in_words
from tests.support.toy import build_toy


def test_a_build_says_which_strategy_answers_whom(tmp_path: Path) -> None:
    manifest = build_toy(tmp_path).manifest
    space = manifest.spaces["default"].model_copy(update={"auto_newcomer": "fold_in"})
    evaluation = manifest.evaluation.model_copy(update={"newcomers": {"fold_in": {"recall@10": 0.25}}})
    told = manifest.model_copy(update={"spaces": {"default": space}, "evaluation": evaluation})
    assert list(defaults_in_words(told)) == [
        f"Default for users in training: {space.auto}; not measured.",
        "Default for newcomers: fold_in; recall@10 on validation edges is 0.2500.",
    ]

"""`--config` and `--set`: files, overrides, and what is refused."""

from pathlib import Path

import pytest

from bundle.errors import ConfigError
from cli.settings import merged


def test_an_override_wins_over_the_file_and_leaves_its_neighbours(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text("dim = 64\n[relation_weights]\nfollows = 2.0\nlikes = 0.5\n")
    settings = merged(file, ["dim=256", "relation_weights.likes=1"])
    assert settings == {"dim": 256, "relation_weights": {"follows": 2.0, "likes": 1}}


def test_text_needs_no_quotes() -> None:
    assert merged(None, ["loss=softmax", "device=cuda:1", "flag=true"]) == {
        "loss": "softmax",
        "device": "cuda:1",
        "flag": True,
    }


@pytest.mark.parametrize("item", ["dim", "=3", 'dim="', "dim=1\nepochs=2", "a b=1"])
def test_what_is_no_setting_is_refused(item: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        merged(None, [item])


def test_a_directory_is_no_file_of_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        merged(tmp_path, None)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        merged(tmp_path / "none.toml", None)

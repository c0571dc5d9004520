"""`--config` and `--set`: files, overrides, and what is refused."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bundle.errors import ConfigError
from cli.main import app
from cli.settings import merged
from index.builder.config import parse_config as parse_build
from training.config import parse_config as parse_training


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


def test_a_number_of_thousands_of_digits_is_refused_as_other_text_is() -> None:
    with pytest.raises(ConfigError, match="epochs"):
        parse_training(merged(None, ["epochs=" + "9" * 5_000]), "--set")


def test_a_directory_is_no_file_of_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        merged(tmp_path, None)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        merged(tmp_path / "none.toml", None)


@pytest.mark.parametrize("command", ["train", "tune", "build"])
def test_the_example_of_a_setting_in_the_help_is_one(command: str) -> None:
    told = CliRunner().invoke(app, [command, "--help"], terminal_width=200, env={"COLUMNS": "200"}).output
    example = re.search(r"--set (\S+=\d+)", told)
    assert example is not None, told
    parse = parse_build if command == "build" else parse_training
    parse(merged(None, [example[1].rstrip(".")]), "--set")


def test_a_seed_that_libraries_do_not_take_is_refused() -> None:
    assert parse_build({"seed": 2**31 - 1}, "--set").seed == 2**31 - 1
    with pytest.raises(ConfigError, match="seed is 2147483648, but it should be less than 2147483648"):
        parse_build({"seed": 2**31}, "--set")


@pytest.mark.parametrize("parse", [parse_training, parse_build])
@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "true", "false"])
def test_what_toml_has_besides_numbers_is_none(parse: Callable[[dict[str, object], str], object], value: str) -> None:
    """`inf` trained a table of NaN, and `true` one epoch."""
    keys = ("learning_rate", "epochs", "memory", "init_scale", "threads", "seed", "relation_weights.follows")
    if parse is parse_build:
        keys = ("memory", "threads", "seed", "index.refine", "mixtures.half_life", "mixtures.relation_weights.follows")
    for key in keys:
        with pytest.raises(ConfigError, match=re.escape(key.removesuffix(".follows"))):
            parse(merged(None, [f"{key}={value}"]), "--set")


@pytest.mark.parametrize("value", ["1e1", "10.0", '"10"', "１０"])
def test_a_whole_number_is_written_in_digits(value: str) -> None:
    with pytest.raises(ConfigError, match="whole number, in digits"):
        parse_training(merged(None, [f"epochs={value}"]), "--set")
    with pytest.raises(ConfigError, match=r"clusters\.count is .*whole number, in digits"):
        parse_build(merged(None, [f"clusters.count={value}"]), "--set")
    assert parse_training(merged(None, ["epochs=1_0", "learning_rate=1e-1", "memory=1GiB"]), "--set").epochs == 10


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("clusters.cnt=5", r"^--set: clusters.cnt is no setting; did you mean clusters.count\?"),
        ("mixtures.smoothing.neighbors=5", r"did you mean mixtures.smoothing.neighbours\?"),
        ("depth=200", r"^--set: depth is no setting; did you mean index.depth\?"),
        ("clusters=5", "clusters is 5, but it is a table: set clusters.count, or others of it. docs/indexes.md lists"),
        ("index.kind=faiss", "index.kind is 'faiss', but it should be 'auto', 'exact', 'hnsw',"),
        ("clusters.types=user", "clusters.types is 'user', but it should be a list"),
        ("memory=lots", "memory is 'lots', but it should be a size, such as 8GiB"),
        ("index.target_recall=95", "index.target_recall is 95, but it should be less than or equal to 1"),
    ],
)
def test_a_slip_in_the_settings_of_a_build_is_told_in_the_words_of_the_file(item: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_build(merged(None, [item]), "--set")

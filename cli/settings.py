"""Settings given by `--config FILE` and `--set key=value`, merged before they are checked."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from bundle.errors import ConfigError
from bundle.text import read_toml
from training.presets import Preset


def _config_option(page: str) -> Any:
    return typer.Option("--config", help=f"TOML file of settings; {page} has every key.", metavar="FILE")


ConfigOption = Annotated[Path | None, _config_option("docs/training.md")]
BuildConfigOption = Annotated[Path | None, _config_option("docs/indexes.md")]


def _set_option(example: str) -> Any:
    return typer.Option(
        "--set", help=f"One setting, as in the file, over it: --set {example}. May be repeated.", metavar="KEY=VALUE"
    )


SetOption = Annotated[list[str] | None, _set_option("dim=256")]
BuildSetOption = Annotated[list[str] | None, _set_option("clusters.count=500")]


PresetOption = Annotated[
    Preset | None,
    typer.Option("--preset", help="Settings for a kind of graph, under those of --config and --set."),
]


def merged(
    config: Path | None, overrides: Sequence[str] | None, preset: Mapping[str, object] = MappingProxyType({})
) -> dict[str, object]:
    """The settings of the preset, those of the file over them and the overrides on top. Raises ConfigError for what is
    no TOML."""
    settings = dict(preset)
    _merge(settings, {} if config is None else _read(config))
    for item in overrides or ():
        _merge(settings, _parse(item))
    return settings


def _read(config: Path) -> dict[str, object]:
    try:
        return read_toml(config)
    except FileNotFoundError:
        raise ConfigError(f"{config} does not exist. Name a TOML file of settings, or leave --config out.") from None
    except OSError as error:
        raise ConfigError(f"{config} cannot be read: {error.strerror}. Name a TOML file of settings.") from error


def _parse(item: str) -> dict[str, object]:
    """One `key=value`; a value that is no TOML value is taken as text, so that quotes can be left out."""
    key, equals, value = item.partition("=")
    if not equals or not key.strip() or "\n" in item:
        raise ConfigError(f"--set takes KEY=VALUE, such as --set epochs=5; found {item!r:.60}.")
    for text in (value, f'"{value}"'):
        try:
            return tomllib.loads(f"{key} = {text}")
        except (ValueError, RecursionError):  # a number of thousands of digits, too
            continue
    raise ConfigError(f"--set {key}: the value is neither a TOML value nor plain text.")


def _merge(into: dict[str, object], new: dict[str, object]) -> None:
    """Put `new` over `into`, table by table, so that `--set table.key=1` leaves the table's other keys alone."""
    for key, value in new.items():
        old = into.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value)
        else:
            into[key] = value

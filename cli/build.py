"""`twhin build`: from a run directory to a version."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import JsonFlag, emit, line
from cli.progress import progress, say
from cli.settings import ConfigOption, SetOption, merged
from cli.versions import BundlesOption

if TYPE_CHECKING:
    from index.build.build import BuiltVersion


def build(
    run: Annotated[Path, typer.Argument(help="The run directory that `twhin train` wrote.", metavar="RUN_DIR")],
    bundles: BundlesOption,
    config: ConfigOption = None,
    settings: SetOption = None,
    version: Annotated[str | None, typer.Option(help="Name of the version; time and digest by default.")] = None,
    space: Annotated[str, typer.Option(help="Name of the embedding space.")] = "default",
    as_json: JsonFlag = False,
) -> None:
    """Build a version from a run: clusters, mixtures, codebooks, indexes, and what they measure.

    The version is complete when its name is printed; it is served once it is published.
    """
    built = build_version(run, bundles, merged(config, settings), str(config or "--set"), version, space)
    name = built.manifest.version
    say(f"Built on the {built.device}.")
    answer = {"version": name, "path": built.path, "device": built.device, "evaluation": built.manifest.evaluation}
    emit(answer, as_json, lambda: line(f"Built {name}. Next: twhin publish {name} --bundles {bundles}"))


def build_version(
    run: Path,
    bundles: Path,
    settings: dict[str, object],
    where: str = "the settings",
    version: str | None = None,
    space: str = "default",
) -> "BuiltVersion":
    """Build a version from a run and measure its strategies. Raises RunError, ConfigError."""
    from cli.compose import assessor
    from index.build.build import build as run_build
    from index.build.config import parse_config

    config = parse_config(settings, where)
    assess = assessor(run, space, config.seed)
    return run_build(run, bundles, config, version=version, space=space, assess=assess, progress=progress())

"""experiments.toml: read, checked, and made into experiments."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec

from bundle.disk import read_plain
from bundle.errors import ConfigError
from bundle.text import toml_in
from recommend.types import AUTO
from service.experiments.split import BUCKETS, Arm, Experiment

# Names are labels of metrics and keys of stores: few, short and plain.
EXPERIMENTS_MAX, ARMS_MAX = 8, 8
# Each is open in every worker, beside the one that serves.
VERSIONS_MAX = 2
BYTES_MAX = 256 << 10
NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"

Name = Annotated[str, msgspec.Meta(pattern=NAME)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class _Arm(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    share: Share
    strategy: Text = AUTO
    version: Text | None = None


class _Experiment(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    arms: Annotated[list[_Arm], msgspec.Meta(min_length=2, max_length=ARMS_MAX)]
    relation: Text | None = None
    salt: Text | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    experiments: Annotated[list[_Experiment], msgspec.Meta(max_length=EXPERIMENTS_MAX)] = []


def file_of(bundles: Path, named: Path | None) -> Path:
    """The file of experiments: the `named` one, or that beside the versions, which need not be there.

    Raises ConfigError where one is named and not there.
    """
    if named is not None and not named.exists():
        raise ConfigError(f"TWHIN_EXPERIMENTS: there is no {named}")
    return named or bundles / "experiments.toml"


def versions_in(experiments: Iterable[Experiment]) -> frozenset[str]:
    """The versions that their arms name."""
    return frozenset(arm.version for one in experiments for arm in one.arms if arm.version is not None)


def read_experiments(path: Path) -> tuple[Experiment, ...]:
    """The experiments of the file, in its order; none where there is no file. Raises ConfigError."""
    try:
        # While it serves: what lies there by then may be a pipe, which would be waited for.
        data = read_plain(path, BYTES_MAX + 1)
        if len(data) > BYTES_MAX:
            raise ConfigError(f"{path} has more than {BYTES_MAX >> 10} KiB.")
        given = msgspec.convert(toml_in(path, data), _File)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except ConfigError as error:
        raise ConfigError(f"{error} docs/experimenting.md shows the file.") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_plain(error)}. docs/experimenting.md shows the file.") from None
    return tuple(_checked(path, given.experiments))


def _plain(error: Exception) -> str:
    """What is wrong and where; the pattern of names in words."""
    text = str(error).rstrip(".")
    return re.sub(r"Expected `str` matching regex '[^']*'", "a name has 1 to 64 of a-z, 0-9, _ and -", text)


def _checked(path: Path, given: list[_Experiment]) -> list[Experiment]:
    names = [one.name for one in given]
    if len({*names}) < len(names):
        raise ConfigError(f"{path}: two experiments have one name. Give each its own.")
    if len({arm.version for one in given for arm in one.arms if arm.version is not None}) > VERSIONS_MAX:
        raise ConfigError(f"{path}: its arms name more than {VERSIONS_MAX} versions. Each is open all the time.")
    experiments = []
    for one in given:
        where = f"{path}: experiment {one.name}"
        arms = [Arm(arm.name, arm.strategy, _buckets(where, arm), arm.version) for arm in one.arms]
        if len({arm.name for arm in arms}) < len(arms):
            raise ConfigError(f"{where}: two arms have one name. Give each its own.")
        if sum(arm.buckets for arm in arms) > BUCKETS:
            raise ConfigError(f"{where}: the shares of its arms add up to more than 1.")
        experiments.append(Experiment(one.name, arms, salt=one.salt, relation=one.relation))
    return experiments


def _buckets(where: str, arm: _Arm) -> int:
    buckets = round(arm.share * BUCKETS)
    if buckets < 1 or abs(buckets / BUCKETS - arm.share) > 1e-9:
        raise ConfigError(f"{where}: the share of {arm.name} is no multiple of 0.0001.")
    return buckets

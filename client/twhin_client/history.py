"""Point-in-time features: for each training example of a ranker the vector that was served at its time.

The service answers from one version at a time, and the directory of versions keeps a record of which was published
when (`TIMELINE`; `/v1/versions` over HTTP). An example that logged the `version` of its answer is joined by that; any
other by its time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twhin_client.client import Client
from twhin_client.local import Version
from twhin_client.local import open as open_version
from twhin_client.manifest import current
from twhin_client.problems import VersionNotFound
from twhin_client.shared import texts
from twhin_client.vectors import Vectors

_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6})Z ([A-Za-z0-9][A-Za-z0-9._-]{0,63})", re.ASCII)
Lookup = Callable[[str, str, list[str], str | None], Vectors]


@dataclass(frozen=True)
class ServedVectors:
    """Row i of `values` [n, dim] is what example i was served; `missing` where there was nothing: before the first
    version, of an id that the version did not know, or of a version that is no longer kept, which `gone` names.

    `versions` has the version of each example, None before the first.
    """

    ids: Sequence[str]
    values: npt.NDArray[np.float32]
    missing: npt.NDArray[np.bool_]
    versions: Sequence[str | None]
    gone: tuple[str, ...]


class History:
    """Which version was published when: `versions[i]` from `times[i]` (seconds since 1970, ascending) to the next."""

    def __init__(self, times: npt.NDArray[np.float64], versions: Sequence[str], lookup: Lookup) -> None:
        self.times = times
        self.versions = tuple(versions)
        self._lookup = lookup

    def version_at(self, times: npt.ArrayLike, *, lag: float = 0.0) -> list[str | None]:
        """The version that was served at each time: seconds since 1970, or datetime64 in UTC. `lag`: seconds from a
        publication to the service's change; it looks every `TWHIN_WATCH_SECONDS` and then loads and checks.
        """
        moments = seconds_of(times)
        places = np.searchsorted(self.times + lag, moments, side="right") - 1
        return [None if place < 0 else self.versions[place] for place in places.tolist()]

    def vectors(
        self,
        type: str,
        ids: Iterable[str | int] | npt.NDArray[Any],
        *,
        times: npt.ArrayLike | None = None,
        versions: Iterable[str | None] | None = None,
        lag: float = 0.0,
        space: str | None = None,
    ) -> ServedVectors:
        """The vectors of `ids` as they were served: by `times` (and `lag`, see `version_at`), or by the `versions` that
        the answers named. Raises ValueError unless one of the two is given, or for versions of different dimensions.
        """
        if (times is None) == (versions is None):
            raise ValueError("give the times of the examples, or the versions that they were served by")
        names = texts(ids)
        served = self.version_at(times, lag=lag) if times is not None else list(versions or ())
        if len(served) != len(names):
            raise ValueError(f"{len(names)} ids and {len(served)} examples: one of each is needed")
        found, gone = self._found(type, names, served, space)
        dims = {vectors.dim for _, vectors in found}
        if len(dims) > 1:
            raise ValueError(f"the versions' vectors have different dimensions: {sorted(dims)}; join them apart")
        values = np.zeros((len(names), dims.pop() if dims else 0), dtype=np.float32)
        missing = np.ones(len(names), dtype=np.bool_)
        for places, vectors in found:
            values[places] = vectors.values
            missing[places] = vectors.missing
        return ServedVectors(names, values, missing, served, tuple(gone))

    def _found(
        self, type: str, names: list[str], served: Sequence[str | None], space: str | None
    ) -> tuple[list[tuple[npt.NDArray[np.int64], Vectors]], list[str]]:
        """For each version the places of its examples and their vectors; and the versions that are gone."""
        places: dict[str, list[int]] = {}
        for place, version in enumerate(served):
            if version is not None:
                places.setdefault(version, []).append(place)
        found, gone = [], []
        for version, of_version in places.items():
            try:
                vectors = self._lookup(version, type, [names[place] for place in of_version], space)
            except VersionNotFound:
                gone.append(version)
            else:
                found.append((np.array(of_version, dtype=np.int64), vectors))
        return found, gone


def seconds_of(times: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Times as seconds since 1970."""
    array = np.asarray(times)
    if array.dtype.kind == "M":
        nanoseconds = array.astype("datetime64[ns]").astype(np.int64)
        return np.asarray(nanoseconds / 1e9, dtype=np.float64)
    return array.astype(np.float64)


def history(source: str | Path | Client) -> History:
    """The history of a directory of versions, or of the service of a client. Nothing is known of the time before the
    record began.
    """
    if isinstance(source, Client):
        client = source
        told = client.versions().history
        return History(
            np.array([one.at for one in told], dtype=np.float64),
            [one.version for one in told],
            lambda version, type, ids, space: client.embeddings(type, ids, version=version, space=space),
        )
    bundles = Path(source)
    times, versions = _timeline(bundles)
    opened: dict[str, Version] = {}

    def lookup(version: str, type: str, ids: list[str], space: str | None) -> Vectors:
        if version not in opened:
            opened[version] = open_version(bundles, version)
        return opened[version].entities(type, space).of(ids)

    return History(np.array(times, dtype=np.float64), versions, lookup)


def _timeline(bundles: Path) -> tuple[list[float], list[str]]:
    """The publications as they were written down, and the current one where it was not: see docs/bundle-format.md."""
    path = bundles / "TIMELINE"
    lines = path.read_text(encoding="ascii", errors="replace").split("\n")[:-1] if path.is_file() else []
    found = list(filter(None, map(_LINE.fullmatch, lines)))
    versions = [match[2] for match in found]
    times = [datetime.fromisoformat(match[1]).replace(tzinfo=UTC).timestamp() for match in found]
    published = current(bundles)
    if published is not None and versions[-1:] != [published]:
        times.append((bundles / "CURRENT").stat().st_mtime_ns // 1000 / 1e6)
        versions.append(published)
    # A clock that was wrong: a time to come is that of what followed, and none is before the one before.
    now = followed = time.time()
    for place in reversed(range(len(times))):
        times[place] = followed = times[place] if times[place] <= now else followed
    return list(accumulate(times, max)), versions

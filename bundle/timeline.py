"""Which version was published when: a record in the directory of versions that only grows.

BUNDLES/TIMELINE   one line a change of CURRENT: `2026-11-28T23:59:59.123456Z <version>`, oldest first
"""

import re
import time
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from bundle.disk import NotPlain, append_line, read_plain

TIMELINE = "TIMELINE"
MOST_BYTES = 1 << 30
_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6})Z ([A-Za-z0-9][A-Za-z0-9._-]{0,63})", re.ASCII)


class Publication(NamedTuple):
    """From `at`, seconds since 1970, until the next publication `version` was the published one."""

    at: float
    version: str


def read_timeline(bundles: Path) -> list[Publication]:
    """The publications written down, oldest first; a line that is none, or has no end, is passed over.

    Their times never fall and are none to come, whatever the clock was: a time to come is that of what followed.
    """
    try:
        text = read_plain(bundles / TIMELINE, MOST_BYTES).decode("ascii", errors="replace")
    except (FileNotFoundError, NotPlain):
        return []
    written = [(_seconds(match[1]), match[2]) for match in filter(None, map(_LINE.fullmatch, text.split("\n")[:-1]))]
    now = followed = time.time()
    times: list[float] = []
    for at, _ in reversed(written):
        followed = at if at <= now else followed
        times.append(followed)
    return [Publication(at, name) for at, (_, name) in zip(accumulate(reversed(times), max), written, strict=True)]


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def write_down(bundles: Path, publication: Publication) -> None:
    """Add a line that survives a power cut. Held under the lock of the directory."""
    moment = datetime.fromtimestamp(publication.at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    append_line(bundles / TIMELINE, f"{moment} {publication.version}")

"""What an operation of the API is, and which one answers at a path."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from service.auth import Scope
from service.call import JSON, Call, Reply
from service.settings import Settings

Handler = Callable[[Call], Awaitable[Reply]]
NO_IDS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API. `request` and `answer` are its JSON types; `example` is a request body."""

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    scope: Scope = field(kw_only=True)
    request: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | None = None
    example: Mapping[str, Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    statuses: tuple[int, ...] = ()
    media: tuple[str, ...] = (JSON,)
    patient: bool = False  # keeps to the request's deadline itself, as what it began outlasts that
    probe: bool = False
    queued: bool = False  # always waits for the search thread, so that there is no room where that has none

    @property
    def label(self) -> str:
        """The route in metrics and logs: the path, never an id."""
        return self.path.replace(":path}", "}")

    @property
    def for_anyone(self) -> bool:
        """Whether it tells nothing to anyone who asks, under any name: the probes of whatever runs the process."""
        return self.probe and self.scope == "open"

    @property
    def writes(self) -> bool:
        """Whether it changes something."""
        return self.method != "GET" and self.scope in ("write", "admin")

    def scope_needed(self, settings: Settings) -> Scope:
        """The scope a caller needs; /metrics may be open."""
        return "open" if self.path == "/metrics" and settings.metrics_open else self.scope

    @property
    def pattern(self) -> re.Pattern[str]:
        """What paths of this route look like. `{id:path}` may hold slashes and ends of lines, `{type}` no slash."""
        parts = re.split(r"(\{[^}]+\})", self.path)
        return re.compile("".join(map(_pattern_of_part, parts)))


def _pattern_of_part(part: str) -> str:
    if not part.startswith("{"):
        return re.escape(part)
    name, _, kind = part[1:-1].partition(":")
    return rf"(?P<{name}>[\s\S]*)" if kind else rf"(?P<{name}>[^/]+)"


class RouteTable:
    """Finds what answers at a path: in a dictionary, or by one of the few patterns of paths that hold ids."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._fixed: dict[str, dict[str, Route]] = {}
        self._patterns: dict[re.Pattern[str], dict[str, Route]] = {}
        for route in routes:
            by_method = (
                self._patterns.setdefault(route.pattern, {})
                if "{" in route.path
                else self._fixed.setdefault(route.path, {})
            )
            by_method[route.method] = route
            if route.method == "GET":
                by_method["HEAD"] = route  # the server sends the head of the same answer

    def find(self, path: str) -> tuple[Mapping[str, Route], Mapping[str, str]] | None:
        """The routes at `path` by method, and the ids that the path holds; None where the product has nothing."""
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed, NO_IDS
        for pattern, by_method in self._patterns.items():
            match = pattern.fullmatch(path)
            if match is not None:
                return by_method, match.groupdict()
        return None

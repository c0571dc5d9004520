"""What a route is: a path, a handler, who may call it, and what goes in and out, for the document."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from service.auth import Scope
from service.call import Call, Reply
from service.settings import Settings

Handler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API. `request` and `answer` are its JSON types; `example` is a request body."""

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    scope: Scope = "read"
    request: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | None = None
    example: Mapping[str, Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    statuses: tuple[int, ...] = ()
    media: tuple[str, ...] = ("application/json",)
    probe: bool = False

    @property
    def label(self) -> str:
        """The route in metrics and logs: the path, never an id."""
        return self.path.replace(":path}", "}")

    def scope_needed(self, settings: Settings) -> Scope:
        """The scope a caller needs; /metrics may be open."""
        return "open" if self.path == "/metrics" and settings.metrics_open else self.scope

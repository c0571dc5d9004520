"""How long work reports its progress: a small protocol, with a silent one as the default."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Stage(Protocol):
    """One piece of work under way."""

    def advance(self, n: int = 1) -> None:
        """Report that `n` more units are done."""
        ...

    def note(self, text: str) -> None:
        """Show `text` beside the bar, such as the current loss; each call replaces the last."""
        ...


@runtime_checkable
class Progress(Protocol):
    """Where progress is shown: a terminal, a log, nowhere."""

    def stage(self, name: str, total: int | None, unit: str) -> AbstractContextManager[Stage]:
        """Open a piece of work of `total` units (None when unknown); it ends when the context does."""
        ...


@dataclass(frozen=True, slots=True)
class SilentStage:
    """A stage that shows nothing."""

    def advance(self, n: int = 1) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""


QUIET = SilentStage()


@dataclass(frozen=True, slots=True)
class SilentProgress:
    """Progress that nobody watches."""

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Stage]:
        """Open a stage that shows nothing."""
        yield SilentStage()


SILENT = SilentProgress()

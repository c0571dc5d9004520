"""The engine at each of its instruction sets."""

from collections.abc import Iterator
from contextlib import contextmanager

import engine

LEVELS = ("plain", "neon", "avx2", "avxvnni", "avx512")


def has_level(level: str) -> bool:
    """Whether this processor has the set."""
    native = engine.native()
    before = native.level()
    try:
        native.set_level(level.encode())
    except ValueError:
        return False
    native.set_level(before)
    return True


@contextmanager
def at_level(wanted: str) -> Iterator[None]:
    """The engine at this set, or at the best one before it where the processor lacks it; then as it was."""
    native = engine.native()
    before = native.level()
    there = [level for level in LEVELS[: LEVELS.index(wanted) + 1] if has_level(level)]
    native.set_level(there[-1].encode())
    try:
        yield
    finally:
        native.set_level(before)

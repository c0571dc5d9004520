"""The engine at each of its instruction sets."""

from collections.abc import Iterator
from contextlib import contextmanager

import engine

LEVELS = ("plain", "avx2", "avx512")


@contextmanager
def at_level(wanted: str) -> Iterator[None]:
    """The engine at this set, or at the best one of a processor that lacks it; then as it was."""
    native = engine.native()
    before, best = native.level(), native.best_level().decode()
    native.set_level(min(wanted, best, key=LEVELS.index).encode())
    try:
        yield
    finally:
        native.set_level(before)

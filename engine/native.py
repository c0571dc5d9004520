"""What the compiled library offers, as Python sees it. Every function releases the GIL; handles are opaque."""

from typing import Protocol


class Native(Protocol):
    """The functions of `engine/src`, by name. Arrays are C-contiguous; a wrong one is a TypeError or ValueError."""

    def level(self) -> bytes:
        """The instruction set in use: `avx512`, `avx2` or `plain`."""
        ...

    def best_level(self) -> bytes:
        """The best instruction set that this processor has and the library is written for."""
        ...

    def set_level(self, name: bytes, /) -> None:
        """Use another one from now on. Raises ValueError for one that is unknown or that this processor lacks."""
        ...

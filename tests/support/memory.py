"""How much memory something takes."""

import tracemalloc
from collections.abc import Callable


def peak_bytes(work: Callable[[], object], tries: int = 5) -> int:
    """What Python and NumPy hold at the most while it works: the least of several times, since what the threads of a
    service beside the test allocate meanwhile counts too.
    """

    def once() -> int:
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return min(once() for _ in range(tries))

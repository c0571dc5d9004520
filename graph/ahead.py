"""Work on the next item while one is used: a second core for what comes one after the other."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_END = object()
# More than two at a time would need more memory, and preparing has no use for more cores.
THREADS = min(2, os.cpu_count() or 1)


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The items in their order, each made on another thread while the one before is used; an error comes in its turn.

    Parsing, sorting and reading release the interpreter's lock, so both threads run. One item more is in memory.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        following = pool.submit(next, iterator, _END)
        while (item := following.result()) is not _END:
            following = pool.submit(next, iterator, _END)
            yield item  # type: ignore[misc]

"""Work on further items while one is used: all cores for what comes one after the other."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from bundle.cells import CORES

S = TypeVar("S")
T = TypeVar("T")
_END = object()


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


def mapped(function: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """`function` of the items in their order, worked out on all cores; an error comes in its turn.

    Items are made on a thread of their own; as many as there are cores, and one, are in memory.
    """
    waiting: deque[Future[T]] = deque()
    made = ahead(items)
    with ThreadPoolExecutor(CORES, thread_name_prefix="mapped") as pool:
        while True:
            try:
                item = next(made, _END)
            except Exception:
                while waiting:  # an item before the one that could not be made has its error first
                    waiting.popleft().result()
                raise
            if item is _END:
                break
            waiting.append(pool.submit(function, item))  # type: ignore[arg-type]
            if len(waiting) >= CORES:  # the one who uses them is at work too
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

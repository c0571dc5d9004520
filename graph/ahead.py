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

    Parsing, sorting and reading release the interpreter's lock, so both threads run. One item more is in memory. The
    first two are made at once: one alone, as a small relation has, takes less time than a thread's beginning and end.
    No item is kept once the next is asked for.
    """
    iterator = iter(items)
    made = deque([_made(iterator)])
    if made[0].result() is not _END:
        made.append(_made(iterator))
        yield made.popleft().result()
        if made[0].result() is not _END:
            yield from _on_a_thread(made, iterator)


def _on_a_thread(made: "deque[Future[T]]", iterator: Iterator[T]) -> Iterator[T]:
    """Those that are `made`, which is emptied, and the others."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        while made[0].result() is not _END:
            made.append(pool.submit(lambda: next(iterator, _END)))  # type: ignore[arg-type, return-value]
            yield made.popleft().result()


def _made(iterator: Iterator[T]) -> "Future[T]":
    """The next item, or the error in its place, made here."""
    made: Future[T] = Future()
    try:
        made.set_result(next(iterator, _END))  # type: ignore[arg-type]
    except Exception as error:
        made.set_exception(error)
    return made


def mapped(function: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """`function` of the items in their order, worked out on all cores; an error comes in its turn.

    Items are made on a thread of their own; as many as there are cores, and one, are in memory. One item alone is
    worked on here.
    """
    others = ahead(items)
    made = deque([_made(others)])
    if made[0].result() is not _END:
        made.append(_made(others))
        if made[1].exception() is None and made[1].result() is not _END:
            yield from _on_all_cores(function, made, others)
        else:
            yield function(made.popleft().result())
            made.popleft().result()


def _on_all_cores(function: Callable[[S], T], made: "deque[Future[S]]", others: Iterator[S]) -> Iterator[T]:
    """`function` of those that are `made`, which is emptied, and of the others."""
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(CORES, thread_name_prefix="mapped") as pool:
        while True:
            try:
                item = made.popleft().result() if made else next(others, _END)
            except Exception:
                while waiting:  # an item before the one that could not be made has its error first
                    waiting.popleft().result()
                raise
            if item is _END:
                break
            waiting.append(pool.submit(function, item))  # type: ignore[arg-type]
            del item  # a result may be in use for long
            if len(waiting) >= CORES:  # the one who uses them is at work too
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

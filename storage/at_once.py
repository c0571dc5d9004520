"""Work on several files at once, which ends early when one of them fails."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

FILES_AT_ONCE = 8
Item = TypeVar("Item")


class Stopped(Exception):
    """Work was given up because other work failed."""


def each_at_once(work: Callable[[Item, threading.Event], None], items: Iterable[Item]) -> None:
    """Call `work` for all items, eight at a time. The event is set, and what has not begun is dropped, when one raises
    or Ctrl-C comes; that is raised then."""
    stop = threading.Event()
    with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="twhin-storage") as pool:
        futures = [pool.submit(work, item, stop) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise

"""Documents that change with the version alone: made and compressed once, off the event loop, and kept."""

import asyncio
import gzip
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from service.shared_work import outliving

KEPT = 16
KEPT_BYTES = 256 << 20
LEVEL = 5


@dataclass(frozen=True, slots=True)
class Packed:
    """A document as it is and compressed."""

    plain: bytes
    gzipped: bytes


def pack(plain: bytes, level: int = LEVEL) -> Packed:
    """Compress a document; the same bytes come out every time."""
    return Packed(plain, gzip.compress(plain, level, mtime=0))


class PackedDocuments:
    """The last documents that were asked for, by ETag. Of several who ask at once one makes it, and it is finished
    though they give up waiting."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, asyncio.Task[Packed]] = OrderedDict()

    async def get(self, etag: str, make: Callable[[], bytes]) -> Packed:
        """The document called `etag`, made by `make` on a thread unless it is kept."""
        task = self._kept.get(etag)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._kept[etag] = outliving(asyncio.create_task(asyncio.to_thread(lambda: pack(make()))))
        self._kept.move_to_end(etag)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        packed = await asyncio.shield(task)
        while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return packed


def _size(task: "asyncio.Task[Packed]") -> int:
    if not task.done() or task.cancelled() or task.exception() is not None:
        return 0
    return len(task.result().plain) + len(task.result().gzipped)

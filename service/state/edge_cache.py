"""What the events of users with many of them add up to, kept until the user does something new."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

from bundle.errors import StateError
from recommend.types import LiveEdges

Owner = tuple[str, str]

# The memory that is kept, in targets of all users together; and how many users are added up, or wait for it, at once.
TARGETS_MAX = 500_000
UNDER_WAY_MAX = 64


class EdgeCache:
    """The edges of the users asked for last. A stamp names one state of one user's events, and no other."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Owner, tuple[object, LiveEdges, int]] = OrderedDict()
        self._targets = 0
        self._under_way: dict[tuple[Owner, object], asyncio.Task[LiveEdges]] = {}

    def get(self, owner: Owner) -> tuple[object, LiveEdges] | None:
        """What is kept of `owner`: the stamp of the state that it is of, and the edges."""
        kept = self._kept.get(owner)
        if kept is None:
            return None
        self._kept.move_to_end(owner)
        return kept[:2]

    async def added_up(
        self, owner: Owner, stamp: object, add_up: Callable[[Owner], Coroutine[Any, Any, tuple[object, LiveEdges]]]
    ) -> LiveEdges:
        """The edges that `add_up` finds, which are kept under the stamp that it returns. All who ask for the state of
        `stamp` meanwhile share one. Raises StateError when too many are under way.
        """
        task = self._under_way.get((owner, stamp))
        if task is None:
            if len(self._under_way) >= UNDER_WAY_MAX:
                raise StateError("too many users with many engagements are asked for at once")
            task = asyncio.get_running_loop().create_task(self._add_up(owner, add_up))
            self._under_way[owner, stamp] = task
            task.add_done_callback(lambda _: self._under_way.pop((owner, stamp)))
        return await asyncio.shield(task)

    async def _add_up(
        self, owner: Owner, add_up: Callable[[Owner], Coroutine[Any, Any, tuple[object, LiveEdges]]]
    ) -> LiveEdges:
        stamp, edges = await add_up(owner)
        self._put(owner, stamp, edges)
        return edges

    def _put(self, owner: Owner, stamp: object, edges: LiveEdges) -> None:
        self._drop(owner)
        targets = sum(len(ids) for group in (edges.added, edges.removed, edges.blocked) for ids in group.values())
        self._kept[owner] = (stamp, edges, targets)
        self._targets += targets
        while self._targets > TARGETS_MAX:
            self._drop(next(iter(self._kept)))

    def _drop(self, owner: Owner) -> None:
        kept = self._kept.pop(owner, None)
        if kept is not None:
            self._targets -= kept[2]

    def clear(self) -> None:
        """Keep nothing."""
        self._kept.clear()
        self._targets = 0

"""What the events of users with many of them add up to, kept until the user does something new."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from bundle.errors import StateError
from recommend.types import LiveEdges
from service.shared_work import outliving

Owner = tuple[str, str]

# The memory that is kept, in targets of all users together, a user being one more; and how many users are added up, or
# wait for it, at once.
TARGETS_MAX = 500_000
UNDER_WAY_MAX = 64
# Adding up one user takes a part of the time at most: so many times as long as it took there is a rest.
RESTS = 3.0
AddUp = Callable[[Owner], Coroutine[Any, Any, tuple[object, LiveEdges]]]


@dataclass(slots=True, eq=False)
class _Turn:
    """One adding up of one user, asked for at the state of `stamp`; after that of `before`, where there is one."""

    stamp: object
    before: "_Turn | None"
    task: "asyncio.Task[LiveEdges]" = field(init=False)
    begun: bool = False
    rests_until: float = 0.0


class EdgeCache:
    """The edges of the users asked for last. A stamp names one state of one user's events, and no other."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Owner, tuple[object, LiveEdges, int]] = OrderedDict()
        self._targets = 0
        self._turns: dict[Owner, _Turn] = {}
        self._under_way = 0

    def get(self, owner: Owner) -> tuple[object, LiveEdges] | None:
        """What is kept of `owner`: the stamp of the state that it is of, and the edges."""
        kept = self._kept.get(owner)
        if kept is None:
            return None
        self._kept.move_to_end(owner)
        return kept[:2]

    async def added_up(self, owner: Owner, stamp: object, add_up: AddUp) -> LiveEdges:
        """The edges that `add_up` finds, which are kept under the stamp that it returns. All who ask for the state of
        `stamp` meanwhile share one. Raises StateError when too many are under way.

        A user's turns follow each other with a rest in between, and whoever asks for a later state waits for the next
        one, which sees it: whoever changes and asks without pause takes a part of the store and of the processor.
        """
        turn = self._turns.get(owner)
        if turn is None or (turn.begun and turn.stamp != stamp) or turn.task.cancelled():
            if self._under_way >= UNDER_WAY_MAX:
                raise StateError("too many users with many engagements are asked for at once")
            turn = self._turns[owner] = _Turn(stamp, turn)
            turn.task = outliving(asyncio.get_running_loop().create_task(self._take(owner, turn, add_up)))
            self._under_way += 1
            turn.task.add_done_callback(lambda _: self._is_over(owner, turn))
        return await asyncio.shield(turn.task)

    async def _take(self, owner: Owner, turn: "_Turn", add_up: AddUp) -> LiveEdges:
        loop = asyncio.get_running_loop()
        if turn.before is not None:
            await asyncio.wait([turn.before.task])
            await asyncio.sleep(turn.before.rests_until - loop.time())
        turn.before, turn.begun, started = None, True, loop.time()
        try:
            stamp, edges = await add_up(owner)
        finally:
            ended = loop.time()
            turn.rests_until = ended + RESTS * (ended - started)
        self._put(owner, stamp, edges)
        return edges

    def _is_over(self, owner: Owner, turn: "_Turn") -> None:
        self._under_way -= 1
        loop = asyncio.get_running_loop()
        loop.call_at(turn.rests_until, lambda: self._turns.get(owner) is turn and self._turns.pop(owner))

    def _put(self, owner: Owner, stamp: object, edges: LiveEdges) -> None:
        self._drop(owner)
        targets = 1 + sum(len(ids) for group in (edges.added, edges.removed, edges.blocked) for ids in group.values())
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

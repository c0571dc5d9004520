"""Adding up a user's events: shared, one after the other, with rests, never of an earlier state than asked for."""

import asyncio

import pytest

from bundle.errors import StateError
from recommend.types import LiveEdges
from service.state import edge_cache
from service.state.edge_cache import RESTS, UNDER_WAY_MAX, EdgeCache, Owner

OWNER = ("user", "1")


class Store:
    """A user who has done something new each time that somebody asks."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.state = 0
        self.added_up: list[int] = []
        self.at_once = self.most_at_once = 0
        self._seconds = seconds

    async def add_up(self, owner: Owner) -> tuple[object, LiveEdges]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        seen = self.state
        self.added_up.append(seen)
        await asyncio.sleep(self._seconds)
        self.at_once -= 1
        return seen, LiveEdges(added={"follows": (str(seen),)})


def state_of(edges: LiveEdges) -> int:
    return int(edges.added["follows"][0])


async def test_who_asks_for_one_state_shares_one() -> None:
    cache, store = EdgeCache(), Store(0.01)
    found = await asyncio.gather(*(cache.added_up(OWNER, 0, store.add_up) for _ in range(10)))
    assert store.added_up == [0]
    assert {state_of(edges) for edges in found} == {0}
    assert cache.get(OWNER) == (0, found[0])


async def test_who_asks_for_a_later_state_gets_that_or_a_later_one() -> None:
    cache, store = EdgeCache(), Store(0.005)

    async def ask() -> None:
        for _ in range(5):
            store.state += 1
            asked = store.state
            assert state_of(await cache.added_up(OWNER, asked, store.add_up)) >= asked
            await asyncio.sleep(0.001)

    await asyncio.gather(*(ask() for _ in range(8)))
    assert store.most_at_once == 1
    assert len(store.added_up) < 20, "40 states were asked for"


async def test_a_user_who_is_hammered_takes_a_part_of_the_time() -> None:
    seconds = 0.02
    cache, store = EdgeCache(), Store(seconds)
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(5):
        store.state += 1
        await cache.added_up(OWNER, store.state, store.add_up)
    assert loop.time() - started >= 5 * seconds + 4 * RESTS * seconds - 0.02


async def test_nobody_else_waits_for_that() -> None:
    cache, store = EdgeCache(), Store(0.2)
    await cache.added_up(OWNER, 0, store.add_up)
    again = asyncio.create_task(cache.added_up(OWNER, 1, store.add_up))
    await cache.added_up(("user", "2"), 0, Store().add_up)
    assert not again.done()
    await again


async def test_a_failure_is_of_those_who_shared_it() -> None:
    cache, store = EdgeCache(), Store()

    async def fails(owner: Owner) -> tuple[object, LiveEdges]:
        raise StateError("away")

    answers = await asyncio.gather(*(cache.added_up(OWNER, 0, fails) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(answer, StateError) for answer in answers)
    assert state_of(await cache.added_up(OWNER, 1, store.add_up)) == 0


async def test_so_many_users_are_added_up_at_once() -> None:
    cache, store = EdgeCache(), Store(0.01)
    asked = [asyncio.ensure_future(cache.added_up(("user", str(n)), 0, store.add_up)) for n in range(UNDER_WAY_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(StateError):
        await cache.added_up(("user", "one more"), 0, store.add_up)
    await asyncio.gather(*asked)
    await cache.added_up(("user", "one more"), 0, store.add_up)


async def test_users_of_whom_nothing_is_left_take_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose many events have taken each other back."""
    monkeypatch.setattr(edge_cache, "TARGETS_MAX", 20)
    cache = EdgeCache()

    async def nothing(owner: Owner) -> tuple[object, LiveEdges]:
        return 0, LiveEdges()

    for number in range(50):
        await cache.added_up(("user", str(number)), 0, nothing)
    assert sum(cache.get(("user", str(number))) is not None for number in range(50)) == 20

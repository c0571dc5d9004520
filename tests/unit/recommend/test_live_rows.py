"""The rows of many live edges: found in steps whoever takes them, as they are found at once, and only once."""

import numpy as np
import pytest

from bundle.ids import IdTable, int_ids, string_ids
from recommend.types import MANY, LiveEdges

N = 5 * MANY + 3
EXTERNALS = tuple(sorted(map(str, range(0, 2 * N, 2))))  # every other one is known


def tables() -> list[IdTable]:
    known = np.arange(0, 4 * N, 4)
    return [int_ids(known), string_ids([str(number) for number in known])]


def edges(n: int = N) -> LiveEdges:
    return LiveEdges(added={"likes": EXTERNALS[:n]}, blocked={"user": EXTERNALS[:n]})


@pytest.mark.parametrize("ids", tables(), ids=["int64", "string"])
def test_in_steps_they_are_what_they_are_at_once(ids: IdTable) -> None:
    live, at_once = edges(), edges()
    one, other = live.look_up("added", "likes", ids), live.look_up("added", "likes", ids)
    steps = 0
    for first, second in zip(one, other, strict=False):
        steps += 2
        assert first is second is None
    assert list(one) == list(other) == []
    assert steps in (N // MANY, N // MANY + 1), "two who take steps share the work"
    np.testing.assert_array_equal(live.rows("added", "likes", ids), at_once.rows("added", "likes", ids))
    found = live.row_of_each("added", "likes", ids)
    np.testing.assert_array_equal(found, ids.rows(EXTERNALS))
    assert live.row_of_each("added", "likes", ids) is found
    assert list(live.look_up("added", "likes", ids)) == []


def test_another_version_is_looked_up_anew_and_few_are_not_worth_a_step() -> None:
    numbers, strings = tables()
    live = edges()
    assert len(list(live.look_up("blocked", "user", numbers))) == N // MANY + 1
    assert len(list(live.look_up("blocked", "user", strings))) == N // MANY + 1
    assert list(edges(MANY - 1).look_up("added", "likes", numbers)) == []
    assert list(live.look_up("added", "of no such name", numbers)) == []


@pytest.mark.parametrize("ids", tables(), ids=["int64", "string"])
def test_those_of_both_together_are_found_once(ids: IdTable) -> None:
    """Who has done much asks with a few engagements more each time."""
    live, more = edges(), LiveEdges(added={"likes": ("4", "of nobody"), "views": ("8",)})
    for effect, name in (("added", "likes"), ("blocked", "user")):
        list(live.look_up(effect, name, ids))  # type: ignore[arg-type]
    both = live.merged(more)
    assert list(both.look_up("added", "likes", ids)) == [], "nothing is left to be found"
    assert list(both.look_up("blocked", "user", ids)) == []
    for effect, name in (("added", "likes"), ("added", "views"), ("blocked", "user")):
        found = both.row_of_each(effect, name, ids)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found, ids.rows(getattr(both, effect)[name]))
    assert len(live.row_of_each("added", "likes", ids)) == N

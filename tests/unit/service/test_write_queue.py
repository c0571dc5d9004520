"""Whose write is next: users in turn, large writes alone, nobody of those who have one under way."""

import pytest

from service.state.write_queue import EVENTS_OF_ONE_OWNER_MAX, QueueFull, WriteQueue


class Write:
    """So many events of one owner."""

    def __init__(self, owner: str, size: int = 1, *, goes_on: bool = False) -> None:
        self.owner = owner
        self.goes_on = goes_on
        self.size = size
        self.wanted = True

    def __repr__(self) -> str:
        return f"{self.owner}{self.size}"


def queue_of(*writes: Write, events_at_once: int = 3) -> WriteQueue[Write]:
    queue = WriteQueue[Write](events_at_once)
    for write in writes:
        queue.put(write)
    return queue


def taken(queue: WriteQueue[Write], *busy: str) -> str:
    return "".join(write.owner for write in queue.take(busy=busy))


def test_users_take_turns_and_a_large_write_goes_alone() -> None:
    queue = queue_of(Write("a"), Write("a"), Write("a"), Write("b"), Write("c", 9), Write("d"))
    assert [taken(queue) for _ in range(5)] == ["ab", "c", "daa", "", ""]


def test_who_has_a_write_under_way_is_passed_over_and_loses_none() -> None:
    queue = queue_of(Write("a"), Write("a"), Write("b"), Write("c"), events_at_once=1)
    assert taken(queue) == "a"
    assert taken(queue, "a") == "b"
    assert taken(queue, "a", "b") == "c"
    assert taken(queue, "a", "b", "c") == ""
    assert len(queue) == 1
    queue.put(Write("b"))
    assert [taken(queue), taken(queue)] == ["a", "b"]


def test_those_who_always_have_one_under_way_do_not_hold_up_others() -> None:
    """As many as there are writers: when one of theirs is over, it is the turn of who has waited, not theirs again."""
    queue = queue_of(*(Write(owner) for owner in "aabbcc"), Write("d"), Write("e"), events_at_once=1)
    assert [taken(queue), taken(queue, "a"), taken(queue, "a", "b")] == ["a", "b", "c"]
    assert taken(queue, "b", "c") == "d"
    assert taken(queue, "b", "c", "d") == "e"
    assert [taken(queue, "b", "c"), taken(queue), taken(queue)] == ["a", "b", "c"]


def test_who_had_a_turn_comes_after_all_who_have_come_meanwhile() -> None:
    queue = queue_of(Write("a", 3), Write("a", 3), Write("a", 3))
    assert taken(queue) == "a"
    queue.put(Write("b"))
    queue.put(Write("a"))
    assert [taken(queue) for _ in range(4)] == ["b", "a", "a", "a"]
    assert len(queue) == 0


def test_small_writes_wait_for_one_large_one_and_large_ones_for_one_lot_of_small_ones() -> None:
    queue = WriteQueue[Write](100, alone=10)
    queue.put(*(Write(owner, 10) for owner in "abc"))
    assert taken(queue) == "a"
    queue.put(Write("d"))
    queue.put(Write("e", 9))
    assert taken(queue) == "de"
    queue.put(Write("f"))
    assert [taken(queue), taken(queue), taken(queue)] == ["b", "f", "c"]


def test_the_portions_of_one_request_follow_each_other() -> None:
    """But for small ones in between: if many requests went on in turns, all would be done late."""
    queue = WriteQueue[Write](100, alone=10)
    for owner in "ab":
        queue.put(*(Write(owner, size, goes_on=size > 10) for size in (13, 12, 11, 10)))
    queue.put(Write("a", 20))
    sizes = []
    for _ in range(3):
        sizes += [(one.owner, one.size) for one in queue.take()]
    queue.put(Write("c"))
    large = queue.next_large(Write)
    assert large is None
    for _ in range(7):
        sizes += [(one.owner, one.size) for one in queue.take()]
    of_a, of_b = ([(owner, size) for size in (13, 12, 11, 10)] for owner in "ab")
    assert sizes == [*of_a[:3], ("c", 1), of_a[3], *of_b, ("a", 20)]


def test_a_large_write_waits_for_one_lot_however_many_small_ones_wait() -> None:
    queue = WriteQueue[Write](256, alone=32)
    queue.put(*(Write(f"small{number}") for number in range(3000)))
    queue.put(Write("a", 32), Write("a", 32), Write("b", 32))
    lots = [[write.owner for write in queue.take()] for _ in range(7)]
    assert [len(lot) for lot in lots] == [256, 1, 256, 1, 256, 1, 256]
    assert [lots[1], lots[3], lots[5]] == [["a"], ["b"], ["a"]]
    assert [owner for lot in lots[::2] for owner in lot] == [f"small{number}" for number in range(4 * 256)]


def test_writes_of_one_owner_keep_their_order_whatever_their_sizes() -> None:
    queue = WriteQueue[Write](100, alone=10)
    sizes = [1, 10, 2, 3, 20, 30, 4]
    queue.put(*(Write("a", size) for size in sizes), *(Write(owner) for owner in "bcd"), Write("e", 10))
    taken: list[Write] = []
    while queue:
        taken += queue.take()
    assert [write.size for write in taken if write.owner == "a"] == sizes
    assert sorted(write.owner for write in taken) == sorted("aaaaaaabcde")


def test_what_rests_is_the_first_when_it_rests_no_more() -> None:
    class Rests(Write):
        """As an erasure."""

    queue = WriteQueue[Write](1, alone=10)
    queue.put(Rests("a"), Rests("b"), Write("b", 10), Write("c"))
    assert [write.owner for write in queue.take(Rests)] == ["c"]
    assert queue.take(Rests) == []
    queue.put(Write("d"))
    assert len(queue) == 3
    assert [taken(queue) for _ in range(4)] == ["a", "b", "b", "d"]
    assert len(queue) == 0


def test_large_ones_follow_each_other_while_no_small_one_waits() -> None:
    queue = WriteQueue[Write](100, alone=10)
    dropped = Write("b", 10)
    dropped.wanted = False
    queue.put(Write("a", 10), Write("a", 20), dropped, Write("b", 30))
    assert taken(queue) == "a"
    assert queue.next_large(int) is None, "of another kind"
    first = queue.next_large(Write)
    assert first is not None
    assert (first.owner, first.size) == ("a", 20)
    queue.put(Write("c"))
    assert queue.next_large(Write) is None
    assert [taken(queue), taken(queue)] == ["c", "b"]
    assert queue.next_large(Write) is None


def test_all_of_a_request_waits_or_nothing_of_it() -> None:
    queue = queue_of(Write("a"))
    most = EVENTS_OF_ONE_OWNER_MAX
    with pytest.raises(QueueFull):
        queue.put(Write("b"), Write("a", most - 1), Write("a"))
    assert [taken(queue), taken(queue)] == ["a", ""]
    queue.put(Write("a", most), Write("a", most))
    assert [taken(queue), taken(queue)] == ["a", "a"], "larger than its part, where none of the owner's waits"


def test_what_nobody_wants_any_more_is_dropped() -> None:
    first, second = Write("a"), Write("b")
    queue = queue_of(first, second)
    first.wanted = False
    assert queue.take() == [second]


def test_one_owner_has_a_part_of_the_room() -> None:
    queue = queue_of(*(Write("a") for _ in range(EVENTS_OF_ONE_OWNER_MAX)))
    with pytest.raises(QueueFull):
        queue.put(Write("a"))
    for owner in "bcd":
        queue.put(Write(owner, EVENTS_OF_ONE_OWNER_MAX))
    with pytest.raises(QueueFull):
        queue.put(Write("e"))

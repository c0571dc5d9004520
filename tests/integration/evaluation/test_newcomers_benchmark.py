"""benchmarks/newcomers.py: who is removed leaves nothing behind, and each share is of the users that it names."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.newcomers import (
    KNOWN,
    Group,
    Question,
    askable,
    asked,
    cell,
    draw,
    flags_of,
    numbered_as_left,
    remove,
)
from bundle.csr import Csr, csr_from_pairs
from bundle.prepared import PreparedGraph
from evaluation.rows import Estimate, Row
from evaluation.task import FollowTask, follow_task
from recommend.recommender import Recommender
from tests.support.graphs import Links, ids, write_graph
from tests.support.toy import USERS as TOY_USERS
from tests.support.toy import user_row

PEOPLE, TAGS = 120, 7


@pytest.fixture
def whole(tmp_path: Path) -> PreparedGraph:
    """User u follows the next 1, 3, 5 or 10 users (by u % 4) and has the one 20 further held out; all use a tag."""
    follows = [(u, (u + step) % PEOPLE) for u in range(PEOPLE) for step in range(1, KNOWN[u % 4] + 1)]
    held_out = [(u, (u + 20) % PEOPLE) for u in range(PEOPLE)]
    uses = [(u, u % TAGS) for u in range(PEOPLE)]
    pairs = [np.array(edges, dtype=np.int32) for edges in (follows, held_out, uses)]
    weight = np.arange(len(follows), dtype=np.float32)
    relations = [
        Links("follows", "user", "user", pairs[0], weight=weight, test=pairs[1]),
        Links("uses", "user", "tag", pairs[2]),
    ]
    return write_graph(tmp_path / "whole", {"user": ids(PEOPLE), "tag": ids(TAGS)}, relations)


@pytest.fixture
def task(whole: PreparedGraph) -> FollowTask:
    return follow_task(whole, "test", np.random.default_rng(0), relation="follows", n_users=None, min_known=1)


@pytest.fixture
def groups(task: FollowTask) -> dict[int, Group]:
    return draw(task, np.random.default_rng(1), users=4)


def test_as_many_are_removed_as_stay_and_all_have_the_number_of_follows(
    task: FollowTask, groups: dict[int, Group]
) -> None:
    assert list(groups) == list(KNOWN)
    for number, group in groups.items():
        assert len(group.removed) == len(group.stayed) == 4
        assert not np.intersect1d(group.removed, group.stayed).size
        assert set(task.train.degrees()[np.concatenate(group)].tolist()) == {number}


def test_the_removed_have_no_row_and_no_edge(whole: PreparedGraph, groups: dict[int, Group], tmp_path: Path) -> None:
    gone = flags_of(groups, PEOPLE)
    part = remove(whole, tmp_path / "part", "user", gone, "test")
    left = ids(PEOPLE)[~gone]
    assert part.count("user") == PEOPLE - 16
    assert part.entity("user").ids.externals(np.arange(len(left))) == [str(one) for one in left]
    assert part.count("tag") == TAGS
    for relation in whole.relations:
        for name in ("edges", "valid", "test"):
            kept, all_of_them = part.relation(relation.name).part(name), relation.part(name)
            lost = gone[all_of_them.src] | (gone[all_of_them.dst] if relation.target == "user" else False)
            assert (left[kept.src] == ids(PEOPLE)[all_of_them.src[~lost]]).all()
            if relation.target == "user":
                assert (left[kept.dst] == ids(PEOPLE)[all_of_them.dst[~lost]]).all()
                assert len(kept) == np.count_nonzero(~lost)
    weight = part.relation("follows").train.weight
    assert weight is not None
    edges = whole.relation("follows").train
    assert (weight == edges.weight[~(gone[edges.src] | gone[edges.dst])]).all()  # type: ignore[index]


def test_the_task_keeps_its_edges_under_the_rows_of_the_smaller_graph(
    task: FollowTask, groups: dict[int, Group]
) -> None:
    gone = flags_of(groups, PEOPLE)
    left = int((~gone).sum())
    numbered, place = numbered_as_left(task, gone)
    assert (place[~gone] == np.arange(left)).all()
    for user in range(PEOPLE):
        row = int(place[user])
        assert set(numbered.train.row(row)) == set(place[task.train.row(user)])
        assert set(numbered.train_by_target.row(row)) == set(place[task.train_by_target.row(user)])
        # Nobody is expected to be told of somebody whom the version does not know.
        assert set(numbered.held_out.row(row)) == {new for new in place[task.held_out.row(user)] if new < left}


def test_only_those_are_asked_for_who_have_an_engagement_and_an_answer() -> None:
    # Rows 0 to 2 are left, 3 to 5 removed. 3 follows 0, expects 1; 4 follows only 5; 5 expects nobody.
    train, held_out = _edges([(0, 1), (3, 0), (4, 5), (5, 1)], 6), _edges([(0, 2), (3, 1), (4, 1)], 6)
    task = _task(train, held_out)
    assert askable(task, np.array([3, 4, 5]), 3).users.tolist() == [3]


def test_newcomers_are_answered_by_their_own_engagements(recommender: Recommender) -> None:
    n = len(TOY_USERS)
    jazz, chess = n, n + 1  # two newcomers, each of whom follows two of a kind and is expected to find a third
    names = {jazz: ("101", "102", "103"), chess: ("201", "202", "203")}
    follows = [(new, user_row(name)) for new, kind in names.items() for name in kind[:2]]
    task = _task(
        _edges([*follows, (user_row("104"), jazz)], n + 2),
        _edges([(new, user_row(kind[2])) for new, kind in names.items()], n + 2),
    )
    both = task.of_users(np.array([jazz, chess]))
    for question in (Question("alone", "fold_in"), Question("with followers", "fold_in", followers=True)):
        row = asked(recommender, both, question, n)
        assert row.mean("recall@10") == 1.0
        assert row.metrics["recall@10"].n == 2


def test_a_share_is_of_the_mean_it_is_held_against() -> None:
    ours, theirs = (
        Row(name="m", kind="strategy", metrics={"recall@10": Estimate(mean=mean, low=mean * 0.9, high=mean * 1.1, n=9)})
        for mean in (0.45, 0.5)
    )
    assert cell(ours, theirs, "recall@10") == "0.450 | 0.90 ±0.13"
    assert cell(theirs, None, "recall@10") == "0.500 | "


def _edges(pairs: list[tuple[int, int]], n: int) -> Csr:
    src, dst = (np.array(column, dtype=np.int32) for column in zip(*pairs, strict=True))
    return csr_from_pairs(src, dst, n)


def _task(train: Csr, held_out: Csr) -> FollowTask:
    """Everybody of `train`, without validation edges."""
    nothing = csr_from_pairs(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32), len(train))
    everyone = np.arange(len(train), dtype=np.int64)
    return FollowTask("follows", everyone, train, train.transposed(len(train)), nothing, held_out, same_type=True)

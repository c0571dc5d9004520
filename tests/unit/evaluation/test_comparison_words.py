"""The verdict of a comparison, and what two written measurements say of each other."""

import numpy as np
import pytest

from evaluation.comparison.compare import compare_reports
from evaluation.comparison.measure import overlap_of
from evaluation.comparison.records import Difference, Group, RelationComparison, difference
from evaluation.comparison.words import gains, short, signed, verdict
from evaluation.follow import FollowReport
from evaluation.intervals import paired
from evaluation.metrics import bootstrap
from evaluation.rows import Estimate, Row


def found(difference: float, half: float) -> Difference:
    low, high = difference - half, difference + half
    return Difference(a=0.3, b=0.3 + difference, difference=difference, low=low, high=high, n=100)


def relation(name: str, default: Difference, *groups: Group) -> RelationComparison:
    strategy = Group(kind="strategy", name="auto", metrics={"recall@10": default})
    return RelationComparison(
        relation=name, how="paired", users=100, auto_a="blend", auto_b="blend", strategies=(strategy,), groups=groups
    )


def band(difference: float, half: float, name: str = "1-2") -> Group:
    return Group(kind="known edges", name=name, metrics={"recall@10": found(difference, half)})


def test_the_verdict_says_for_what_b_is_better_worse_and_no_different() -> None:
    new = Group(kind="newcomers", name="a few engagements", metrics={"recall@10": found(-0.05, 0.01)})
    told = verdict("v2", [relation("follows", found(0.02, 0.01), new), relation("likes", found(0.01, 0.02))])
    assert told == (
        "v2 is better for follows (recall@10 .300 to .320, +.020 [+.010, +.030]); "
        "worse for newcomers of follows (recall@10 .300 to .250, −.050 [−.060, −.040]); "
        "no different for likes (recall@10 .300 to .310, +.010 [−.010, +.030])."
    )


def test_nothing_measured_is_no_verdict() -> None:
    assert verdict("v2", []) == "Nothing was measured of both: whether v2 is better is not known."


def test_one_of_many_groups_must_be_surer_than_one_alone() -> None:
    alone = relation("follows", found(0, 0.1), band(-0.02, 0.019))
    assert gains([alone]) == "Users with 1-2 known edges (follows) lose."
    many = relation("follows", found(0, 0.1), band(-0.02, 0.019), *(band(0, 0.1, f"{i}") for i in range(20)))
    assert gains([many]) == ""
    sure = relation("follows", found(0, 0.1), band(-0.02, 0.005), *(band(0.1, 0.01, f"{i}") for i in range(2)))
    assert gains([sure]) == (
        "Users with 0 known edges (follows) and users with 1 known edges (follows) gain; "
        "users with 1-2 known edges (follows) lose."
    )


@pytest.mark.parametrize(
    ("value", "text"), [(0.0304, "+.030"), (-0.5, "−.500"), (0.0004, "0"), (-0.0004, "0"), (None, "–"), (1.0, "+1.000")]
)
def test_differences_have_their_sign(value: float | None, text: str) -> None:
    assert signed(value) == text


def test_numbers_are_short() -> None:
    assert [short(0.1234), short(1.0), short(None), short(0.0)] == [".123", "1.000", "–", ".000"]


def report(recall: float, half: float, version: str, relation: str = "follows") -> FollowReport:
    metrics = {"recall@10": Estimate(mean=recall, low=recall - half, high=recall + half, n=100)}
    rows = tuple(
        Row(name=name, kind="strategy", metrics=metrics, by_degree={"3-9": metrics}) for name in ("blend", "x")
    )
    return FollowReport(version=version, relation=relation, held_out="test", users=100, seed=1, auto="blend", rows=rows)


def test_two_reports_are_held_against_each_other_by_their_intervals() -> None:
    compared = compare_reports([report(0.3, 0.03, "v1")], [report(0.4, 0.04, "v2")], ("one", "two"))
    assert (compared.a.name, compared.b.name) == ("v1", "v2")
    default = compared.relations[0].default()
    assert default is not None
    found = default.metrics["recall@10"]
    assert (found.difference, found.low, found.high) == pytest.approx((0.1, 0.05, 0.15))  # 3, 4, 5
    assert compared.verdict.startswith("v2 is better for follows")
    assert [group.name for group in compared.relations[0].groups] == ["3-9"]


def test_what_only_one_report_has_is_said() -> None:
    both = [report(0.3, 0.03, "v1"), report(0.3, 0.03, "v1", "likes")]
    compared = compare_reports(both, [report(0.3, 0.03, "v1")], ("one", "two"))
    assert compared.notes == ("Only one of the reports has likes.",)
    assert (compared.a.name, compared.b.name) == ("one", "two")  # one version, measured twice


def test_overlap_is_of_what_both_list_and_of_users_whom_both_answer() -> None:
    before = [np.array([1, 2, 3]), np.array([4, 5]), np.array([], dtype=np.int32)]
    after = [np.array([1, 3, 9]), np.array([6, 7, 4]), np.array([1])]
    found = overlap_of("blend", before, after, k=3)
    assert (found.users, found.shared, found.same_first) == (2, pytest.approx((2 / 3 + 1 / 3) / 2), 0.5)
    nobody = overlap_of("blend", [], [])
    assert (nobody.users, nobody.shared) == (0, 0.0)


def test_few_users_tell_nothing_apart_however_alike_they_are() -> None:
    """Of one user a resampling is that user again: its interval has no width at all."""
    gained = np.full(20, 0.5)
    for users, outcome in ((1, "unknown"), (9, "unknown"), (10, "better")):
        before, after = bootstrap(gained[:users], None), bootstrap(gained[:users] + 0.1, None)
        between = paired(gained[:users], gained[:users] + 0.1, 1)
        assert difference(before, after, between).outcome == outcome
        assert difference(before, after, between).difference == pytest.approx(0.1)

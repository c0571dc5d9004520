"""The tables that `twhin evaluate` prints."""

import pytest

from cli.evaluate.follow import _show
from evaluation.follow import FollowReport
from evaluation.rows import Estimate, Row


@pytest.mark.parametrize(("name", "shown"), [("one_way_recall@10", True), ("ndcg@10", False)])
def test_a_metric_that_no_row_has_is_no_column(name: str, shown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    estimate = Estimate(mean=0.125, low=None, high=None, n=9)
    row = Row(name="blend", kind="strategy", metrics={"recall@10": estimate, name: estimate})
    _show(FollowReport(relation="bought", held_out="test", users=9, seed=1, auto="blend", rows=(row,)))
    told = capsys.readouterr().out
    assert "recall@10" in told
    assert ("one_way" in told) == shown
    assert "nan" not in told

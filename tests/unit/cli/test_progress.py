"""Progress in a log: a line when ten seconds are over, at a note as at an advance, and one at the end."""

import pytest

from cli.progress import LINE_EVERY_S, LineProgress


def test_a_long_step_is_named_before_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with LineProgress().stage("Learning strategies", 8, "steps") as stage:
        stage.note("finding candidates")
        assert capsys.readouterr().err == ""
        stage.shown_s -= LINE_EVERY_S
        stage.note("learning weights")
        assert capsys.readouterr().err.endswith("s, learning weights\n")
        stage.shown_s -= LINE_EVERY_S
        stage.advance()
        assert capsys.readouterr().err.startswith("Learning strategies: 1 of 8 steps in ")
        stage.note("learning to rescore")
    assert capsys.readouterr().err.endswith("learning to rescore\n")


def test_the_last_line_of_a_stage_is_not_told_twice(capsys: pytest.CaptureFixture[str]) -> None:
    with LineProgress().stage("Training", 2, "edges") as stage:
        stage.shown_s -= LINE_EVERY_S
        stage.advance(2)
    assert len(capsys.readouterr().err.splitlines()) == 1

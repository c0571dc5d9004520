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
        assert "1 of 8 steps" in capsys.readouterr().err
    assert capsys.readouterr().err.startswith("Learning strategies: 1 of 8 steps in ")

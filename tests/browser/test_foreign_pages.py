"""What a page from elsewhere may do to a service without keys, tried by a real browser: nothing."""

from pathlib import Path

from faults.browser import run


def test_pages_from_elsewhere_neither_write_nor_read_nor_erase(tmp_path: Path) -> None:
    outcomes = list(run(tmp_path, seed=1, long=False))
    assert [outcome for outcome in outcomes if not outcome.held] == []
    assert len(outcomes) == 4

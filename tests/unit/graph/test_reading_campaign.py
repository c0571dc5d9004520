"""A few seconds of the campaign of reading (`python -m faults --only reading` is the whole of it)."""

from pathlib import Path

import pytest

from faults.reading import CASES, large_case, outcome


@pytest.mark.parametrize("sort", CASES)
def test_generated_files_are_read_as_python_reads_them_or_refused_in_one_line(tmp_path: Path, sort: str) -> None:
    result = outcome(sort, tmp_path, CASES[sort], seed=7, count=60)
    assert result.held, result.figure


def test_line_breaks_in_quotes_across_the_ends_of_blocks(tmp_path: Path) -> None:
    result = outcome("", tmp_path, large_case, seed=7, count=2, small=False)
    assert result.held, result.figure

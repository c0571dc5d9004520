"""The files that begin first are there."""

import pytest

from tests.conftest import LONGEST, ROOT


def test_the_longest_files_are_there(request: pytest.FixtureRequest) -> None:
    assert [name for name in LONGEST if not (ROOT / "tests" / name).is_file()] == []
    assert len(set(LONGEST)) == len(LONGEST)
    of_longest = [str(item.path) for item in request.session.items if str(item.path).endswith(LONGEST)]
    assert [str(item.path) for item in request.session.items[: len(of_longest)]] == of_longest

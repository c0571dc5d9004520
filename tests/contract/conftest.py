"""What the contracts of the engine share."""

from collections.abc import Iterator

import pytest

from tests.support.levels import LEVELS, at_level


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set."""
    with at_level(request.param):
        yield request.param

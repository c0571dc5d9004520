"""A browser for all tests of the pages: it takes a second to start."""

from collections.abc import Iterator

import pytest

from tests.browser.studio import DRAWS
from tests.support.browser import Page, browser


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The one page."""
    with browser(tmp_path_factory.mktemp("profile"), *DRAWS) as made:
        yield made


@pytest.fixture(autouse=True)
def _as_wide_and_light(page: Page) -> None:
    """Each test begins on a desk's screen, in light, without a key or a history."""
    # A full history (fifty entries) loses the place where Back leads.
    page.command("Page.resetNavigationHistory")
    page.command("Emulation.setDeviceMetricsOverride", width=1280, height=800, deviceScaleFactor=1, mobile=False)
    page.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    page.log.clear()

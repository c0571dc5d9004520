"""Pictures of the studio's main views, light, dark and as wide as a phone, to be looked at.

    python -m tests.browser.screenshots BUNDLES FOLDER

serves the published version of BUNDLES on a free port meanwhile.
"""

import base64
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

import httpx

from service.settings import Settings
from tests.browser.studio import DRAWS, ready
from tests.support.browser import Page, browser
from tests.support.servers import running

SIZES = {"wide": (1360, 860), "phone": (360, 780)}


def views(url: str) -> dict[str, str]:
    """Addresses of the main views by name, for a user and strategies that the version has."""
    space = next(iter(httpx.get(f"{url}/v1/info").json()["spaces"].values()))
    kind = space["default"]["user_type"]
    user = quote(httpx.get(f"{url}/v1/search", params={"type": kind, "k": 1}).json()["matches"][0]["id"], safe="")
    return {
        "map": "/",
        "map-user": f"/?view=map&user={user}",
        "map-types": "/?view=map&colour=type",
        "ask": f"/?view=ask&user={user}&strategy=mixture",
        "ask-two": f"/?view=ask&user={user}&strategy=mixture&versus=unimodal",
        "ask-nobody": "/?view=ask",
        "versions": "/?view=versions",
        "health": "/?view=health",
    }


def take(page: Page, url: str, folder: Path) -> None:
    """Write the pictures into `folder`."""
    for scheme in ("light", "dark"):
        page.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        for size, (width, height) in SIZES.items():
            page.command(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=height,
                deviceScaleFactor=1,
                mobile=width < 500,
            )
            for name, address in views(url).items():
                page.open(f"{url}{address}", ready(name.split("-")[0]))
                page.evaluate("new Promise(done => setTimeout(done, 2500))")
                picture = page.command("Page.captureScreenshot", captureBeyondViewport=size == "phone")
                (folder / f"{name}-{size}-{scheme}.png").write_bytes(base64.b64decode(picture["data"]))


def main() -> None:
    """Take the pictures of a directory of versions."""
    bundles, folder = map(Path, sys.argv[1:3])
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(bundles=bundles)  # type: ignore[call-arg]
    with (
        running(settings) as url,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        browser(Path(profile), *DRAWS) as page,
    ):
        take(page, url, folder)


if __name__ == "__main__":
    main()

"""The explorer page in a real browser: it fills itself from the service's own answers."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle.versions import publish
from service.settings import Settings
from tests.support.servers import running
from tests.support.toy import JAZZ_LOVERS, build_toy

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=10000",
    "--dump-dom",
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running service over the world of jazz and chess."""
    directory = tmp_path_factory.mktemp("explorer")
    version = build_toy(directory).manifest.version
    publish(directory / "bundles", version)
    with running(Settings(bundles=directory / "bundles")) as address:
        yield address


def page(url: str, profile: Path) -> str:
    """The page at `url` as it stands when its requests have been answered."""
    assert CHROMIUM is not None, "no Chromium on this machine: `make test` installs it"
    done = subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={profile}", url],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_a_user_s_interests_and_candidates_are_shown(url: str, tmp_path: Path) -> None:
    shown = page(f"{url}/ui?user={JAZZ_LOVERS[0]}", tmp_path)
    assert "version toy" in shown
    assert re.search(r"100\.0% · cluster \d", shown)
    candidates = re.search(r'<tbody id="candidates">(.*?)</tbody>', shown, re.DOTALL)
    assert candidates is not None
    assert "jazz-" in candidates[1]


def test_a_problem_is_told_and_markup_in_an_id_stays_text(url: str, tmp_path: Path) -> None:
    shown = page(f"{url}/ui?user=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E", tmp_path)
    assert "<img" not in shown

"""The documentation site: it builds strictly and stands alone, has every page, and says what the code says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT


def build(target: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`make docs`, into a directory of its own."""
    command = [str(Path(sys.executable).parent / "mkdocs"), "build", "--strict", "--site-dir", str(target), *arguments]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    target = tmp_path_factory.mktemp("site")
    done = build(target)
    assert done.returncode == 0, done.stderr
    return target


def text_of(page: Path) -> str:
    """What a page shows, without its markup."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8")))


def test_every_page_of_the_tree_is_on_the_site(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    assert [str(page) for page in pages if not (site / page).exists()] == []


def test_it_fetches_nothing_from_elsewhere(site: Path) -> None:
    fetched = re.compile(
        r"<(?:script|img|iframe)[^>]* src=\"?(https?:)?//|<link[^>]*stylesheet[^>]*href=\"?(https?:)?//"
    )
    assert [page.name for page in site.rglob("*.html") if fetched.search(page.read_text(encoding="utf-8"))] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"url\(\"?(https?:)?//|@import", styles)


def test_it_can_be_searched(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert {"api.html", "tutorials/ranker.html"} <= {entry["location"] for entry in index["docs"]}


def test_the_reference_of_the_command_has_every_command_and_option(site: Path) -> None:
    shown = text_of(site / "reference" / "commands.html")
    for words in ("twhin evaluate ranking", "twhin bundle pull", "--diversity", "twhin data import"):
        assert words in shown


def test_the_reference_of_the_client_is_its_docstrings(site: Path) -> None:
    shown = text_of(site / "reference" / "client.html")
    for words in ("recommend_many", "Nearest entities to an entity or a vector", "AnswerUnreadable"):
        assert words in shown
    assert "FrozenEmbedding" in text_of(site / "reference" / "local.html")


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    """Of a small site with the project's own settings, without the reference, which takes the time."""
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    settings = re.sub(r"^nav:.*", "", settings, flags=re.MULTILINE | re.DOTALL)
    settings = re.sub(r"  - mkdocstrings:.*?\nhooks:.*?\n", "", settings, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "mkdocs.yml").write_text(settings.replace("docs_dir: docs", f"docs_dir: {tmp_path}/docs"))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "site.css").touch()
    for link, said in (("gone.md", "gone.md"), ("#gone", "gone"), ("", "")):
        (tmp_path / "docs" / "index.md").write_text(f"# A page\n\n[a link]({link or '#a-page'})\n")
        done = build(tmp_path / "out", "--config-file", str(tmp_path / "mkdocs.yml"))
        assert (done.returncode == 0) == (not link), done.stderr
        assert said in done.stderr

"""What the Dockerfiles take from the tree is sent to the daemon: `.dockerignore` lets it through."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = [ROOT / "Dockerfile", *sorted((ROOT / "deploy").glob("*Dockerfile"))]


def is_sent(path: str) -> bool:
    """Whether Docker sends `path`, as the last pattern that holds of it or of a folder above it says."""
    above = [path, *(str(folder) for folder in Path(path).parents)]
    sent = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split():
        pattern = line.removeprefix("!").removeprefix("**/")
        if any(fnmatch(one, pattern) for one in above):
            sent = line.startswith("!")
    return sent


def files_named(dockerfile: Path) -> set[str]:
    """The tree's files and folders that the stage which builds names, in whatever instruction."""
    text = re.sub(r"^\s*#.*", "", dockerfile.read_text(encoding="utf-8"), flags=re.MULTILINE)
    stage = text.split("\nFROM ")[1]
    return {word for word in re.findall(r"\w[\w./-]*", stage) if (ROOT / word).exists()}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_a_dockerfile_names_is_in_the_context(dockerfile: Path) -> None:
    named = files_named(dockerfile)
    assert named, "it copies nothing"
    assert {name for name in named if not is_sent(name)} == set()


def test_nothing_else_of_the_tree_is_sent() -> None:
    kept = (".git", ".venv", ".demo", "tests", "docs", "scripts/setup.sh", ".env")
    assert [name for name in kept if is_sent(name)] == []

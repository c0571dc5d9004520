"""Which code this is: the installed release, and the commit when it runs from a checkout."""

import subprocess
from importlib import metadata
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def release() -> str:
    """The version of the installed package; `unknown` where the code runs without having been installed."""
    try:
        return metadata.version("twhin")
    except metadata.PackageNotFoundError:
        return "unknown"


def code_revision() -> str | None:
    """The commit of the checkout that this code runs from, with `-dirty` after changes; None for an installed package.

    Only the project's own repository is asked: a package installed inside somebody else's has no `.git` beside it.
    """
    if not (CHECKOUT / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None

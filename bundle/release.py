"""Which code this is: the release, the commit when it runs from a checkout, and where it was installed from."""

import json
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

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


def install_with(extra: str) -> str:
    """The command that installs this package again, with `extra`: by what installed it, from where it came.

    It is on no index, so `pip install twhin[extra]` finds nothing, or somebody else's.
    """
    prefix = Path(sys.prefix)
    if (prefix / "uv-receipt.toml").exists():
        command = "uv tool install --force"
    elif (prefix / "pipx_metadata.json").exists():
        command = "pipx install --force"
    else:
        command = f"{shlex.quote(sys.executable)} -m pip install"
    if (CHECKOUT / "pyproject.toml").exists():
        return f"{command} -e {shlex.quote(f'{CHECKOUT}[{extra}]')}"
    return f"{command} {_source(extra)}"


def _source(extra: str) -> str:
    """Where the installed package came from (PEP 610), as an installer takes it; words where that is not there now."""
    try:
        origin = json.loads(metadata.distribution("twhin").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, json.JSONDecodeError):
        origin = {}
    url = urlsplit(origin.get("url", ""))
    if url.scheme == "file":
        path = Path(unquote(url.path))
        if path.exists():
            return shlex.quote(f"{path}[{extra}]")
    elif vcs := origin.get("vcs_info", {}).get("vcs"):
        return shlex.quote(f"twhin[{extra}] @ {vcs}+{url.geturl()}")
    return f"'.[{extra}]', in a checkout of twhin"

"""The installed command `twhin`: sees that the project's packages are its own, then hands over to `cli.main`.

Their names are general ones: another distribution may bring a `service` too, and a file `index.py` may lie on the path.
"""

import base64
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

PACKAGES = (
    "bundle",
    "engine",
    "storage",
    "graph",
    "training",
    "index",
    "recommend",
    "evaluation",
    "export",
    "ingest",
    "service",
    "cli",
)
USAGE = 2


def main() -> None:
    """Run the command. Exit status 2, and one line, when one of the packages is somebody else's."""
    foreign = foreign_module()
    if foreign is not None:
        _refuse(foreign)
    from cli.main import main as command

    command()


def foreign_module() -> str | None:
    """What stands in the place of one of the project's packages; None when each is its own.

    They lie in one directory, and in an installed copy their `__init__.py` are what was installed.
    """
    specs = {name: importlib.util.find_spec(name) for name in PACKAGES}
    origins = {name: Path(spec.origin) if spec and spec.origin else None for name, spec in specs.items()}
    home = Counter(origin.parent.parent for origin in origins.values() if origin).most_common(1)[0][0]
    for name, origin in origins.items():
        if origin is None:
            return f"`{name}` is missing from {home}"
        if origin != home / name / "__init__.py":
            return f"`{name}` is {origin} and not the one in {home}"
    for name, digest in _installed(home).items():
        content = hashlib.sha256((home / name / "__init__.py").read_bytes()).digest()
        if base64.urlsafe_b64encode(content).decode().rstrip("=") != digest:
            return f"{home / name / '__init__.py'} is another distribution's"
    return None


def _installed(home: Path) -> dict[str, str]:
    """The digest of every package's `__init__.py` as it was installed in `home`; none where that is a checkout."""
    files = importlib.metadata.files("twhin") or ()
    named = {file.parent.name: file for file in files if file.name == "__init__.py" and len(file.parts) == 2}
    return {
        name: file.hash.value
        for name, file in named.items()
        if name in PACKAGES and file.hash is not None and Path(str(file.locate())).parent.parent == home
    }


def _refuse(foreign: str) -> None:
    message = f"Another module stands in the place of one of twhin's: {foreign}. Install twhin into an environment of "
    message += "its own, and leave no such file on the path (PYTHONPATH, the working directory)."
    error = {"error": {"code": "usage", "message": message}}
    sys.stderr.write((json.dumps(error) if "--json" in sys.argv else f"twhin: {message}") + "\n")
    sys.exit(USAGE)


if __name__ == "__main__":
    main()

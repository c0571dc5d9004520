"""The steps of the Dockerfile in a clean virtual environment: they install a service without torch that answers."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from bundle.versions import publish
from tests.support.servers import free_port
from tests.support.service_bundle import user_ids, write_toy_bundle

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "/opt/twhin"


def newest_python() -> str:
    """The newest interpreter here that the package allows: everything else is tested on the one that runs this."""
    for minor in (14, 13, 12):
        named = [shutil.which(f"python3.{minor}"), *Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")]
        for candidate in filter(None, named):
            asked = subprocess.run([candidate, "-c", "import ensurepip"], capture_output=True, check=False)
            if asked.returncode == 0:  # a shim of pyenv is on the path and runs nothing
                return str(candidate)
    return sys.executable


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (keyword, rest), continued lines joined."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(keyword, rest.strip()) for keyword, _, rest in (line.partition(" ") for line in lines)]


def build_stage() -> list[tuple[str, str]]:
    """What comes before the second FROM: the stage that makes the environment."""
    steps = instructions()
    second = [i for i, (keyword, _) in enumerate(steps) if keyword == "FROM"][1]
    return steps[:second]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The virtual environment that the build stage's own commands make from the files that it copies."""
    source, environment = tmp_path / "src", dict(os.environ)
    source.mkdir()
    for keyword, rest in build_stage():
        if keyword == "ENV":
            environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif keyword == "COPY":
            _copy(*rest.split(), source=source)
        elif keyword == "RUN" and "apt-get" not in rest:  # the compiler is here already
            command = rest.replace("python -m venv", f"{newest_python()} -m venv").replace(PREFIX, f"{tmp_path}/venv")
            subprocess.run(command, shell=True, check=True, cwd=source, env=environment)  # noqa: S602
    return tmp_path / "venv"


def _copy(*names: str, source: Path) -> None:
    """What `COPY a b target` does; a directory's contents become the target."""
    *origins, target = names
    for name in origins:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / target)
        else:
            shutil.copy(ROOT / name, source / target)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_image_s_environment_serves_without_torch(installed: Path, tmp_path: Path) -> None:
    listed = subprocess.run([installed / "bin/pip", "list"], capture_output=True, text=True, check=True).stdout.lower()
    assert "fastapi" in listed
    assert not re.search(r"^(torch|pyarrow|scipy)\b", listed, re.MULTILINE)
    bill = json.loads((installed / "sbom.cdx.json").read_text(encoding="utf-8"))
    assert bill["metadata"]["component"]["name"] == "twhin"
    assert {"fastapi", "numpy", "obstore"} <= {part["name"] for part in bill["components"]}
    says = [installed / "bin/python", "-c", "import engine; print(engine.why_unavailable())"]
    bare = {"PATH": "", "XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}  # no compiler, no cache
    assert subprocess.run(says, cwd=tmp_path, env=bare, capture_output=True, text=True, check=True).stdout == "None\n"
    write_toy_bundle(tmp_path / "bundles", "v1")
    publish(tmp_path / "bundles", "v1")
    port = free_port()
    serve = [installed / "bin/twhin", "serve", "--bundles", tmp_path / "bundles", "--port", str(port)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TWHIN_", "PYTHON"))}
    with subprocess.Popen(serve, cwd=tmp_path, env=clean) as process:
        try:
            answer = _first_answer(process, f"http://127.0.0.1:{port}/recommend/{user_ids()[5]}?k=5")
        finally:
            process.terminate()
    assert len(answer["candidates"]) == 5  # type: ignore[arg-type]


def _first_answer(process: "subprocess.Popen[bytes]", url: str) -> dict[str, object]:
    while process.poll() is None:
        try:
            response = httpx.get(url, timeout=5)
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        if response.status_code == 200:
            answer: dict[str, object] = response.json()
            return answer
    raise RuntimeError(f"the service ended with {process.returncode}")

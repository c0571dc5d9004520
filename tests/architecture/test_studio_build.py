"""The studio in the tree is the one its sources make: by digests everywhere, and built anew where node is."""

import gzip
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES, BUILT = ROOT / "studio", ROOT / "service" / "ui"
RECORD = json.loads((BUILT / "build.json").read_text(encoding="utf-8"))
AGAIN = "run `npm --prefix studio ci && npm --prefix studio run build` and commit what it makes"


def _digests(folder: Path, names: list[str]) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def test_the_built_studio_belongs_to_its_sources() -> None:
    sources = sorted(path.relative_to(SOURCES).as_posix() for path in (SOURCES / "src").rglob("*") if path.is_file())
    listed = [*sources, "build.mjs", "index.html", "package.json", "package-lock.json", "tsconfig.json"]
    assert set(RECORD["sources"]) == set(listed), AGAIN
    assert _digests(SOURCES, listed) == RECORD["sources"], AGAIN
    built = sorted(path.name for path in BUILT.iterdir() if path.name != "build.json")
    assert _digests(BUILT, built) == RECORD["built"], AGAIN


def test_building_it_again_makes_the_same_bytes(tmp_path: Path) -> None:
    """Where node and the locked packages are; elsewhere the digests above say that nothing was changed by hand."""
    node = shutil.which("node")
    if node is None or not (SOURCES / "node_modules" / "esbuild").exists():
        assert RECORD["built"].keys() == {"NOTICES.txt", "app.css", "app.js", "index.html"}
        return
    subprocess.run([node, "build.mjs", str(tmp_path)], cwd=SOURCES, check=True, timeout=60)
    assert _digests(tmp_path, [*RECORD["built"]]) == RECORD["built"], AGAIN


def test_the_studio_is_small_and_loads_nothing_from_elsewhere() -> None:
    sizes = [len(gzip.compress((BUILT / name).read_bytes(), 9)) for name in ("app.css", "app.js", "index.html")]
    assert sum(sizes) < 500_000
    page = (BUILT / "index.html").read_text(encoding="utf-8")
    assert "//" not in page
    assert "<script>" not in page
    assert "<style" not in page


def test_the_checker_of_accessibility_is_the_locked_one() -> None:
    locked = json.loads((SOURCES / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    version = locked["node_modules/axe-core"]["version"]
    assert (ROOT / "tests" / "browser" / "axe.min.js").read_text(encoding="utf-8").startswith(f"/*! axe v{version}\n")

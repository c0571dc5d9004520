"""The script and style of reports in the tree are the ones their sources make, and may stand inside a page."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES, BUILT = ROOT / "studio", ROOT / "evaluation" / "report" / "assets"
RECORD = json.loads((BUILT / "build.json").read_text(encoding="utf-8"))
AGAIN = "run `npm --prefix studio ci && npm --prefix studio run build` and commit what it makes"


def _digests(folder: Path, names: list[str]) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def test_what_was_built_belongs_to_its_sources() -> None:
    sources = ["report.mjs", *sorted(f"report/{path.name}" for path in (SOURCES / "report").iterdir())]
    assert _digests(SOURCES, sources) == RECORD["sources"], AGAIN
    assert _digests(BUILT, ["report.css", "report.js"]) == RECORD["built"], AGAIN


def test_building_it_again_makes_the_same_bytes(tmp_path: Path) -> None:
    """Where node and the locked packages are; elsewhere the digests above say that nothing was changed by hand."""
    node = shutil.which("node")
    if node is None or not (SOURCES / "node_modules" / "esbuild").exists():
        assert RECORD["built"].keys() == {"report.css", "report.js"}
        return
    subprocess.run([node, "report.mjs", str(tmp_path)], cwd=SOURCES, check=True, timeout=60)
    assert _digests(tmp_path, ["report.css", "report.js"]) == RECORD["built"], AGAIN


def test_neither_can_end_the_element_it_stands_in_or_load_anything() -> None:
    script, style = ((BUILT / name).read_text(encoding="utf-8") for name in ("report.js", "report.css"))
    assert "</script" not in script.lower()
    assert "<!--" not in script
    assert "</style" not in style.lower()
    assert "@import" not in style
    assert "url(" not in style
    assert len(script) + len(style) < 100_000

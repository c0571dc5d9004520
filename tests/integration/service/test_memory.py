"""A version that was let go leaves nothing for the collector, which comes by seldom in a service."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.service_bundle import write_toy_bundle
from tests.support.signing import rewrite_manifest

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
# Not in this process, where every function's arguments are looked at and much else lies about.
LOAD_AND_LET_GO = """
import gc, sys
from pathlib import Path
from service.settings import Settings
from service.versions.loaded import load
bundles = Path(sys.argv[1])
for number in range(3):
    loaded = load(bundles, "v1", Settings(bundles=bundles), thorough=True)
    del loaded
    if number == 0:  # what was made once and for all
        gc.collect()
        gc.disable()
gc.set_debug(gc.DEBUG_SAVEALL)
gc.collect()
print([type(each) for each in gc.garbage])
"""


@pytest.mark.parametrize("kind", ["exact", "hnsw", "faiss"])
def test_a_version_that_was_let_go_is_freed_without_the_collector(tmp_path: Path, kind: str) -> None:
    if kind == "exact":
        write_toy_bundle(tmp_path, "v1")
    else:
        shutil.copytree(GOLDEN / f"format-1-{kind}", tmp_path / "v1")
        rewrite_manifest(tmp_path / "v1", lambda manifest: manifest.update(version="v1"))
    command = [sys.executable, "-c", LOAD_AND_LET_GO, str(tmp_path)]
    seen = subprocess.run(command, capture_output=True, text=True, check=True)
    assert seen.stdout == "[]\n"

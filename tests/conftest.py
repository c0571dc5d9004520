"""What every test shares. The shape checks come first: array signatures are enforced under pytest alone."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

PACKAGES = ["bundle", "storage", "graph", "training", "index", "recommend", "evaluation", "export", "ingest", "service"]
install_import_hook(PACKAGES, "beartype.beartype")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The directory of real data sets; tests that need it are skipped, visibly, where it is absent."""
    path = Path(os.environ.get("TWHIN_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip("real data is absent: set TWHIN_DATA to its directory")
    return path

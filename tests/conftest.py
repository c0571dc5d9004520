"""What every test shares. First of all threads that do not spin, and shape checks: array signatures are enforced under
pytest alone."""

import functools
import os
from pathlib import Path

import pytest

# Before anything loads these libraries: tests run beside one another on all cores, where the threads of a library only
# wait for one another. Who asks for threads by a setting gets them all the same.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import httpx

from tests.support import shapes

# Each client reads the web's authorities anew, 24 ms of CPU, and there are thousands: no test asks the web.
httpx._transports.default.create_ssl_context = functools.cache(httpx.create_ssl_context)

PACKAGES = ["bundle", "storage", "graph", "training", "index", "recommend", "evaluation", "export", "ingest", "service"]
shapes.install(PACKAGES)

ROOT = Path(__file__).resolve().parent.parent


def pytest_runtest_setup() -> None:
    shapes.begin_test()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The directory of real data sets; tests that need it are skipped, visibly, where it is absent."""
    path = Path(os.environ.get("TWHIN_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip("real data is absent: set TWHIN_DATA to its directory")
    return path

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
# The files that take longest, which begin first: one that began last would leave the other cores idle.
LONGEST = (
    "contract/test_prepare_engines.py",
    "integration/training/test_torchrun.py",
    "browser/test_studio.py",
    "docs/test_tutorials.py",
    "docs/test_walks.py",
    "docs/test_pages.py",
    "integration/index/test_build_memory.py",
    "e2e/test_nightly.py",
    "e2e/test_report.py",
    "e2e/test_image.py",
    "e2e/test_command.py",
    "e2e/test_kill.py",
    "e2e/service/test_swap.py",
    "e2e/service/test_operation.py",
    "integration/training/test_partitions.py",
    "integration/training/test_gpu_check.py",
    "integration/training/test_devices.py",
    "integration/service/test_redis_cluster.py",
    "integration/service/test_redis_faults.py",
    "integration/service/test_watching.py",
    "integration/evaluation/test_planted.py",
    "integration/evaluation/test_ranking_command.py",
    "integration/evaluation/test_relations.py",
    "contract/test_compiled.py",
    "unit/engine/test_fuzz.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {ROOT / "tests" / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def pytest_runtest_setup() -> None:
    shapes.begin_test()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The directory of real data sets; tests that need it are skipped, visibly, where it is absent."""
    path = Path(os.environ.get("TWHIN_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip("real data is absent: set TWHIN_DATA to its directory")
    return path

"""The floors of the house: which part may know which, and that nobody goes round in circles."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from twhin_command import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
# A line that no floor allows, and where: each must break a contract of pyproject.toml.
FORBIDDEN = (
    ("bundle/arrays.py", "import index.search.exact"),
    ("bundle/ids.py", "import engine.load"),
    ("engine/load.py", "import index.search.exact"),
    ("graph/split.py", "import training.model"),
    ("training/model.py", "import graph.schema"),
    ("index/search/exact.py", "import index.builder.config"),
    ("index/builder/config.py", "import recommend.types"),
    ("recommend/types.py", "import service.settings"),
    ("recommend/merge.py", "import torch"),
    ("recommend/merge.py", "import time"),
    ("evaluation/metrics.py", "import index.builder.config"),
    ("export/table.py", "import recommend.types"),
    ("ingest/message.py", "import service.settings"),
    ("service/settings.py", "import evaluation.metrics"),
    ("service/settings.py", "import graph.schema"),
    ("service/settings.py", "import storage.store"),
    ("index/builder/config.py", "import storage.store"),
    ("storage/store.py", "import graph.schema"),
)


def test_no_modules_import_each_other_not_even_for_their_types() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None, exclude_type_checking_imports=False)
    modules = sorted(graph.modules)
    number = {module: i for i, module in enumerate(modules)}
    arrows = [(number[a], number[b]) for a in modules for b in graph.find_modules_directly_imported_by(a)]
    matrix = coo_array((np.ones(len(arrows)), np.array(arrows).T), shape=(len(modules), len(modules)))
    _, component = connected_components(matrix, connection="strong")
    circles = [[modules[i] for i in np.flatnonzero(component == c)] for c in np.flatnonzero(np.bincount(component) > 1)]
    assert circles == []


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources and their rules, to be spoilt."""
    directory = tmp_path_factory.mktemp("spoilt")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", directory)
    return directory


def test_make_check_finds_each_forbidden_import(copy: Path) -> None:
    for file, line in FORBIDDEN:
        with (copy / file).open("a", encoding="utf-8") as module:
            module.write(f"\n{line}\n")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=copy,
        env={"PYTHONPATH": str(copy), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    unseen = [
        (file, line)
        for file, line in FORBIDDEN
        if f"{file.removesuffix('.py').replace('/', '.')} -> {line.removeprefix('import ')}" not in done.stdout
    ]
    assert unseen == [], done.stdout


def test_whoever_lists_the_packages_lists_them_all() -> None:
    """The command that guards them, the wheel, the floors: a new one that one of them lacks is not guarded there."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert set(tool["hatch"]["build"]["targets"]["wheel"]["packages"]) == set(PACKAGES)
    assert set(tool["importlinter"]["root_packages"]) == set(PACKAGES)
    copied = {line.split()[1] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")}
    assert set(PACKAGES) <= copied

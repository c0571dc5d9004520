"""An install without the extra `train`: what serving needs works, everything else says in one line what is missing."""

import json
import os
import re
import subprocess
import tomllib
import venv
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bundle.release import code_revision
from cli.main import TRAIN_EXTRA
from tests.support.service_bundle import user_ids, write_toy_bundle
from tests.support.toy import write_toy_run

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def distributions(requirements: list[str], known: dict[str, metadata.Distribution]) -> dict[str, metadata.Distribution]:
    """What `requirements` pull in, by name, from what is installed here."""
    for requirement in map(Requirement, requirements):
        distribution = metadata.distribution(requirement.name)
        if distribution.name in known:
            continue
        known[distribution.name] = distribution
        extras = {"", *requirement.extras}
        needed = [
            text
            for text in distribution.requires or ()
            if (marker := Requirement(text).marker) is None or any(marker.evaluate({"extra": one}) for one in extras)
        ]
        distributions(needed, known)
    return known


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment that has the package's dependencies and nothing of its extras."""
    home = tmp_path_factory.mktemp("serving") / "venv"
    venv.create(home, symlinks=True)
    packages = next(home.glob("lib/python*/site-packages"))
    installed = distributions(PROJECT["dependencies"], {"twhin": metadata.distribution("twhin")})
    for distribution in installed.values():
        for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not name.startswith("_editable"):
                (packages / name).symlink_to(str(distribution.locate_file(name)))
    (packages / "twhin.pth").write_text(f"{ROOT}\n", encoding="utf-8")
    return home / "bin" / "python"


def run(python: Path, directory: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TWHIN_", "PYTHON"))}
    command = [str(python), "-c", "from cli.main import main; main()", *map(str, arguments)]
    return subprocess.run(command, cwd=directory, env=clean, capture_output=True, text=True, timeout=120, check=False)


def hint(python: Path, extra: str) -> str:
    """A pattern of the command that installs the extra into the environment of `python`: the package is on no index."""
    return re.escape(f"{python} -m pip install -e '{ROOT}[{extra}]'")


def test_the_extra_is_the_one_in_the_package_s_description() -> None:
    assert {Requirement(text).name for text in PROJECT["optional-dependencies"]["train"]} == set(TRAIN_EXTRA)


def test_the_environment_lacks_the_extra(python: Path) -> None:
    found = [
        name
        for name in TRAIN_EXTRA
        if subprocess.run([python, "-c", f"import {name}"], capture_output=True).returncode == 0
    ]
    assert found == []
    assert subprocess.run([python, "-c", "import faiss, numpy, service.main"], check=False).returncode == 0


def test_what_needs_the_extra_says_so_in_one_line(python: Path, tmp_path: Path) -> None:
    write_toy_run(tmp_path / "run")
    write_toy_bundle(tmp_path / "bundles", "v1")
    run(python, tmp_path, "publish", "v1", "--bundles", "bundles")
    (tmp_path / "graph.toml").write_text(
        '[entities.user]\nid = "int64"\n[[relations]]\nname = "f"\nsource = "user"\ntarget = "user"\nfiles = "f.csv"\n'
    )
    (tmp_path / "f.csv").write_text("src,dst\n1,2\n")
    (tmp_path / "examples.csv").write_text("user,item,label\n1,2,1\n")
    commands = [
        ("train", "graph.toml", "--run", "r"),
        ("train", "graph.toml", "--run", "r", "--plan"),
        ("data", "describe", "graph.toml"),
        ("data", "generate", "generated"),
        ("demo", "--dir", "demo", "--no-serve"),
        ("build", "run", "--bundles", "bundles"),
        ("export", "v1", "--bundles", "bundles", "--out", "exported"),
        ("evaluate", "follow", "--run", "run", "--bundles", "bundles"),
        ("evaluate", "mixtures", "--run", "run", "--bundles", "bundles"),
        ("evaluate", "ranking", "--bundles", "bundles", "--examples", "examples.csv"),
        ("evaluate", "all", "--run", "run", "--bundles", "bundles", "--report", "report"),
    ]
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(lambda arguments: run(python, tmp_path, *arguments), commands))
    for arguments, end in zip(commands, ends, strict=True):
        assert end.returncode == 2, (arguments, end.stderr)
        *before, last = end.stderr.splitlines()
        assert re.fullmatch(rf"twhin: This command needs \w+, .*: {hint(python, 'train')}", last), (arguments, last)
        assert not any("Traceback" in line for line in before), arguments


def test_what_needs_a_store_says_which_extra_that_is(python: Path, tmp_path: Path) -> None:
    write_toy_bundle(tmp_path / "bundles", "v1")
    for command in (("bundle", "pull", "s3://b"), ("bundle", "push", "s3://b"), ("publish", "v1", "--to", "s3://b")):
        end = run(python, tmp_path, *command, "--bundles", "bundles")
        assert end.returncode == 2, end.stderr
        assert re.fullmatch(rf"twhin: This command needs obstore, .*: {hint(python, 'storage')}\n", end.stderr)


def test_what_needs_the_client_says_where_that_is(python: Path, tmp_path: Path) -> None:
    end = run(python, tmp_path, "ingest", "kafka://127.0.0.1:9/engagements")
    assert end.returncode == 2, end.stderr
    assert end.stderr == "twhin: This command needs twhin_client: in a checkout, pip install ./client.\n"


def test_serving_and_publishing_work_without_it(python: Path, tmp_path: Path) -> None:
    write_toy_bundle(tmp_path / "bundles", "v1")
    write_toy_bundle(tmp_path / "bundles", "v2")
    for arguments in (
        ("publish", "v1"),
        ("publish", "v2"),
        ("rollback",),
        ("bundle", "verify", "v1"),
        ("bundle", "diff", "v1", "v2"),
    ):
        end = run(python, tmp_path, *arguments, "--bundles", "bundles")
        assert end.returncode == 0, end.stderr
    answer = run(python, tmp_path, "recommend", user_ids()[5], "--bundles", "bundles", "-k", 3, "--json")
    assert len(json.loads(answer.stdout)["candidates"]) == 3


def test_the_version_is_told_with_the_commit_if_known(python: Path, tmp_path: Path) -> None:
    told = run(python, tmp_path, "--version").stdout
    revision = code_revision()
    assert told.startswith(f"twhin {metadata.version('twhin')}")
    assert (revision is None) == ("commit" not in told)
    assert revision is None or revision.split("-")[0] in told

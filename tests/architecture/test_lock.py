"""The lock files: the image's has what the package needs, at the versions that are tested, each with its digests."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CLIENT = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("storage", "kafka")
# Of each Python that is allowed the first release that a distribution of Linux has: Debian 12 its own, others any.
PYTHONS = ("3.11.2", "3.12.0", "3.13.0", "3.14.0")


def name_of(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(file: str) -> dict[str, Requirement]:
    """The requirements of a lock file by name, without their digests."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line.removesuffix(" \\")) for line in lines if re.match(r"[\w.-]+==", line)]
    return {name_of(one.name): one for one in found}


def test_the_image_s_lock_has_the_versions_that_are_tested() -> None:
    tested = pinned("requirements.lock")
    image = {name: one for name, one in pinned("requirements.image.lock").items() if one.marker is None}
    assert {name: str(one.specifier) for name, one in image.items()} == {
        name: str(tested[name].specifier) for name in image
    }


def test_the_image_s_lock_has_everything_that_the_image_installs() -> None:
    lock = pinned("requirements.image.lock")
    wanted = [*PROJECT["dependencies"], *CLIENT["dependencies"]]
    wanted += [text for extra in EXTRAS for text in PROJECT["optional-dependencies"][extra]]
    seen: set[str] = set()
    while wanted:
        need = Requirement(wanted.pop())
        if name_of(need.name) in seen:
            continue
        seen.add(name_of(need.name))
        for text in metadata.distribution(need.name).requires or ():
            marker = Requirement(text).marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *need.extras}):
                wanted.append(text)
    assert seen - set(lock) == set()


def test_every_requirement_of_the_image_has_digests() -> None:
    entries = re.split(r"\n(?=[\w.-]+==)", (ROOT / "requirements.image.lock").read_text(encoding="utf-8"))[1:]
    assert len(entries) == len(pinned("requirements.image.lock"))
    assert [entry for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)] == []


def test_every_python_that_is_allowed_may_install_what_is_pinned() -> None:
    assert all(version in SpecifierSet(PROJECT["requires-python"]) for version in PYTHONS)
    tested = pinned("requirements.lock")
    refused = [
        f"{one.name} {one.version} needs {needed}"
        for one in metadata.distributions()
        if name_of(one.name) in tested and (needed := one.metadata["Requires-Python"])
        if not all(version in SpecifierSet(needed) for version in PYTHONS)
    ]
    assert refused == []


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The bill of materials of this environment."""
    out = tmp_path_factory.mktemp("sbom") / "sbom.cdx.json"
    script, lock = ROOT / "scripts" / "sbom.py", ROOT / "requirements.image.lock"
    texts = [
        subprocess.run([sys.executable, script, out, lock], check=True, capture_output=True) and out.read_bytes()
        for _ in range(2)
    ]
    assert texts[0] == texts[1]
    document: dict[str, object] = json.loads(texts[0])
    return document


def test_the_bill_of_materials_has_what_is_installed_with_licences_and_digests(bill: dict[str, object]) -> None:
    parts = {part["name"]: part for part in bill["components"]}  # type: ignore[attr-defined]
    assert {name_of(name) for name in parts} | {"twhin"} == {name_of(one.name) for one in metadata.distributions()}
    numpy = parts["numpy"]
    assert numpy["purl"] == f"pkg:pypi/numpy@{metadata.version('numpy')}"
    assert "BSD" in json.dumps(numpy["licenses"])
    digests = [one["content"] for one in numpy["externalReferences"][0]["hashes"]]
    assert len(digests) > 10
    text = (ROOT / "requirements.image.lock").read_text(encoding="utf-8")
    assert all(digest in text for digest in digests)


def test_the_bill_of_materials_says_who_needs_whom(bill: dict[str, object]) -> None:
    needs = {entry["ref"].partition("@")[0]: entry["dependsOn"] for entry in bill["dependencies"]}  # type: ignore[attr-defined]
    assert f"pkg:pypi/starlette@{metadata.version('starlette')}" in needs["pkg:pypi/fastapi"]
    listed = {part["bom-ref"] for part in bill["components"]}  # type: ignore[attr-defined]
    assert {one for several in needs.values() for one in several} <= listed | {bill["metadata"]["component"]["bom-ref"]}  # type: ignore[index]

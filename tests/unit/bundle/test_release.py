"""Where the package came from, and the command that installs it again with an extra."""

import json
import shlex
import sys
from importlib import metadata
from pathlib import Path

import pytest

from bundle import release

HERE = shlex.quote(sys.executable)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed copy, as far as `metadata` is asked: its description lies in the directory."""
    description = tmp_path / "twhin-0.1.0.dist-info"
    description.mkdir()
    (description / "METADATA").write_text("Metadata-Version: 2.1\nName: twhin\nVersion: 0.1.0\n")
    monkeypatch.setattr(metadata, "distribution", lambda name: metadata.PathDistribution(description))
    monkeypatch.setattr(release, "CHECKOUT", tmp_path / "site-packages")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return description


def test_a_checkout_is_installed_again_from_where_it_lies() -> None:
    root = Path(__file__).resolve().parents[3]
    assert release.install_with("train") == f"{HERE} -m pip install -e '{root}[train]'"


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        ({"url": "file://{folder}/a%20b", "dir_info": {}}, "'{folder}/a b[train]'"),
        ({"url": "file://{folder}/twhin.whl", "archive_info": {}}, "'{folder}/twhin.whl[train]'"),
        ({"url": "https://host/twhin.git", "vcs_info": {"vcs": "git"}}, "'twhin[train] @ git+https://host/twhin.git'"),
        ({"url": "file://{folder}/gone", "dir_info": {}}, "'.[train]', in a checkout of twhin"),
        ({}, "'.[train]', in a checkout of twhin"),
    ],
)
def test_an_installed_copy_is_installed_again_from_where_it_came(
    installed: Path, tmp_path: Path, origin: dict[str, object], source: str
) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "twhin.whl").touch()
    (installed / "direct_url.json").write_text(json.dumps(origin).replace("{folder}", str(tmp_path)))
    assert release.install_with("train") == f"{HERE} -m pip install {source}".replace("{folder}", str(tmp_path))


@pytest.mark.parametrize(
    ("receipt", "command"),
    [("uv-receipt.toml", "uv tool install --force"), ("pipx_metadata.json", "pipx install --force")],
)
def test_what_installed_it_installs_it_again(installed: Path, tmp_path: Path, receipt: str, command: str) -> None:
    (tmp_path / receipt).touch()
    assert release.install_with("otel") == f"{command} '.[otel]', in a checkout of twhin"

"""`twhin recommend`: what it says of users whom the version knows and of others."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bundle.versions import publish
from cli.main import app
from tests.support.service_bundle import user_ids, write_toy_bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("recommended")
    write_toy_bundle(directory, "v1")
    publish(directory, "v1")
    return directory


def asked(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["recommend", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


@pytest.mark.parametrize(("user", "known"), [(user_ids()[5], True), ("12345", False), ("no id at all", False)])
def test_it_says_whether_the_version_knows_the_user(bundles: Path, user: str, known: bool) -> None:
    answer = json.loads(asked(user, "--bundles", bundles, "--json", "-k", 5))
    assert answer["known"] is known
    assert len(answer["candidates"]) == 5
    assert (f"does not know {user}" in asked(user, "--bundles", bundles)) is not known

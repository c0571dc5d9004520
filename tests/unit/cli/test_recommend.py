"""`twhin recommend`: what it says of users whom the version knows and of others."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bundle.errors import TwhinError
from bundle.versions import publish
from cli.main import app, main
from tests.support.service_bundle import tag_ids, user_ids, write_toy_bundle


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
    shown = asked(user, "--bundles", bundles)
    assert (f"does not know user {user}: " in shown) is not known
    assert shown.startswith(f"user for {user} by follows: strategy "), "whole, so that the id can be copied"


def test_a_filter_keeps_whom_it_names_and_a_fault_in_it_is_told(bundles: Path) -> None:
    condition = '{"attribute": "bot", "is": true}'
    answer = json.loads(asked(user_ids()[5], "--bundles", bundles, "--json", "--filter", condition))
    bots = {user_ids()[row] for row in range(0, 400, 20)}
    assert 15 <= len(answer["candidates"]) <= len(bots)
    assert {one["id"] for one in answer["candidates"]} <= bots
    for wrong, words in (
        ("{", "--filter"),
        ('{"x": 1}', "--filter"),
        ('{"attribute": "x", "is": 1}', "no such attribute"),
    ):
        done = CliRunner().invoke(app, ["recommend", user_ids()[5], "--bundles", str(bundles), "--filter", wrong])
        assert isinstance(done.exception, TwhinError)
        assert done.exception.exit_status == 2
        assert words in str(done.exception)


def test_a_fault_in_a_filter_is_told_with_its_place(
    bundles: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = '{"all": [{"attribute": "bot", "is": true}, {"attribute": "country", "in": ["at", 7]}]}'
    command = ["twhin", "recommend", user_ids()[5], "--bundles", str(bundles), "--filter", wrong]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit):
        main()
    assert "/filter/all/1/in/1: a category is compared with text" in capsys.readouterr().err


def test_explained_candidates_say_because_of_what(bundles: Path) -> None:
    answer = json.loads(asked(user_ids()[5], "--bundles", bundles, "--json", "--explain", "-k", 5))
    assert all("near " in one["because"] for one in answer["candidates"])
    assert any(" by follows: " in one["because"] for one in answer["candidates"])


def test_labels_stand_beside_ids_where_candidates_have_them(bundles: Path) -> None:
    labelled = ("--bundles", bundles, "--relation", "uses", "-k", 8)
    candidates = json.loads(asked(user_ids()[5], *labelled, "--json"))["candidates"]
    rows = {name: row for row, name in enumerate(tag_ids())}
    for one in candidates:
        row = rows[one["id"]]
        assert one["label"] == (f"Tag {row}" if row % 5 else None)
    assert any(one["label"] for one in candidates)
    printed = asked(user_ids()[5], *labelled)
    assert all(one["label"] in printed for one in candidates if one["label"])
    plain = json.loads(asked(user_ids()[5], "--bundles", bundles, "--json"))["candidates"]
    assert all("label" not in one for one in plain)

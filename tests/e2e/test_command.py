"""The command end to end: what it answers, and how it fails."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cli.demo import invite

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_the_help_names_every_subcommand(twhin: Command) -> None:
    shown = twhin("--help").stdout
    for name in ("demo", "data", "train", "build", "publish", "rollback", "serve", "recommend", "evaluate", "bundle"):
        assert name in shown


def test_candidates_are_new_to_the_user(twhin: Command, pipeline) -> None:  # type: ignore[no-untyped-def]
    follows = pq.read_table(pipeline.graph.parent / "follows.parquet")
    user = follows["src"][0].as_py()
    answer = json.loads(twhin("recommend", user, "--bundles", pipeline.bundles, "-k", 15, "--json").stdout)
    ids = [candidate["id"] for candidate in answer["candidates"]]
    assert len(set(ids)) == 15
    assert str(user) not in ids
    assert answer["version"] == pipeline.version
    scores = [candidate["score"] for candidate in answer["candidates"]]
    assert all(isinstance(score, float) for score in scores)


def test_the_demo_s_question_is_answered_through_its_filter_with_names(  # type: ignore[no-untyped-def]
    twhin: Command, pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    invite(pipeline.bundles, 8000)
    proposed = re.search(r"-d '(.*)'", capsys.readouterr().out)
    assert proposed is not None
    body = json.loads(proposed[1])
    words = (body["user"], "-k", body["k"], "--filter", json.dumps(body["filter"]), "--explain", "--json")
    answer = json.loads(twhin("recommend", *words, "--bundles", pipeline.bundles).stdout)
    users = {str(row["id"]): row for row in pq.read_table(pipeline.graph.parent / "users.parquet").to_pylist()}
    chosen = [users[candidate["id"]] for candidate in answer["candidates"]]
    assert len(chosen) == body["k"]
    assert all(user["verified"] for user in chosen)
    reasons = " ".join(candidate["because"] for candidate in answer["candidates"])
    assert any(user["name"] in reasons for user in users.values())


def test_an_unknown_user_gets_an_answer_that_says_so(twhin: Command, pipeline) -> None:  # type: ignore[no-untyped-def]
    answer = json.loads(twhin("recommend", 2**63 - 1, "--bundles", pipeline.bundles, "-k", 5, "--json").stdout)
    assert answer["fallback"] == "popular"
    assert len(answer["candidates"]) == 5


def test_equal_questions_get_equal_answers(twhin: Command, pipeline) -> None:  # type: ignore[no-untyped-def]
    answers = {twhin("recommend", 1, "--bundles", pipeline.bundles, "--json").stdout for _ in range(2)}
    assert len(answers) == 1


def test_the_version_verifies_and_shows_itself(twhin: Command, pipeline) -> None:  # type: ignore[no-untyped-def]
    assert json.loads(twhin("bundle", "verify", "--bundles", pipeline.bundles, "current", "--json").stdout)["intact"]
    listed = json.loads(twhin("bundle", "show", "--bundles", pipeline.bundles, "--json").stdout)["versions"]
    assert [(version["version"], version["current"]) for version in listed] == [(pipeline.version, True)]


def test_a_damaged_version_is_refused_by_name(twhin: Command, pipeline, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    bundles = tmp_path / "bundles"
    shutil.copytree(pipeline.bundles, bundles)
    victim = bundles / pipeline.version / "spaces" / "default" / "relations.npy"
    content = bytearray(victim.read_bytes())
    content[-1] ^= 255
    victim.write_bytes(content)
    refused = twhin("publish", pipeline.version, "--bundles", bundles, "--json", status=5)
    error = json.loads(refused.stderr)["error"]
    assert error["code"] == "bundle_altered"
    assert "relations.npy" in error["message"]


def test_link_prediction_beats_chance(twhin: Command, pipeline) -> None:  # type: ignore[no-untyped-def]
    report = json.loads(twhin("evaluate", "links", pipeline.run, "--max-edges", 200, "--json").stdout)
    assert report["overall"]["mrr"] > 3 * report["random"]["mrr"]


def test_the_follow_report_has_strategies_and_baselines(twhin: Command, pipeline) -> None:  # type: ignore[no-untyped-def]
    done = twhin("evaluate", "follow", "--run", pipeline.run, "--bundles", pipeline.bundles, "--users", 100, "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["popularity"]["kind"] == "baseline"
    assert rows["blend"]["metrics"]["recall@50"]["mean"] > rows["random"]["metrics"]["recall@50"]["mean"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("train", "none.toml", "--run", "r"), 3, "none.toml"),
        (("build", "no-run", "--bundles", "b"), 4, "no-run"),
        (("publish", "v1", "--bundles", "empty"), 5, "is no version"),
        (("recommend", "1", "--bundles", "empty"), 5, "Nothing is published"),
        (("rollback", "--bundles", "empty"), 5, "is no directory"),
        (("evaluate", "links", "no-run"), 4, "no-run"),
    ],
)
def test_errors_say_what_where_and_what_to_do(
    twhin: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = twhin(*arguments, status=status)
    assert said in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_a_bad_setting_is_named(twhin: Command, pipeline, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = twhin("train", pipeline.graph, "--run", tmp_path / "r", "--set", "dimension=3", status=2)
    assert "dimension" in done.stderr


def test_a_finished_run_keeps_its_graph_when_the_files_change(twhin: Command, pipeline, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    graph, run = tmp_path / "graph", tmp_path / "run"
    shutil.copytree(pipeline.graph.parent, graph)
    shutil.copytree(pipeline.run, run)
    (graph / "follows.parquet").touch()
    for option in ("--plan", "--resume"):
        refused = twhin("train", graph / "graph.toml", "--run", run, option, status=4)
        assert "Train in another directory" in refused.stderr.replace("\n", " ")
    twhin("build", run, "--bundles", tmp_path / "bundles", "--quick", "--no-map")

"""`twhin tune`: what is written, what goes on after Ctrl-C, what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

import cli.tune
from bundle.errors import ConfigError, DiskFull, RunError, UsageError
from bundle.prepared import PreparedGraph
from cli.compose import judge_of_links
from cli.train import train
from cli.tune import tune
from graph.prepare import prepare
from tests.integration.training.conftest import CIRCLES, USERS, circle_edges
from tests.support.full_disk import files_end_at
from training.resume import only_trainer

GRAPH = """
[entities.user]
id = "int64"

[[relations]]
name = "follows"
source = "user"
target = "user"
files = ["follows.csv"]
"""
SPLIT = """
[split]
by = "random"
fraction = 0.2
"""
SMALL = ("--set", "dim=8", "--set", "threads=1")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Circles of users who follow one another, a tenth of the edges for validation."""
    edges = circle_edges(np.random.default_rng(7))["follows"]
    (tmp_path / "follows.csv").write_text(
        "src,dst\n" + "".join(f"{source},{target}\n" for source, target in edges), encoding="utf-8"
    )
    (tmp_path / "graph.toml").write_text(GRAPH + SPLIT, encoding="utf-8")
    return tmp_path / "graph.toml"


def invoked(command: object, *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(command)  # type: ignore[type-var]
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def test_it_writes_the_settings_that_train_takes_and_a_log_of_all_that_it_tried(graph: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    answer = json.loads(invoked(tune, graph, "--dir", out, "--budget", "6s", *SMALL, "--json").stdout)
    head, *lines = map(json.loads, (out / "trials.jsonl").read_text().splitlines())
    assert head["fixed"] == {"dim": 8, "threads": 1}
    assert answer["trials"] == len({line["trial"] for line in lines}) >= 2
    assert answer["best"] == max(lines, key=lambda line: (line["score"], -line["epochs"]))
    assert {line["epochs"] for line in lines} >= {2, 4}
    for trial in {line["trial"] for line in lines if line["epochs"] == 4}:
        assert trial in {line["trial"] for line in lines if line["epochs"] == 2}
    run = tmp_path / "run"
    invoked(train, graph, "--run", run, "--config", out / "best.toml")
    config = json.loads((run / "run.json").read_text())["config"]
    chosen = {**answer["best"]["settings"], "epochs": answer["best"]["epochs"], "dim": 8, "threads": 1}
    assert {name: config[name] for name in chosen} == chosen


def test_it_finds_settings_that_learn_the_circles(graph: Path, tmp_path: Path) -> None:
    answer = json.loads(invoked(tune, graph, "--dir", tmp_path / "t", "--budget", "16s", *SMALL, "--json").stdout)
    at_random = np.mean(1 / np.arange(1, USERS // CIRCLES * 2))
    assert answer["best"]["score"] > answer["start"]["score"] > 0
    assert answer["best"]["score"] > at_random / 2


def test_ctrl_c_keeps_what_was_found_and_the_same_command_goes_on(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, judged = tmp_path / "tuned", []

    def judge_twice(prepared: PreparedGraph, seed: int) -> object:
        judge, questions = judge_of_links(prepared, seed)

        def judge_or_stop(run: Path) -> float:
            judged.append(run)
            if len(judged) == 3:
                raise KeyboardInterrupt
            return judge(run)

        return judge_or_stop, questions

    monkeypatch.setattr(cli.tune, "judge_of_links", judge_twice)
    stopped = invoked(tune, graph, "--dir", out, "--budget", "6s", *SMALL)
    assert "The same command goes on" in stopped.stderr
    before = (out / "trials.jsonl").read_text()
    assert len(before.splitlines()) == 3
    best = max(map(json.loads, before.splitlines()[1:]), key=lambda line: line["score"])
    assert f"init_scale = {best['settings']['init_scale']}" in (out / "best.toml").read_text()
    # However slow the machine is: a round's share of it is more than what was used up.
    used = sum(line["seconds"] for line in map(json.loads, before.splitlines()[1:]))
    invoked(tune, graph, "--dir", out, "--budget", f"{6 + 6 * used:.0f}s", *SMALL)
    after = (out / "trials.jsonl").read_text()
    assert after.startswith(before)
    keys = [(line["trial"], line["epochs"]) for line in map(json.loads, after.splitlines()[1:])]
    assert len(keys) == len(set(keys)) > 3


def test_a_search_that_has_ended_says_so_at_once_and_goes_on_with_more_time(graph: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    short = invoked(tune, graph, "--dir", out, "--budget", "1s", *SMALL, "--json")
    lines = (out / "trials.jsonl").read_text()
    assert invoked(tune, graph, "--dir", out, "--budget", "1s", *SMALL, "--json").stdout == short.stdout
    assert (out / "trials.jsonl").read_text() == lines
    # However slow the machine is: a round's share of it is more than what was used up.
    more = 1 + 6 * json.loads(short.stdout)["seconds"]
    invoked(tune, graph, "--dir", out, "--budget", f"{more:.0f}s", *SMALL)
    assert (out / "trials.jsonl").read_text().startswith(lines)
    assert len((out / "trials.jsonl").read_text()) > len(lines)
    assert not (out / "trials").exists()


def test_a_search_goes_on_after_a_full_disk_wherever_its_log_was_cut(graph: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    prepare(graph, out / "graph")
    for size_bytes in (0, 50):  # of the first line
        with files_end_at(size_bytes), pytest.raises(DiskFull, match=r"trials\.jsonl could not be written\. Make room"):
            invoked(tune, graph, "--dir", out, "--budget", "1s", *SMALL)
    invoked(tune, graph, "--dir", out, "--budget", "1s", *SMALL)
    log = out / "trials.jsonl"
    head, *lines = log.read_text().splitlines()
    for cut in (10, len(head), len(head) + 1, len(head) + 30):
        log.write_text("\n".join([head, *lines])[:cut])
        invoked(tune, graph, "--dir", out, "--budget", "1s", *SMALL)
        assert log.read_text().splitlines()[0] == head
        assert [*map(json.loads, log.read_text().splitlines())][1]["trial"] == 0


def test_settings_that_diverge_are_worth_nothing_and_end_nothing(graph: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    wild = ("--set", "learning_rate=1e38")
    answer = json.loads(invoked(tune, graph, "--dir", out, "--budget", "1s", *SMALL, *wild, "--json").stdout)
    assert answer["best"]["score"] == 0
    assert answer["best"]["diverged"]


@pytest.mark.parametrize("budget", ["", "0", "ten minutes", "-5m", "5 m", "1e3s"])
def test_a_budget_that_is_no_time_is_refused(graph: Path, tmp_path: Path, budget: str) -> None:
    with pytest.raises(ConfigError, match="90s, 10m or 2h"):
        invoked(tune, graph, "--dir", tmp_path / "t", "--budget", budget)


def test_what_cannot_be_searched_is_refused_before_the_graph_is_read(graph: Path, tmp_path: Path) -> None:
    for given, words in (("epochs=3", "leave it out"), ("dimm=3", "did you mean dim")):
        with pytest.raises(ConfigError, match=words):
            invoked(tune, graph, "--dir", tmp_path / "t", "--set", given)
    assert not (tmp_path / "t").exists()


def test_a_graph_without_a_split_is_tuned_by_the_slice_that_training_holds_out(graph: Path, tmp_path: Path) -> None:
    graph.write_text(GRAPH, encoding="utf-8")
    answer = json.loads(invoked(tune, graph, "--dir", tmp_path / "out", "--budget", "2s", *SMALL, "--json").stdout)
    edges = len((tmp_path / "follows.csv").read_text().splitlines()) - 1
    found = re.fullmatch(r"filtered MRR of (\d+) validation edges, both ends", answer["metric"])
    assert found is not None
    assert edges // 50 <= int(found[1]) <= edges // 5  # a tenth, as closely as a draw comes to it


def test_a_graph_without_validation_edges_is_told_what_to_add(graph: Path, tmp_path: Path) -> None:
    graph.write_text(GRAPH)
    (tmp_path / "follows.csv").write_text("src,dst\n1,2\n2,3\n")
    with pytest.raises(UsageError, match=r"Add a \[split\]"):
        invoked(tune, graph, "--dir", tmp_path / "t")


def test_who_searches_is_alone_in_the_directory(graph: Path, tmp_path: Path) -> None:
    directory = tmp_path / "t"
    with only_trainer(directory), pytest.raises(UsageError, match="Another process works in"):
        invoked(tune, graph, "--dir", directory, *SMALL)
    assert not (directory / "graph").exists()


def test_the_log_of_another_search_is_refused(graph: Path, tmp_path: Path) -> None:
    invoked(tune, graph, "--dir", tmp_path / "t", "--budget", "1s", *SMALL)
    with pytest.raises(RunError, match="another search"):
        invoked(tune, graph, "--dir", tmp_path / "t", "--budget", "1s", *SMALL, "--seed", "2")


def test_train_takes_a_preset_and_what_is_set_counts_over_it(graph: Path, tmp_path: Path) -> None:
    invoked(train, graph, "--run", tmp_path / "r", "--preset", "knowledge-graph", *SMALL, "--set", "epochs=1")
    config = json.loads((tmp_path / "r" / "run.json").read_text())["config"]
    assert (config["epochs"], config["dim"], config["init_scale"], config["masks"]) == (1, 8, 0.01, "chunk")

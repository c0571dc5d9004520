"""`twhin train`: which settings count, on `--resume` too, and what is refused before the graph is read."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from bundle.errors import ConfigError, GraphError, GraphFileError, RunError, RunIncomplete, UsageError
from bundle.graph_place import placed, reading
from bundle.run import read_run_record
from bundle.trained import name_of_trained
from cli.main import app
from cli.train import train
from graph.prepare import prepare
from tests.support.toy import build_toy
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
SMALL = ("--set", "dim=4", "--set", "epochs=2", "--set", "threads=1", "--set", "negatives_uniform=8")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Forty users, each of whom follows the next three."""
    edges = "".join(f"{user},{(user + step) % 40}\n" for user in range(40) for step in (1, 2, 3))
    (tmp_path / "follows.csv").write_text("src,dst\n" + edges, encoding="utf-8")
    (tmp_path / "graph.toml").write_text(GRAPH, encoding="utf-8")
    return tmp_path / "graph.toml"


def invoked(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(train)
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def run_train(*arguments: object) -> str:
    """What the command says on standard error."""
    return invoked(*arguments).stderr


def test_it_counts_in_english_and_the_next_command_can_be_pasted(graph: Path, tmp_path: Path) -> None:
    for epochs, words in ((1, "Trained 1 epoch, "), (2, "Trained 2 epochs, ")):
        run = tmp_path / f"Bob's {epochs} $run"
        said = invoked(graph, "--run", run, *SMALL, "--set", f"epochs={epochs}").stdout
        assert said.startswith(words)
        assert shlex.split(said.split("Next: ")[1]) == ["twhin", "build", str(run), "--bundles", "DIR"]


def test_a_resumed_run_keeps_the_settings_that_it_was_started_with(graph: Path, tmp_path: Path) -> None:
    run_train(graph, "--run", tmp_path / "run", *SMALL)
    assert "→" not in run_train(graph, "--run", tmp_path / "run", "--resume")
    said = run_train(graph, "--run", tmp_path / "run", "--resume", "--set", "threads=2")
    assert "threads: 1 → 2" in said
    with pytest.raises(UsageError, match="finished after 2 epochs, epochs is 3"):
        run_train(graph, "--run", tmp_path / "run", "--resume", "--set", "epochs=3")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["config"]["epochs"] == 2


def test_a_second_command_is_told_so_before_it_prepares_anything(graph: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for more in ((), ("--plan",)):
        with only_trainer(run), pytest.raises(UsageError, match="Another process works in"):
            run_train(graph, "--run", run, *more)
    assert not run.exists()


def test_where_the_input_is_missing_nothing_is_made(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(GraphFileError):
        run_train(tmp_path / "nope.toml", "--run", tmp_path / "run")
    (tmp_path / "follows.csv").unlink()
    with pytest.raises(GraphError):
        run_train(graph, "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_by_which_nothing_is_learnt_are_refused(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="weigh 0: nothing would be learnt"):
        run_train(graph, "--run", tmp_path / "run", *SMALL, "--set", "relation_weights.follows=0")


def test_what_fails_leaves_no_directory_of_a_run(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "follows.csv").write_text("src,dst\n1,2\n3,oops\n")
    with pytest.raises(GraphError, match="oops"):
        run_train(graph, "--run", tmp_path / "runs" / "today")
    assert not (tmp_path / "runs").exists()


def test_nobody_replaces_a_prepared_graph_while_it_is_trained_on(graph: Path, tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    command = ["prepare", str(graph), "--out", str(prepared)]
    prepare(graph, prepared)
    before = (prepared / "graph.json").read_bytes()
    (tmp_path / "follows.csv").write_text("src,dst\n1,2\n2,3\n")
    with reading(prepared):
        run_train(prepared, "--run", tmp_path / "first", *SMALL)  # others may read it too
        refused = CliRunner().invoke(app, command).exception
        assert isinstance(refused, RunError)
        assert "A training reads" in str(refused)
        assert (prepared / "graph.json").read_bytes() == before
    with placed(prepared), pytest.raises(RunError, match="Another process prepares"):
        run_train(prepared, "--run", tmp_path / "second", *SMALL)
    assert not (tmp_path / "second").exists()
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (prepared / "graph.json").read_bytes() != before


def test_a_run_names_what_it_was_warm_started_from_and_what_that_was(graph: Path, tmp_path: Path) -> None:
    run_train(graph, "--run", tmp_path / "a", *SMALL)
    run_train(graph, "--run", tmp_path / "b", *SMALL, "--warm-start", tmp_path / "a")
    run_train(graph, "--run", tmp_path / "c", *SMALL, "--warm-start", tmp_path / "b")
    a, b, c = (read_run_record(tmp_path / name) for name in "abc")
    names = [name_of_trained(tmp_path / name) for name in "ab"]
    assert (a.ancestors, b.ancestors, c.ancestors) == ((), (names[0],), (names[1], names[0]))
    assert (a.parent, b.parent, c.parent) == (None, names[0], names[1])


@pytest.mark.parametrize(("given", "run"), [("S3://bucket/g", "run"), ("s3:/bucket/g", "run"), ("", "s3://bucket/r")])
def test_a_misspelt_url_makes_no_directory(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, run: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="URL"):
        run_train(given or graph, "--run", run)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["follows.csv", "graph.toml"]


def test_what_would_train_nothing_is_told_by_the_plan_too(graph: Path, tmp_path: Path) -> None:
    for more in ((), ("--plan",)):
        with pytest.raises(ConfigError, match=r"relation_weights names \['folows'\], which the graph does not have"):
            run_train(graph, "--run", tmp_path / "run", *SMALL, *more, "--set", "relation_weights.folows=2")


def test_the_advice_over_a_directory_helps(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(GraphFileError, match=f"is a directory. Give {re.escape(str(graph))}\\.$"):
        run_train(graph.parent, "--run", tmp_path / "run")
    run_train(graph, "--run", tmp_path / "run", *SMALL)
    with pytest.raises(UsageError, match="is a run. To train on its graph once more give") as refused:
        run_train(tmp_path / "run", "--run", tmp_path / "again", *SMALL)
    run_train(str(refused.value).split(" give ")[1].removesuffix("."), "--run", tmp_path / "again", *SMALL)


def test_a_warm_start_from_a_folder_of_versions_names_the_newest(tmp_path: Path) -> None:
    version = build_toy(tmp_path).path
    for named in (tmp_path / "bundles", tmp_path / "bundles" / "latest"):
        with pytest.raises(RunIncomplete, match=f"the newest version there is {re.escape(str(version))}\\.$"):
            run_train("no-such-graph.toml", "--run", tmp_path / "run", "--warm-start", named)


@pytest.mark.parametrize(
    ("arguments", "fault", "said"),
    [
        (("--set", "epoch=3"), ConfigError, r"^--set: epoch is no setting; did you mean epochs\? See docs/training.md"),
        (("--set", "epochs=many"), ConfigError, "^--set: epochs is 'many', but it should be a whole number, in digits"),
        (("--memory", "lots"), ConfigError, "^--memory: memory is 'lots', but it should be a size, such as 8GiB"),
        (("--memory", "1MB"), ConfigError, "memory is 1 MiB, but the process alone takes"),
        (("--set", "l2_previous=1"), ConfigError, "are of warm starts: name a version with --warm-start"),
        (("--set", "device=nope"), ConfigError, "device = 'nope' cannot be used here"),
        (("--set", "device=nope", "--devices", "2"), ConfigError, "device is 'nope' and devices 2: expected 'cuda'"),
        (("--set", "partitions=3", "--devices", "2"), ConfigError, "partitions is 3, expected at least 4"),
        (("--set", "products=int16", "--set", "backend=torch", "--devices", "2"), ConfigError, "do not go together"),
        (("--set", "negatives_uniform=0", "--set", "chunk=1"), ConfigError, "^--set: no edge has a negative: nothing"),
        (("--set", "relation_weights.follows=1e38"), ConfigError, "it should be less than or equal to 1000000000"),
        (("--warm-start", "typo"), RunIncomplete, "typo holds neither a finished run"),
    ],
)
def test_a_mistake_is_one_line_and_told_before_the_graph_is_read(
    tmp_path: Path, arguments: tuple[str, ...], fault: type[Exception], said: str
) -> None:
    with pytest.raises(fault, match=said) as refused:
        run_train("no-such-graph.toml", "--run", tmp_path / "run", *arguments)
    assert "\n" not in str(refused.value)


def test_who_starts_trainers_on_gpus_opens_none_itself(tmp_path: Path) -> None:
    """It would hold a context there to the end; it does not even load torch."""
    asked = ["train", "no-such-graph.toml", "--run", str(tmp_path), "--set", "device=cuda", "--devices", "64"]
    code = f"import sys\nfrom cli.main import app\ntry: app({asked})\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert re.search(r"devices is 64, but torch finds \d GPUs here", done.stderr)
    assert done.stdout == "False\n"

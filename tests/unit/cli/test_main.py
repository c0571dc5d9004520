"""How the command ends: one line and an exit status, whatever went wrong."""

import errno
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from bundle.errors import DiskFull
from bundle.versions import publish
from cli import main as command
from tests.support.service_bundle import write_toy_bundle


def ends(monkeypatch: pytest.MonkeyPatch, fault: BaseException, *arguments: str) -> object:
    """The exit status of a command in which `fault` happens."""

    def fails(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr("bundle.versions.list_versions", fails)
    monkeypatch.setattr("sys.argv", ["twhin", "bundle", "show", "--bundles", ".", *arguments])
    with pytest.raises(SystemExit) as end:
        command.main()
    return end.value.code


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (lambda: KeyboardInterrupt(), 130, "interrupted; nothing half-done is left behind"),
        (lambda: OSError(errno.ENOSPC, "No space left on device", "b/x.npy"), 6, "b/x.npy: No space left on device"),
        (lambda: PermissionError(errno.EACCES, "Permission denied", "b"), 6, "b: Permission denied"),
        (lambda: DiskFull("no room"), 4, "no room"),
        (lambda: OSError(errno.EMFILE, "Too many open files"), 6, "Raise the limit of open files"),
    ],
)
def test_it_ends_with_one_line_and_its_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: Callable[[], BaseException],
    status: int,
    said: str,
) -> None:
    assert ends(monkeypatch, fault()) == status
    assert said in capsys.readouterr().err
    assert ends(monkeypatch, fault(), "--json") == status
    assert said in json.loads(capsys.readouterr().err)["error"]["message"]


def test_a_version_of_many_files_is_read_where_few_may_be_open_at_first(tmp_path: Path) -> None:
    """A process is usually begun with 1,024, and a version of many relations has more: here it is 5."""
    write_toy_bundle(tmp_path, "v1")
    publish(tmp_path, "v1")
    few = "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (5, r.getrlimit(r.RLIMIT_NOFILE)[1]))"
    ask = [
        sys.executable,
        "-c",
        f"{few}; from cli.main import main; main()",
        "recommend",
        "5",
        "--bundles",
        str(tmp_path),
    ]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_room_for_open_files_that_is_said_and_not_that_the_version_is_damaged(tmp_path: Path) -> None:
    write_toy_bundle(tmp_path, "v1")
    publish(tmp_path, "v1")
    few = "import cli.main, resource; resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))"
    ask = [sys.executable, "-c", f"{few}; cli.main.main()", "recommend", "5", "--bundles", str(tmp_path)]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "Raise the limit of open files (ulimit -Hn) and run it again." in done.stderr
    assert "Traceback" not in done.stderr


COMMAND = [sys.executable, "-c", "from cli.main import main; main()"]


def shown(tmp_path: Path, redirected: str) -> "subprocess.CompletedProcess[str]":
    """`twhin bundle show` with its streams as a shell redirects them; its status is the first of the pipe's."""
    write_toy_bundle(tmp_path, "v1")
    words = shlex.join([*COMMAND, "bundle", "show", "--bundles", str(tmp_path)])
    script = f"{words} {redirected}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)


def test_who_reads_no_further_is_no_fault(tmp_path: Path) -> None:
    done = shown(tmp_path, "| true")
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train",), "Missing argument 'GRAPH'. `"),
        (("recommend", "1", "--bundles", ".", "-k", "0"), "Invalid value for '-k': "),
        (("nonsense",), "No such command 'nonsense'. `"),
        (("bundle", "show", "--bundle", "b"), "No such option: --bundle"),
    ],
)
def test_faults_in_arguments_are_json_where_it_is_asked_for(words: tuple[str, ...], said: str) -> None:
    done = subprocess.run([*COMMAND, *words, "--json"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    error = json.loads(done.stderr)["error"]
    assert error["code"] == "usage"
    assert error["message"].startswith(said)
    assert error["message"].endswith("--help` lists what it takes.")
    plain = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)
    assert (plain.returncode, "Usage:" in plain.stderr) == (2, True)


def paths(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words that call each command."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from paths(inner, (*path, name))


@pytest.mark.parametrize("path", list(paths(typer.main.get_command(command.app))), ids=" ".join)
def test_the_help_is_for_people_on_a_usual_terminal(path: tuple[str, ...]) -> None:
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(command.app, [*path, "--help"], prog_name="twhin").output
    types = r"<(?:bool|str|path|file|dir|list|int|float|[A-Z])|\w range\b|\[OPTIONS\] \{[a-z]"
    assert re.findall(types, shown) == []
    prose = shown.partition("╭")[0]
    lines = [line.strip() for line in prose.splitlines()]
    broken_early = [
        line
        for line, after in itertools.pairwise(lines)
        if line and after and len(line) + 1 + len(after.split()[0]) <= 76
    ]
    assert broken_early == []
    assert " ".join(("Usage: twhin", *path)) in prose


def test_who_reads_no_further_in_the_help_is_no_fault() -> None:
    words = shlex.join([*COMMAND, "train", "--help"])
    done = subprocess.run(
        ["bash", "-c", f"{words} | true; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_locale_has_no_sign_for_is_escaped(tmp_path: Path, encoding: str) -> None:
    """An arrow, a relation's name in another script; JSON stays JSON."""
    (tmp_path / "e.csv").write_text("src,dst\n1,2\n")
    graph = tmp_path / "graph.toml"
    relation = '[[relations]]\nname = "gefällt ❤"\nsource = "user"\ntarget = "user"\nfiles = "e.csv"\n'
    graph.write_text(f'[entities.user]\nid = "int64"\n{relation}', encoding="utf-8")
    ask = [*COMMAND, "data", "describe", str(graph)]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(ask, capture_output=True, encoding=encoding, env=environment, check=True)
    assert r"llt \u2764  (user \u2192 user" in done.stdout
    done = subprocess.run([*ask, "--json"], capture_output=True, encoding=encoding, env=environment, check=True)
    assert json.loads(done.stdout)["relations"][0]["name"] == "gefällt ❤"


@pytest.mark.parametrize(("closed", "heard"), [(">&-", False), ("2>&-", True), ("<&-", True), (">&- 2>&- <&-", False)])
def test_a_process_without_standard_streams_works(tmp_path: Path, closed: str, heard: bool) -> None:
    """Else the first file that is opened gets the stream's number, and whatever a library prints."""
    done = shown(tmp_path, closed)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("v1" in done.stdout) == heard


def test_what_a_process_without_standard_streams_starts_has_them_too(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    child = f"import os\nwith open({str(seen)!r}, 'w') as file: print(file.fileno(), file=file)"
    parent = "import subprocess, sys\nfrom cli.main import _open_streams\n_open_streams()\n"
    parent += f"subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    subprocess.run(["bash", "-c", f"{shlex.join([sys.executable, '-c', parent])} <&- >&- 2>&-"], check=True)
    assert int(seen.read_text()) > 2


def test_an_answer_that_finds_no_room_is_told(tmp_path: Path) -> None:
    done = shown(tmp_path, "> /dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (6, 1)
    assert "No space left" in done.stderr


@pytest.mark.parametrize(("number", "word"), [(signal.SIGTERM, "terminated"), (signal.SIGHUP, "hung up")])
def test_a_command_that_is_told_to_end_leaves_nothing(tmp_path: Path, number: signal.Signals, word: str) -> None:
    (tmp_path / "many").mkdir()
    edges = "".join(f"{source},{target}\n" for source in range(1000) for target in range(1000, 1300))
    (tmp_path / "many" / "edges.csv").write_text("src,dst\n" + edges)
    (tmp_path / "many" / "graph.toml").write_text(
        '[entities.e]\nid = "int64"\n[[relations]]\nname = "r"\nsource = "e"\ntarget = "e"\nfiles = "edges.csv"\n'
    )
    out = tmp_path / "new" / "out"
    process = subprocess.Popen(
        [*COMMAND, "prepare", str(tmp_path / "many" / "graph.toml"), "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # where the tests themselves run under nohup
    )
    deadline = time.monotonic() + 60
    while not (out.parent / "out.twhin-partial").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert said.splitlines()[-1] == f"twhin: {word}; nothing half-done is left behind"
    assert not out.parent.exists()


NARROW = """
import resource, sys
from pathlib import Path
import cli.main, graph.describe, pyarrow.compute, pyarrow.csv, pyarrow.parquet
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), -1))
cli.main.main()
"""


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_file_of_edges_that_may_not_be_read_is_not_to_be_written_again(tmp_path: Path, ending: str) -> None:
    """Root, who may read everything, goes without that right here."""
    (tmp_path / f"e.{ending}").touch(0)
    (tmp_path / "graph.toml").write_text(
        '[entities.u]\nid = "int64"\n[[relations]]\nname = "r"\nsource = "u"\ntarget = "u"\n'
        + f'files = "e.{ending}"\n'
    )
    lowered = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    ask = [*lowered, sys.executable, "-c", "from cli.main import main; main()", "data", "describe"]
    done = subprocess.run([*ask, str(tmp_path / "graph.toml")], capture_output=True, text=True, check=False)
    assert done.returncode == 6, done.stderr
    assert f"e.{ending}" in done.stderr
    assert done.stderr.rstrip().endswith("Permission denied. Correct the path or its permissions.")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_too_little_memory_is_no_fault_of_the_edge_file_and_no_traceback(tmp_path: Path, ending: str) -> None:
    """Less than a thread's stack is left, as where a container may have no more of them."""
    table = pa.table({"src": list(range(1000)), "dst": list(range(1, 1001))})
    (pyarrow.csv.write_csv if ending == "csv" else pq.write_table)(table, tmp_path / f"e.{ending}")
    (tmp_path / "graph.toml").write_text(
        '[entities.u]\nid = "int64"\n[[relations]]\nname = "r"\nsource = "u"\ntarget = "u"\n'
        + f'files = "e.{ending}"\n'
    )
    ask = [sys.executable, "-c", NARROW, "data", "describe", str(tmp_path / "graph.toml")]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    assert done.returncode == 6, done.stderr
    assert "too little memory, or no further thread" in done.stderr
    assert "Traceback" not in done.stderr

"""What the command prints."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cli.output import cell, counted, emit, fail, line, next_command, plain, size, table
from cli.progress import LineProgress, TerminalProgress, readable, say
from tests.support.terminal import on_terminal


@dataclass(frozen=True)
class Answer:
    path: Path
    rows: np.ndarray
    nested: dict[str, object]


def test_arrays_paths_and_dataclasses_become_json() -> None:
    answer = Answer(Path("a/b"), np.array([1, 2], dtype=np.int32), {"recall": np.float32(0.5), "none": None})
    assert json.dumps(plain(answer)) == '{"path": "a/b", "rows": [1, 2], "nested": {"recall": 0.5, "none": null}}'


def test_bytes_are_told_in_the_units_of_memory() -> None:
    sizes = [size(n_bytes) for n_bytes in (0, 300 << 10, 240 << 20, (1 << 30) - 1, 3 << 29)]
    assert sizes == ["0.0 MiB", "0.3 MiB", "240.0 MiB", "1024.0 MiB", "1.5 GiB"]


def test_what_json_cannot_say_is_null() -> None:
    assert plain({"recall": float("nan"), "worst": np.float32("inf"), "k": 1.5}) == {
        "recall": None,
        "worst": None,
        "k": 1.5,
    }


@pytest.mark.parametrize("text", ["[/red]", "[bold]x[/bold]", ":smile:", "[1]"])
def test_text_in_a_table_stands_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    table(f"for {text}", ("id",), [[text]])
    assert capsys.readouterr().out.count(text) == 2


WIDE = (("version", "recall@10", "mode", "because"), [["20261201T051100Z-5026ea", 0.25, None, "near this and that"]])


@pytest.mark.parametrize(("width", "lines"), [(80, 5), (60, 5), (48, 4), (40, 4)])
def test_a_table_on_a_narrow_terminal_cuts_no_word(width: int, lines: int) -> None:
    program = f"from cli.output import table; table('Versions', *{WIDE!r})"
    shown = on_terminal([sys.executable, "-c", program], width).splitlines()
    assert max(map(len, shown)) <= width
    assert {"20261201T051100Z-5026ea", "0.25"} <= set(" ".join(shown).split())
    assert "…" not in "".join(shown)
    assert not any("mode" in one for one in shown)  # nobody has one
    assert len(shown) >= lines


@pytest.mark.parametrize(("name", "unit", "note"), [("Candidate lists and codes", "groups of users", "codes of items")])
@pytest.mark.parametrize("width", [80, 120])
def test_a_bar_stays_on_one_line(name: str, unit: str, note: str, width: int) -> None:
    program = (
        "import time; from cli.progress import TerminalProgress\n"
        f"with TerminalProgress().stage({name!r}, 200, {unit!r}) as stage:\n"
        f"    stage.note({note!r})\n"
        "    for _ in range(2): stage.advance(50); time.sleep(.15)"
    )
    frames = [frame.strip() for frame in re.split(r"[\r\n]+", on_terminal([sys.executable, "-c", program], width))]
    assert all(frame.startswith(name) or name in frame for frame in frames if frame)
    assert any(f"{unit}/s" in frame for frame in frames)


def test_an_id_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table("users", ("id",), [["\x1b[2Jgone\n"]])
    assert r"\x1b[2Jgone\n" in capsys.readouterr().out


def test_a_bar_takes_a_relation_by_any_name(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress().stage("reading [/x]", 3, "B") as stage:
        stage.note("[/y]")
        stage.advance(3)
    assert "reading [/x]" in capsys.readouterr().err


def test_json_goes_to_standard_output_alone(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"id": "9223372036854775807"}, True, lambda: None)
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"id": "9223372036854775807"}
    assert captured.err == ""


@pytest.mark.parametrize(
    ("item", "shown"), [(1234567, "1,234,567"), (0.123456, "0.1235"), (True, "yes"), (None, ""), ("x", "x")]
)
def test_a_table_cell_is_readable(item: object, shown: str) -> None:
    assert cell(item) == shown


def test_no_text_becomes_a_line_of_its_own_or_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\nb\x9b31m\u202ec\x7f\u200bd"
    line(f"one {name}", "two")
    say(f"three {name}")
    fail(name, "code", as_json=True)
    emit({name: name}, True, lambda: None)
    out, err = capsys.readouterr()
    for shown in (out, err):
        assert all(each.isprintable() for each in shown.split("\n"))
    assert out.split("\n")[:2] == [r"one a\nb\x9b31m\u202ec\x7f\u200bd", "two"]
    assert len(err.splitlines()) == 2
    assert json.loads(out.split("\n", 2)[2]) == {name: name}
    assert json.loads(err.splitlines()[1])["error"]["message"] == name


def test_progress_on_a_terminal_is_not_steered_by_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress().stage("reading \x1b[31mred", 2, "edges") as stage:
        stage.note("of \x1b[32mgreen")
        stage.advance(2)
    shown = capsys.readouterr().err
    assert r"reading \x1b[31mred" in shown
    assert "\x1b[31mred" not in shown.replace(r"\x1b[31mred", "")
    assert "\x1b[32mgreen" not in shown


@pytest.mark.parametrize(("number", "shown"), [(950, "950"), (12_345, "12.3k"), (4_560_000, "4.56M"), (2.5e9, "2.5G")])
def test_large_numbers_are_shortened(number: float, shown: str) -> None:
    assert readable(number) == shown


def test_progress_in_a_log_ends_each_stage_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with LineProgress().stage("Training", 100, "edges") as stage:
        for _ in range(100):
            stage.advance()
        stage.note("loss 0.5")
    assert capsys.readouterr().err.startswith("Training: 100 of 100 edges in ")


def test_a_count_of_one_is_singular() -> None:
    assert [counted(n, "epoch") for n in (0, 1, 2, 1000)] == ["0 epochs", "1 epoch", "2 epochs", "1,000 epochs"]


@pytest.mark.parametrize(
    "name", [b"a\tb", b"line\nbreak", "wide\u3000space".encode(), b"it's\\\t", b"no \xff UTF-8", b"\x01f"]
)
def test_so_can_one_with_a_name_that_is_not_shown_as_it_is(name: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    line(next_command("printf", "%s", os.fsdecode(name)))
    shown = capsys.readouterr().out.removeprefix("Next: ")
    assert subprocess.run(["bash", "-c", shown], capture_output=True, check=True).stdout == name


@pytest.mark.parametrize("name", ["plain", "with space", "quote'd", "$(rm)", "a;b", "-x", "ü"])
def test_the_next_command_can_be_pasted_into_a_shell(name: str) -> None:
    sentence = next_command("twhin", "publish", "v1", "--bundles", Path("dir") / name)
    assert shlex.split(sentence.removeprefix("Next: ")) == ["twhin", "publish", "v1", "--bundles", f"dir/{name}"]

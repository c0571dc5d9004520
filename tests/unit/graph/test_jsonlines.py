"""JSON lines: which values are read, at which line a fault is said to stand."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.errors import EdgeFileError
from bundle.progress import SilentStage
from graph import jsonlines
from graph.edge_reader import EdgeReader
from graph.files import open_edge_file
from graph.schema import RelationSpec

SPEC = RelationSpec(name="r", source="a", target="b", files=("x",), weight="w", time="t")


def read(path: Path, content: bytes | str, spec: RelationSpec = SPEC) -> list[tuple[Any, ...]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    rows: list[tuple[Any, ...]] = []
    for batch in EdgeReader(spec, "int64", "string").file_batches(open_edge_file(path, None), SilentStage()):
        weight = batch.weight.tolist() if batch.weight is not None else []
        time = batch.time.tolist() if batch.time is not None else []
        rows += zip(batch.src.tolist(), batch.dst.to_pylist(), weight, time, strict=True)
    return rows


@pytest.mark.parametrize(
    ("content", "advice"), [('[{"src": "a"}]\n', "'.[]'` does"), ('{\n "src": "a"\n}\n', "jq -c .` does")]
)
def test_json_that_is_no_json_lines_is_told_how_to_become_some(tmp_path: Path, content: str, advice: str) -> None:
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(
        EdgeFileError, match=f"line 1: .*Put each object on one line of its own, as .*{re.escape(advice)}"
    ):
        next(open_edge_file(tmp_path / "e.json", None).batches(["src"], SilentStage()))


def test_numbers_and_text(tmp_path: Path) -> None:
    content = (
        '\ufeff{"src": 9007199254740993, "dst": "é\\u0000", "w": 1, "t": 5, "more": [1, {"src": 2}]}\r\n'
        '\n{"t": "1970-01-02", "w": "2.5", "dst": 7, "src": "8"}\n'
        '  {"t": 1, "w": 0.5, "dst": "x", "src": 8, "src": 9}'
    )
    rows = [(9007199254740993, "é\0".encode(), 1, 5), (8, b"7", 2.5, 86_400), (9, b"x", 0.5, 1)]
    with pytest.raises(EdgeFileError, match=r"line 4, column 'w': found '0\.5', expected text or a whole number, as"):
        read(tmp_path / "e.jsonl", content)
    content = content.replace('"2.5"', "2.5")
    assert read(tmp_path / "e.jsonl", content) == rows
    assert read(tmp_path / "e.json", content.encode("utf-16")) == rows
    assert read(tmp_path / "e.ndjson.gz", gzip.compress(content.encode())) == rows
    assert read(tmp_path / "e.jsonl.zst", pa.compress(content.encode(), codec="zstd", asbytes=True)) == rows


GOOD = '{"src": 1, "dst": "a", "w": 1, "t": 1}\n'
FAULTS = {
    "no object": ("[1, 2]\n", "line 3: found '.1, 2.', expected one JSON object"),
    "an array of objects": ('[{"src": 1},\n{"src": 2}]\n', "line 3: found .*, expected one JSON object"),
    "two in a line": (GOOD.strip() + GOOD, "line 3: found .*, expected one JSON object"),
    "one in two lines": (GOOD.replace(",", ",\n", 1), "line 3: found .*, expected one JSON object"),
    "cut": (GOOD[:20] + "\n", "line 3: found .*, expected one JSON object"),
    "NaN": (GOOD.replace('"w": 1', '"w": NaN'), "line 3: found .*, expected one JSON object"),
    "huge": (GOOD.replace('"w": 1', '"w": 1e400'), "line 3: found .*, expected one JSON object"),
    "not UTF-8": (GOOD.replace("a", "\udcff"), "line 3: found .*, expected one JSON object"),
    "half a surrogate": (GOOD.replace("a", "\\ud800"), "line 3: found .*, expected one JSON object"),
    "deep arrays": (
        GOOD.replace("{", '{"x": ' + "[" * 5000 + "]" * 5000 + ", "),
        "line 3: found .*, expected one JSON",
    ),
    "deep objects": (
        GOOD.replace("{", '{"x": ' + '{"a":' * 5000 + "1" + "}" * 5001, 1),
        "line 3: found .*, expected one",
    ),
    "null": (GOOD.replace("1", "null", 1), r"line 3, column 'src': found nothing \(null\)"),
    "missing": ('{"src": 1, "w": 1, "t": 1}\n', r"line 3, column 'dst': found nothing \(null\)"),
    "true": (GOOD.replace('"a"', "true"), "line 3, column 'dst': found 'true', expected text"),
    "a list": (GOOD.replace('"a"', "[1]"), r"line 3, column 'dst': found '\[1\]', expected text"),
    "float id": (GOOD.replace("1", "1.0", 1), "column 'src': found a column of type double"),
    "large": (GOOD.replace("1", "9223372036854775808", 1), "line 3, column 'src': found '9223372036854775808'"),
    "negative": (GOOD.replace("1", "-1", 1), "line 3, column 'src': found -1,"),
    "word": (GOOD.replace("1", '"x"', 1), "line 3, column 'src': found 'x'"),
    "negative weight": (GOOD.replace('"w": 1', '"w": -0.5'), "line 3, column 'w': found -0.5"),
    "fraction": (GOOD.replace('"t": 1', '"t": 1.5'), "line 3, column 't': found 1.5"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found_at_their_line(tmp_path: Path, name: str) -> None:
    line, message = FAULTS[name]
    content = (GOOD + "\n" + line + GOOD).encode(errors="surrogateescape")
    with pytest.raises(EdgeFileError, match=message) as caught:
        read(tmp_path / "e.jsonl", content)
    assert "\n" not in str(caught.value)


def test_a_missing_key_and_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(EdgeFileError, match="column 'dst' is missing; the file has 'src', 'w', 't'"):
        read(tmp_path / "e.jsonl", '{"src": 1, "w": 1, "t": 1}\n')
    assert read(tmp_path / "e.jsonl", "\n \n") == []


def test_the_first_object_may_lack_what_others_have(tmp_path: Path) -> None:
    lines = '{}\n{"dst": "a", "w": 1, "t": 1}\n' + GOOD
    with pytest.raises(EdgeFileError, match=r"line 1, column 'src': found nothing \(null\).* 1 more like it: line 2"):
        read(tmp_path / "e.jsonl", lines)
    file = open_edge_file(tmp_path / "e.jsonl", None)
    assert file.names(["src"]) == ("dst", "w", "t", "src")


def test_further_lines_that_are_no_objects_are_told(tmp_path: Path) -> None:
    with pytest.raises(EdgeFileError, match=r"line 2: .* At least 3 more like it: line 3, line 5, line 6\.$"):
        read(tmp_path / "e.jsonl", GOOD + "[1]\n{\n" + GOOD + "x\n{} {}\n")


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonlines, "MAX_LINE_BYTES", 1 << 21)
    with pytest.raises(EdgeFileError, match="line 2: longer than 2097152 bytes"):
        read(tmp_path / "e.jsonl", GOOD + '{"text": "' + "x" * (1 << 22))


values = st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 9), st.text(max_size=4).filter(bool), st.none())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(values, values), min_size=1, max_size=40), block=st.sampled_from([16, 17, 64, 1 << 20]))
def test_what_is_read_is_what_python_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[tuple[Any, Any]], block: int
) -> None:
    monkeypatch.setattr(jsonlines, "BLOCK_BYTES", block)
    lines = [json.dumps({"src": src, "dst": dst}, ensure_ascii=bool(len(rows) % 2)) for src, dst in rows]
    (tmp_path / "e.jsonl").write_text("\n".join(lines), encoding="utf-8")
    reader = EdgeReader(RelationSpec(name="r", source="a", target="b", files=("x",)), "string", "string")
    found = []
    try:
        for batch in reader.file_batches(open_edge_file(tmp_path / "e.jsonl", None), SilentStage()):
            found += zip(batch.src.to_pylist(), batch.dst.to_pylist(), strict=True)
    except EdgeFileError:
        assert any(value is None for row in rows for value in row)
    else:
        assert found == [(str(src).encode(), str(dst).encode()) for src, dst in rows]

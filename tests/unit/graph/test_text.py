"""Text files: what survives the reading, and where a fault is said to stand."""

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle.errors import EdgeFileError
from bundle.progress import SilentStage
from graph import text
from graph.files import open_edge_file


def read(path: Path, content: bytes, columns: list[str] | None = None) -> list[tuple[bytes, bytes]]:
    path.write_bytes(content)
    rows: list[tuple[bytes, bytes]] = []
    for batch in open_edge_file(path, columns).batches(["src", "dst"], SilentStage()):
        rows += zip(batch.column("src").to_pylist(), batch.column("dst").to_pylist(), strict=True)
    return rows


SAME_EVERYWHERE: dict[str, tuple[bytes, list[tuple[bytes, bytes]]]] = {
    "plain": (b"src,dst\n1,2\n3,4\n", [(b"1", b"2"), (b"3", b"4")]),
    "no newline at the end": (b"src,dst\n1,2", [(b"1", b"2")]),
    "byte order mark": (b"\xef\xbb\xbfsrc,dst\n1,2\n", [(b"1", b"2")]),
    "CRLF": (b"src,dst\r\n1,2\r\n3,4\r\n", [(b"1", b"2"), (b"3", b"4")]),
    "blank lines": (b"\nsrc,dst\n\n1,2\n\n\n3,4\n\n", [(b"1", b"2"), (b"3", b"4")]),
    "words that look like nothing": (b"src,dst\nNA,null\nNaN,007\n", [(b"NA", b"null"), (b"NaN", b"007")]),
    "empty fields": (b"src,dst\n,\na,\n", [(b"", b""), (b"a", b"")]),
    "other columns and order": (b"x,dst,y,src\n9,2,8,1\n", [(b"1", b"2")]),
    "spaces": (b"src,dst\n a ,b \n", [(b" a ", b"b ")]),
    "header alone": (b"src,dst\n", []),
    "header alone without newline": (b"src,dst", []),
}


@pytest.mark.parametrize("name", SAME_EVERYWHERE)
def test_csv_and_tsv_alike(tmp_path: Path, name: str) -> None:
    content, rows = SAME_EVERYWHERE[name]
    assert read(tmp_path / "e.csv", content) == rows
    assert read(tmp_path / "e.tsv", content.replace(b",", b"\t")) == rows


def test_csv_fields_may_be_quoted(tmp_path: Path) -> None:
    rows = read(tmp_path / "e.csv", b'src,dst\n"a,b","say ""x"""\n"",c"d\n')
    assert rows == [(b"a,b", b'say "x"'), (b"", b'c"d')]


def test_tsv_knows_no_quotes(tmp_path: Path) -> None:
    assert read(tmp_path / "e.tsv", b'src\tdst\n"a,b\t"\n') == [(b'"a,b', b'"')]


def test_columns_stand_in_for_a_header(tmp_path: Path) -> None:
    assert read(tmp_path / "e.tsv", b"1\t2\n3\t4\n", ["src", "dst"]) == [(b"1", b"2"), (b"3", b"4")]
    assert read(tmp_path / "e.tsv", b"1\tx\t2\n", ["src", "other", "dst"]) == [(b"1", b"2")]


def test_gzip_with_several_members(tmp_path: Path) -> None:
    content = gzip.compress(b"src,dst\n1,2\n") + gzip.compress(b"3,4\n")
    assert read(tmp_path / "e.csv.gz", content) == [(b"1", b"2"), (b"3", b"4")]


def test_blocks_do_not_cut_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "BLOCK_BYTES", 64)
    expected = [(b"%d" % i, b"%d" % (i * i)) for i in range(1000)]
    content = b"src,dst\n" + b"".join(b"%s,%s\n" % row for row in expected)
    assert read(tmp_path / "e.csv", content) == expected


FAULTS: dict[str, tuple[str, bytes, str]] = {
    "empty": ("e.csv", b"", "is empty"),
    "blank": ("e.csv", b"\n\n", "is empty"),
    "missing column": (
        "e.csv",
        b"src,target\n1,2\n",
        r"column 'dst' is missing; the file has 'src', 'target'\. If the",
    ),
    "no header": ("e.tsv", b"1\t2\n", r"column 'src' is missing; the file has '1', '2'.*add columns"),
    "column twice": ("e.csv", b"src,dst,src\n1,2,3\n", "column 'src' is there 2 times"),
    "too few": ("e.csv", b"src,dst\n1,2\n\n3\n4,5\n", "line 4: found 1 fields in '3', expected 2"),
    "too many": ("e.csv", b"src,dst\n1,2\n4,5,6\n", "line 3: found 3 fields in '4,5,6', expected 2"),
    "too many TSV": ("e.tsv", b"src\tdst\n1\t2\n4\t5\t6\n", r"line 3: found 3 fields in '4\\t5\\t6', expected 2"),
    "trailing comma": ("e.csv", b"src,dst\n1,2,\n", "line 2: found 3 fields"),
    "unclosed quote": ("e.csv", b'src,dst\n1,2\n"3,4\n5,6\n', "found 1 fields"),
    "not gzip": ("e.csv.gz", b"src,dst\n1,2\n", "cannot be read"),
    "cut gzip": ("e.csv.gz", gzip.compress(b"src,dst\n" + b"1,2\n" * 5000)[:-9], "cannot be read"),
    "cut gzip header": ("e.csv.gz", gzip.compress(b"src,dst\n1,2\n")[:6], "cannot be read"),
    "not Parquet": ("e.parquet", b"src,dst\n1,2\n", "is not a readable Parquet file"),
    "no Parquet": ("e.parquet", b"", "is not a readable Parquet file"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(tmp_path: Path, name: str) -> None:
    file, content, message = FAULTS[name]
    with pytest.raises(EdgeFileError, match=message) as caught:
        read(tmp_path / file, content)
    assert str(tmp_path / file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_long_findings_are_cut_and_escaped(tmp_path: Path) -> None:
    with pytest.raises(EdgeFileError) as caught:
        read(tmp_path / "e.csv", b"src,dst\n1,2\n\x1b[31m" + b"z" * 9999 + b"\n")
    assert "\\x1b[31mzzz" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_cut_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    table: Any = pa.table({"src": list(range(1000)), "dst": list(range(1000))})
    pq.write_table(table, path)
    content = path.read_bytes()
    with pytest.raises(EdgeFileError, match="is not a readable Parquet file"):
        read(path, content[: len(content) // 2])


def test_a_missing_parquet_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"src": [1], "target": [2]}), tmp_path / "e.parquet")
    with pytest.raises(EdgeFileError, match="column 'dst' is missing; the file has 'src', 'target'"):
        read(tmp_path / "e.parquet", (tmp_path / "e.parquet").read_bytes())


def test_places_count_header_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_bytes(b"\xef\xbb\xbfsrc,dst\n\n1,2\n\n3,4\n")
    table = open_edge_file(path, None)
    assert [table.place(row) for row in range(3)] == ["line 3", "line 5", "data row 3"]
    assert open_edge_file(tmp_path / "e.parquet", None).place(0) == "row 1"


class Counting:
    """A stage that adds up what it is told."""

    def __init__(self) -> None:
        self.done = 0

    def advance(self, n: int = 1) -> None:
        self.done += n

    def note(self, text: str) -> None:
        pass


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.parquet"])
def test_progress_adds_up_to_the_size_of_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    lines = b"src,dst\n" + b"".join(b"%d,%d\n" % (i, i + 1) for i in range(5000))
    path.write_bytes(gzip.compress(lines) if name.endswith("gz") else lines)
    if name.endswith("parquet"):
        pq.write_table(pa.table({"src": list(range(5000)), "dst": list(range(5000))}), path)
    stage = Counting()
    for _ in open_edge_file(path, None).batches(["src", "dst"], stage):
        pass
    assert stage.done == path.stat().st_size

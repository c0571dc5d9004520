"""Text files: what survives the reading, and where a fault is said to stand."""

import bz2
import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle.errors import EdgeFileError
from bundle.progress import SilentStage
from graph import text
from graph.files import open_edge_file
from graph.textstream import TextStream, file_opener

Compress = Callable[[bytes], bytes]
COMPRESSED: list[tuple[str, Compress]] = [
    (".gz", gzip.compress),
    (".bz2", bz2.compress),
    (".zst", lambda data: pa.compress(data, codec="zstd", asbytes=True)),
]


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
    "carriage returns": (b"src,dst\r1,2\r\r3,4", [(b"1", b"2"), (b"3", b"4")]),
    "UTF-16": ("src,dst\né,😀\n".encode("utf-16"), [("é".encode(), "😀".encode())]),
    "CRLF": (b"src,dst\r\n1,2\r\n3,4\r\n", [(b"1", b"2"), (b"3", b"4")]),
    "blank lines": (b"\nsrc,dst\n\n1,2\n\n\n3,4\n\n", [(b"1", b"2"), (b"3", b"4")]),
    "words that look like nothing": (b"src,dst\nNA,null\nNaN,007\n", [(b"NA", b"null"), (b"NaN", b"007")]),
    "empty fields": (b"src,dst\n,\na,\n", [(b"", b""), (b"a", b"")]),
    "other columns and order": (b"x,dst,y,src\n9,2,8,1\n", [(b"1", b"2")]),
    "spaces": (b"src,dst\n a ,b \n", [(b" a ", b"b ")]),
    "nothing": (b"", []),
    "blank lines alone": (b"\n\r\n", []),
    "header alone": (b"src,dst\n", []),
    "header alone without newline": (b"src,dst", []),
}


@pytest.mark.parametrize("name", SAME_EVERYWHERE)
def test_csv_and_tsv_alike(tmp_path: Path, name: str) -> None:
    content, rows = SAME_EVERYWHERE[name]
    assert read(tmp_path / "e.csv", content) == rows
    tabs = content.replace(b",\0", b"\t\0") if content.startswith(b"\xff\xfe") else content.replace(b",", b"\t")
    assert read(tmp_path / "e.tsv", tabs) == rows


def test_csv_fields_may_be_quoted(tmp_path: Path) -> None:
    rows = read(tmp_path / "e.csv", b'src,dst\n"a,b","say ""x"""\n"",c"d\n')
    assert rows == [(b"a,b", b'say "x"'), (b"", b'c"d')]


def test_quoted_line_breaks_are_part_of_the_value(tmp_path: Path) -> None:
    rows = read(tmp_path / "e.csv", b'src,dst,text\r\n"a\r\nb","c\nd","\r\n,\r\n"\r\n1,2,"x\r\n3,4"\r\n')
    assert rows == [(b"a\r\nb", b"c\nd"), (b"1", b"2")]


def test_a_quote_within_a_field_that_is_not_quoted_is_a_character(tmp_path: Path) -> None:
    assert read(tmp_path / "e.csv", b'src,dst,text\n1,5" pipe,x\n3,4,y\n') == [(b"1", b'5" pipe'), (b"3", b"4")]


@pytest.mark.parametrize("delimiter", [b";", b"\t", b"|"])
def test_csv_may_have_other_delimiters_where_the_header_shows_it(tmp_path: Path, delimiter: bytes) -> None:
    content = b'x,y;src;"dst"\n1,5;"a;b";c\n'.replace(b";", delimiter)
    assert read(tmp_path / "e.csv", content) == [(b"a;b".replace(b";", delimiter), b"c")]
    headerless = b"a;b;0,5\n".replace(b";", delimiter)
    assert read(tmp_path / "e.csv", headerless, ["src", "dst", "w"]) == [(b"a", b"b")]


def test_tsv_knows_no_quotes(tmp_path: Path) -> None:
    assert read(tmp_path / "e.tsv", b'src\tdst\n"a,b\t"\n') == [(b'"a,b', b'"')]


def test_columns_stand_in_for_a_header(tmp_path: Path) -> None:
    assert read(tmp_path / "e.tsv", b"1\t2\n3\t4\n", ["src", "dst"]) == [(b"1", b"2"), (b"3", b"4")]
    assert read(tmp_path / "e.tsv", b"1\tx\t2\n", ["src", "other", "dst"]) == [(b"1", b"2")]


@pytest.mark.parametrize(("ending", "compress"), COMPRESSED)
def test_compressed_files_of_several_members(tmp_path: Path, ending: str, compress: Compress) -> None:
    content = compress(b"src,dst\n1,2\n") + compress(b"3,4\n")
    assert read(tmp_path / f"e.csv{ending}", content) == [(b"1", b"2"), (b"3", b"4")]
    assert read(tmp_path / f"e.tsv{ending.upper()}", compress(b"src\tdst\n5\t6\n")) == [(b"5", b"6")]


@pytest.mark.parametrize(("ending", "compress"), COMPRESSED)
def test_a_cut_compressed_file(tmp_path: Path, ending: str, compress: Compress) -> None:
    content = compress(b"src,dst\n" + b"1,2\n" * 5000)
    for cut in (content[:6], content[:-1], b"src,dst\n1,2\n"):
        with pytest.raises(EdgeFileError, match="cannot be read"):
            read(tmp_path / f"e.csv{ending}", cut)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b"\r\r", b"\n\r"])
def test_no_line_end_is_lost_where_a_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    monkeypatch.setattr(text, "BLOCK_BYTES", 64)
    for length in range(40, 150):
        content = b"src,dst" + end + b"1," + b"x" * (length % 40) + end + b"2,y" * (length > 90) + end * (length > 80)
        rows = list(csv.reader(io.StringIO(content.decode(), newline="")))[1:]
        expected = [(row[0].encode(), row[1].encode()) for row in rows if row]
        assert read(tmp_path / "e.csv", content) == expected
        assert read(tmp_path / "e.csv", content.decode().encode("utf-16")) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("rows", [20_000, 27_001, 40_000])
def test_reviews_with_line_breaks_make_no_edges(tmp_path: Path, rows: int, end: str) -> None:
    """Several blocks of text in which a column that nobody reads holds lines that look like edges."""
    review = f'"Went there.{end}Well, Bob, fine{end}Good, cheap"'
    content = f"src,dst,text{end}" + "".join(f"u{i},p{i % 500},{review}{end}" for i in range(rows))
    edges = read(tmp_path / "e.csv", content.encode())
    assert edges == [(b"u%d" % i, b"p%d" % (i % 500)) for i in range(rows)]


def test_blocks_do_not_cut_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "BLOCK_BYTES", 64)
    expected = [(b"%d" % i, b"%d" % (i * i)) for i in range(1000)]
    content = b"src,dst\n" + b"".join(b"%s,%s\n" % row for row in expected)
    assert read(tmp_path / "e.csv", content) == expected


FAULTS: dict[str, tuple[str, bytes, str]] = {
    "missing column": (
        "e.csv",
        b"src,target\n1,2\n",
        r"column 'dst' is missing; the file has 'src', 'target'\. Correct the",
    ),
    "no header": ("e.tsv", b"1\t2\n", r"column 'src' is missing; the file has '1', '2'.*add columns"),
    "column twice": ("e.csv", b"src,dst,src\n1,2,3\n", "column 'src' is there 2 times"),
    "zero bytes": ("e.csv", b'src,dst,t\n1,2,a\n3,4,"\n\0"\n', "line 3: found a zero byte, which text has not"),
    "zero bytes hide delimiters": (
        "e.csv",
        b'a,src,dst\n"q",2,3\n"- NA\r\n\r\nNA\x00",1969-12-31T23:59:58,7133426334048957552\n" \r\n","2026-01-31",1\n',
        "line 3: found a zero byte",
    ),
    "ragged and not UTF-8": ("e.csv", b"src,dst\n1,2\n3,\xff,5\n6,7\n", r"line 3: found 3 fields in '3,\\udcff,5'"),
    "too few": ("e.csv", b"src,dst\n1,2\n\n3\n4,5\n", "line 4: found 1 fields in '3', expected 2"),
    "too many": ("e.csv", b"src,dst\n1,2\n4,5,6\n", "line 3: found 3 fields in '4,5,6', expected 2"),
    "too many TSV": ("e.tsv", b"src\tdst\n1\t2\n4\t5\t6\n", r"line 3: found 3 fields in '4\\t5\\t6', expected 2"),
    "trailing comma": ("e.csv", b"src,dst\n1,2,\n", "line 2: found 3 fields"),
    "unclosed quote": (
        "e.csv",
        b'src,dst\n1,2\n"3,4\n5,6\n',
        r"line 3: a field is quoted to the end of the file: '3,4\\n5,6\\n'\. Close the quote",
    ),
    "unclosed quote elsewhere": (
        "e.csv",
        b'src,dst,text\n1,2,"5"" pipe"\n3,4,"oops\n5,6,fine\n',
        r"line 3: a field is quoted to the end of the file: 'oops\\n5,6,fine\\n'\. Close the quote",
    ),
    "unclosed quote after one that is no quote": (
        "e.csv",
        b'src,dst,text\n1,2,5" pipe\n3,4,"oops\n5,6,fine',
        r"line 3: a field is quoted to the end of the file: 'oops\\n5,6,fine'\. Close the quote",
    ),
    "two unclosed quotes": (
        "e.csv",
        b'src,dst,text\n1,2,5" pipe"\n3,4,"7 inch\n5,6,fine\n7,8,"9 inch\n1,8,fine',
        r"line 3: a quoted field goes on to line 5, where text follows its closing quote\. Close the quote",
    ),
    "unclosed quote in a long file": (
        "e.csv",
        b'src,dst,text\n1,2,"oops\n' + b"5,6,fine\n" * 300_000,
        "line 2: a line is longer than 1048576 bytes, or a quote is not closed",
    ),
    "long line": (
        "e.tsv",
        b"src\tdst\tx\n1\t2\t3\n1\t2\t" + b"x" * 3_000_000 + b"\n3\t4\t5\n",
        "line 3: a line is longer",
    ),
    "long record": (
        "e.csv",
        b"src,dst," + b",".join(b"%d" % i for i in range(20)) + b"\n1,2," + b",".join([b"x" * 120_000] * 20) + b"\n",
        "line 2: a line is longer than 1048576 bytes",
    ),
    "cut UTF-16": ("e.csv", "src,dst\n1,2\n".encode("utf-16")[:-1], "cannot be read as text"),
    "UTF-16 unmarked": (
        "e.csv",
        "src,dst\n1,2\n".encode("utf-16-le"),
        "line 1: found a zero byte.*write UTF-16 as UTF-8",
    ),
    "commas in TSV": ("e.tsv", b"src,dst\n1,2\n", r"apart by ',': let its name end in \.csv"),
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


@pytest.mark.parametrize(
    ("content", "columns", "said"),
    [
        (b"src,dst\na,b\nsrc,dst\nc,d\n", None, "line 3: it holds the names of the columns, as a header does. Remove"),
        (b'x,src,dst\n1,a,b\n2,src,b\n3,"src",dst\n', None, "line 4: it holds the names"),
        (
            b"src,dst\na,b\n",
            ["src", "dst"],
            "line 1: it holds the names of the columns, as a header does. Remove `columns`",
        ),
        (b"a,b\nsrc,dst\n", ["src", "dst"], "line 2: it holds .* Remove the line"),
    ],
)
def test_a_header_is_no_edge(tmp_path: Path, content: bytes, columns: list[str] | None, said: str) -> None:
    """As where one file was appended to another."""
    with pytest.raises(EdgeFileError, match=said):
        read(tmp_path / "e.csv", content, columns)


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [512, 514, 515, 516, 517, 1 << 20])
def test_a_byte_order_mark_within_a_file_is_part_of_no_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes, size: int
) -> None:
    """As where files that begin with one were appended to one another, wherever a block ends."""
    monkeypatch.setattr(text, "BLOCK_BYTES", size)
    one = BOM + b"".join(line + end for line in (b"src,dst", *(b"a%03d,b" % i for i in range(60))))
    with pytest.raises(
        EdgeFileError, match="line 62: it begins with a byte order mark, as where one file was appended"
    ):
        read(tmp_path / "e.csv", one + one)
    with pytest.raises(EdgeFileError, match="line 62: it begins with a byte order mark"):
        read(tmp_path / "e.csv", one + BOM + b"c,d" + end)
    assert len(read(tmp_path / "e.csv", one)) == 60
    unread = b"x,src,dst" + end + b"1,a,b" + end + BOM + b"2,a,c" + end
    assert len(read(tmp_path / "e.csv", unread)) == 2


@pytest.mark.parametrize(
    "content", [b"note,src,dst\nx,a,b\n" + BOM + b"x,a,b\n", b'src,note,dst\n"a\n' + BOM + b'c",x,b\n']
)
def test_a_mark_that_is_part_of_no_id_costs_no_more_readings_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    path = tmp_path / "e.csv"
    path.write_bytes(content + b"y,z,b\n" * 1_000)

    def readings(block_bytes: int) -> tuple[int, int]:
        monkeypatch.setattr(text, "BLOCK_BYTES", block_bytes)
        opened: list[TextStream] = []

        def opener() -> TextStream:
            opened.append(file_opener(path)())
            return opened[-1]

        file = text.TextEdgeFile(path, text.CSV_DELIMITERS, None, opener)
        return sum(1 for _ in file.batches(["src", "dst"], SilentStage())), len(opened)

    (few, least), (many, most) = readings(1 << 20), readings(512)
    assert few < 5 < many
    assert most == least


def test_an_entity_may_be_called_as_a_column_is(tmp_path: Path) -> None:
    assert read(tmp_path / "e.csv", b"src,dst\nsrc,b\na,dst\n") == [(b"src", b"b"), (b"a", b"dst")]


def test_text_that_is_parquet_is_called_so(tmp_path: Path) -> None:
    pq.write_table(pa.table({"src": [1], "dst": [2]}), tmp_path / "e.parquet")
    with pytest.raises(EdgeFileError, match=r"begins as \.parquet files do: if it is one, call it 'e\.parquet'"):
        read(tmp_path / "e.csv", (tmp_path / "e.parquet").read_bytes())


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
    assert table.places([0, 1, 2]) == ["line 3", "line 5", "data row 3"]
    assert open_edge_file(tmp_path / "e.parquet", None).places([0]) == ["row 1"]


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


EDGES = b"src,dst\n" + b"".join(b"%d,%d\n" % (number, number + 1) for number in range(20_000))


@pytest.mark.parametrize("zeros", [1, 511, 1_000_000])
@pytest.mark.parametrize("parts", [1, 2])
def test_zeros_after_a_gzip_file_are_none_of_its_text(tmp_path: Path, zeros: int, parts: int) -> None:
    """As dd and tapes fill up their last block."""
    middle = len(EDGES) // 2
    packed = b"".join(map(gzip.compress, [EDGES] if parts == 1 else [EDGES[:middle], b"", EDGES[middle:]]))
    wanted = read(tmp_path / "e.csv", EDGES)
    assert len(wanted) == 20_000
    assert read(tmp_path / "e.csv.gz", packed + zeros * b"\0") == wanted
    lines = "".join(f'{{"src": "{src.decode()}", "dst": "{dst.decode()}"}}\n' for src, dst in wanted[:1000])
    found = read(tmp_path / "e.jsonl.gz", gzip.compress(lines.encode()) + zeros * b"\0")
    assert [(str(src).encode(), str(dst).encode()) for src, dst in found] == wanted[:1000]


WHOLE = gzip.compress(b"src,dst\n1,2\n" * 1000)
NO_GZIP = {
    "something after its end": (WHOLE + b"\0\0more", "after the end of its compressed data comes something else"),
    "something right after its end": (WHOLE + b"x", "after the end of its compressed data comes something else"),
    "it is cut": (WHOLE[:-20], "it ends in the middle of its compressed data"),
    "its checksum is cut": (WHOLE[:-1], "it ends in the middle of its compressed data"),
    "its second part is cut": (WHOLE + WHOLE[:-1], "it ends in the middle of its compressed data"),
    "another checksum": (WHOLE[:-8] + bytes(4) + WHOLE[-4:], "incorrect data check"),
    "zeros alone": (bytes(1000), "incorrect header check"),
}


@pytest.mark.parametrize("name", ["e.csv.gz", "e.jsonl.gz"])
@pytest.mark.parametrize("fault", NO_GZIP)
def test_a_gzip_file_that_is_damaged_is_refused(tmp_path: Path, fault: str, name: str) -> None:
    content, words = NO_GZIP[fault]
    with pytest.raises(EdgeFileError, match=rf"{name} cannot be read as text: .*{words}"):
        read(tmp_path / name, content)

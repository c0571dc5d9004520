"""What an error says to do works: each piece of advice is followed, and the graph is read."""

import base64
import bz2
import gzip
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from bundle.errors import GraphError
from graph.prepare import prepare

TOML = """
[entities.user]
id = "int64"
[[relations]]
name = "follows"
source = "user"
target = "user"
files = "FILES"
EXTRA
"""
Follow = Callable[[Path, str], None]


def toml(directory: Path, files: str, extra: str = "") -> Path:
    path = directory / "graph.toml"
    path.write_text(TOML.replace("FILES", files).replace("EXTRA", extra))
    return path


def advice_helps(directory: Path, message: str, follow: Follow) -> None:
    """The graph is refused with `message`; after `follow` it is read."""
    with pytest.raises(GraphError, match=message) as caught:
        prepare(directory / "graph.toml", directory / "out")
    follow(directory, str(caught.value))
    assert len(prepare(directory / "graph.toml", directory / "out").relations[0].train) > 0


def string_ids(directory: Path, message: str) -> None:
    assert 'id = "string"' in message
    path = directory / "graph.toml"
    path.write_text(path.read_text().replace('"int64"', '"string"'))


TEXT_IDS = {
    "a word": "1,2\nx,3\n",
    "a float": "1,2\n1.5,3\n",
    "leading zeros": "007,3\n",
    "negative": "-1,3\n",
    "too large": "99999999999999999999,1\n",
}


@pytest.mark.parametrize("name", TEXT_IDS)
def test_text_that_is_no_integer_may_be_a_string(tmp_path: Path, name: str) -> None:
    (tmp_path / "e.csv").write_text("src,dst\n" + TEXT_IDS[name])
    toml(tmp_path, "e.csv")
    advice_helps(tmp_path, r'Correct the row, or set id = "string" for the entity type\.', string_ids)


@pytest.mark.parametrize("bad", ["", "x" * 257, "\udcff"])
def test_no_string_is_advised_where_that_would_be_refused_too(tmp_path: Path, bad: str) -> None:
    (tmp_path / "e.csv").write_bytes(f"src,dst\n1,2\n{bad},3\n".encode(errors="surrogateescape"))
    toml(tmp_path, "e.csv")

    def remove(directory: Path, message: str) -> None:
        assert 'id = "string"' not in message
        lines = (directory / "e.csv").read_bytes().splitlines(keepends=True)
        (directory / "e.csv").write_bytes(b"".join(lines[:2]))

    advice_helps(tmp_path, r"line 3, column 'src': .*Correct or remove the row\.", remove)


COLUMNS: dict[str, tuple[Any, str, Callable[[Any], Any] | None]] = {
    "floats": (pa.array([1.0, 2.0]), "Write the column as integers", lambda column: column.cast(pa.int64())),
    "booleans": (pa.array([True, False]), "Write the column as integers", lambda column: column.cast(pa.int64())),
    "UUIDs": (pa.array([uuid.UUID(int=i).bytes for i in (1, 2)], pa.binary(16)), 'id = "string"', None),
    "unsigned": (pa.array([1, 2**64 - 1], pa.uint64()), 'id = "string"', None),
    "decimals": (pa.array([Decimal(1), Decimal(10**30)], pa.decimal128(38, 0)), 'id = "string"', None),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_of_another_type(tmp_path: Path, name: str) -> None:
    column, message, convert = COLUMNS[name]
    pq.write_table(pa.table({"src": column, "dst": ["7", "8"]}), tmp_path / "e.parquet")
    toml(tmp_path, "e.parquet")

    def rewrite(directory: Path, message: str) -> None:
        assert convert is not None
        pq.write_table(pa.table({"src": convert(column), "dst": ["7", "8"]}), directory / "e.parquet")

    advice_helps(tmp_path, message, string_ids if convert is None else rewrite)


def test_a_float_column_is_no_string_either_and_no_such_advice_is_given(tmp_path: Path) -> None:
    pq.write_table(pa.table({"src": [1.0, 2.0], "dst": ["7", "8"]}), tmp_path / "e.parquet")
    string_ids(tmp_path, 'id = "string"' if toml(tmp_path, "e.parquet") else "")

    def as_text(directory: Path, message: str) -> None:
        pq.write_table(pa.table({"src": ["1.0", "2.0"], "dst": ["7", "8"]}), directory / "e.parquet")

    advice_helps(tmp_path, r"Write the column as text or as integers; a float cannot hold every id\.", as_text)


@pytest.mark.parametrize(("key", "message"), [("weight", "as numbers"), ("time", "as integers, dates or timestamps")])
def test_weights_and_times_of_another_type(tmp_path: Path, key: str, message: str) -> None:
    pq.write_table(pa.table({"src": [1], "dst": [2], "x": [True]}), tmp_path / "e.parquet")
    toml(tmp_path, "e.parquet", f'{key} = "x"')

    def rewrite(directory: Path, message: str) -> None:
        pq.write_table(pa.table({"src": [1], "dst": [2], "x": [1]}), directory / "e.parquet")

    advice_helps(tmp_path, rf"column 'x': found a column of type bool.*Write the column {message}\.", rewrite)


@pytest.mark.parametrize(
    ("row", "extra"), [("1,2", ""), ("1,2,0,x", ""), ("1,2,5", 'src = "user"\ndst = "friend"\nweight = "w"')]
)
def test_the_names_of_columns_for_a_file_without_a_header(tmp_path: Path, row: str, extra: str) -> None:
    (tmp_path / "e.csv").write_text(row + "\n" + row.replace("2", "3") + "\n")
    path = toml(tmp_path, "e.csv", extra)

    def add_columns(directory: Path, message: str) -> None:
        names = re.search(r"add (columns = \[.*\]), in its order, to the relation", message)
        assert names is not None
        path.write_text(path.read_text() + names[1] + "\n")

    advice_helps(tmp_path, "If the file has no header line, add columns", add_columns)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_how_columns_of_other_names_are_named(tmp_path: Path, ending: str) -> None:
    """Followed twice: once for each end."""
    (tmp_path / "e.csv").write_text('Cook ID,The "Recipe"\n1,2\n3,4\n'.replace('The "Recipe"', '"The ""Recipe"""'))
    pq.write_table(pa.table({"Cook ID": [1, 3], 'The "Recipe"': [2, 4]}), tmp_path / "e.parquet")
    path = toml(tmp_path, f"e.{ending}")
    for end in ("src", "dst"):
        with pytest.raises(GraphError, match=f"column '{end}' is missing") as caught:
            prepare(path, tmp_path / "out")
        named = re.search(r"name the column in graph.toml, as in (.*)\.$", str(caught.value))
        assert named is not None
        path.write_text(path.read_text() + named[1] + "\n")
    assert len(prepare(path, tmp_path / "out").relations[0].train) > 0


@pytest.mark.parametrize(("header", "named"), [("dst,from", 'src = "from"'), ("id,src,to", 'dst = "to"')])
def test_the_other_end_is_not_named_as_the_missing_one(tmp_path: Path, header: str, named: str) -> None:
    writes(tmp_path / "e.csv", f"{header}\n1,2{',3' * (header.count(',') - 1)}\n")
    path = toml(tmp_path, "e.csv")

    def name(directory: Path, message: str) -> None:
        assert "no header" not in message
        path.write_text(path.read_text() + named + "\n")

    advice_helps(tmp_path, f"name the column in graph.toml, as in {named}.$", name)


def test_no_column_is_named_where_a_later_line_names_them(tmp_path: Path) -> None:
    writes(tmp_path / "e.csv", "a,b\n1,2\nsrc,dst\n3,4\n")
    toml(tmp_path, "e.csv")
    follow = writes_to(tmp_path / "e.csv", "src,dst\n3,4\n")
    advice_helps(
        tmp_path, r"remove what stands before it\. Correct the file or name the column in graph\.toml\.$", follow
    )


@pytest.mark.parametrize(
    ("name", "delimiter", "said"),
    [("e.csv", "::", "'::', which is not read: write ',' instead."), ("e.tsv", ",", "',': let its name end in .csv.")],
)
def test_ratings_without_a_header_that_are_apart_by_something_else(
    tmp_path: Path, name: str, delimiter: str, said: str
) -> None:
    """As MovieLens' are; followed twice, for the delimiter and for the names."""
    writes(tmp_path / name, delimiter.join("125") + "\n")
    path = toml(tmp_path, "e.?sv")
    with pytest.raises(GraphError, match=re.escape(f"Its columns may be apart by {said}")):
        prepare(path, tmp_path / "out")
    (tmp_path / name).unlink()
    writes(tmp_path / "e.csv", "1,2,5\n")

    def add_columns(directory: Path, message: str) -> None:
        path.write_text(path.read_text() + 'columns = ["src", "dst", "column3"]\n')

    advice_helps(tmp_path, re.escape('add columns = ["src", "dst", "column3"]'), add_columns)


@pytest.mark.parametrize(
    ("found", "advice"), [("4,5", "Write decimals with a point, as in 4.5."), ("1,000", "Correct")]
)
def test_a_comma_in_a_number(tmp_path: Path, found: str, advice: str) -> None:
    (tmp_path / "e.csv").write_text(f"src;dst;w\n1;2;1\n3;4;{found}\n")
    toml(tmp_path, "e.csv", 'weight = "w"')

    def with_a_point(directory: Path, message: str) -> None:
        assert advice in message
        (directory / "e.csv").write_text(f"src;dst;w\n1;2;1\n3;4;{found.replace(',', '.')}\n")

    advice_helps(tmp_path, f"line 3, column 'w': found '{found}', expected a finite number", with_a_point)


def test_advice_does_not_list_thousands_of_columns(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(",".join(f"c{number}" for number in range(3_000)) + "\n")
    with pytest.raises(GraphError, match=r'add columns = \["src", "dst", .*"column20", and 2980 more\]') as caught:
        prepare(toml(tmp_path, "e.csv"), tmp_path / "out")
    assert len(str(caught.value)) < 2_000


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
def test_the_ending_of_a_file_with_another_delimiter(tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "e.tsv").write_text("src,dst\n1,2\n".replace(",", delimiter))
    toml(tmp_path, "e.[ct]sv")

    def rename(directory: Path, message: str) -> None:
        (directory / "e.tsv").rename(directory / "e.csv")

    advice_helps(tmp_path, re.escape(f"apart by {delimiter!r}: let its name end in .csv"), rename)


def test_utf_16_without_a_mark_is_written_as_utf_8(tmp_path: Path) -> None:
    content = "src,dst\n1,2\n"
    (tmp_path / "e.csv").write_bytes(content.encode("utf-16-le"))
    toml(tmp_path, "e.csv")
    advice_helps(tmp_path, "write UTF-16 as UTF-8", lambda directory, _: writes(directory / "e.csv", content))


@pytest.mark.parametrize("name", ["SRC", " src", "\ufeffsrc", "'src'"])
def test_a_column_that_is_spelt_otherwise(tmp_path: Path, name: str) -> None:
    writes(tmp_path / "e.csv", f"dst,{name}\n1,2\n")
    path = toml(tmp_path, "e.csv")

    def spell(directory: Path, message: str) -> None:
        path.write_text(path.read_text() + f'src = "{name}"\n')

    advice_helps(tmp_path, re.escape(f"If {name!r} is meant, spell it so in graph.toml."), spell)


SORTS = {
    "e.csv": (gzip.compress(b"src,dst\n1,2\n"), "e.csv.gz"),
    "f.tsv": (bz2.compress(b"src\tdst\n1\t2\n"), "f.tsv.bz2"),
    "g.csv": (pa.compress(b"src,dst\n" + b"1,2\n" * 99, codec="zstd", asbytes=True), "g.csv.zst"),
    "h.csv.gz": (b"src,dst\n1,2\n", "h.csv"),
    "i.csv.gz": (bz2.compress(b"src,dst\n1,2\n"), "i.csv.bz2"),
    "j.csv": (b"PAR1", "j.parquet"),
}


@pytest.mark.parametrize("name", SORTS)
def test_a_file_of_another_sort_than_its_name_says(tmp_path: Path, name: str) -> None:
    content, right = SORTS[name]
    (tmp_path / name).write_bytes(content)
    if content == b"PAR1":
        pq.write_table(pa.table({"src": [1], "dst": [2]}), tmp_path / name)
    toml(tmp_path, f"{name[0]}.*")

    def rename(directory: Path, message: str) -> None:
        (directory / name).rename(directory / right)

    advice_helps(tmp_path, re.escape(f"call it {right!r}."), rename)


APART = {"::": "src::dst\n1::2\n", " ": "src   dst\n1   2\n", "\x01": "src\x01dst\n1\x012\n"}


@pytest.mark.parametrize("delimiter", APART)
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize(("ending", "comma"), [("csv", ","), ("tsv", "\t")])
def test_columns_that_are_apart_by_something_else(
    tmp_path: Path, delimiter: str, header: bool, ending: str, comma: str
) -> None:
    content = APART[delimiter] if header else APART[delimiter].split("\n", 1)[1]
    name = f"e.{ending}"
    (tmp_path / name).write_text(content)
    toml(tmp_path, name, "" if header else 'columns = ["src", "dst"]')

    def replace(directory: Path, message: str) -> None:
        writes(directory / name, re.sub(f"({delimiter})+", comma, content))

    said = f"apart by {delimiter!r}, which is not read: write {comma!r} instead."
    advice_helps(tmp_path, re.escape(said), replace)


@pytest.mark.parametrize("before", ["sep=;\n", "# exported yesterday\n# 2 rows\n", "a title, with a comma\n"])
def test_lines_before_the_header(tmp_path: Path, before: str) -> None:
    (tmp_path / "e.csv").write_text(before + "src;dst\n1;2\n")
    toml(tmp_path, "e.csv")
    line = before.count("\n") + 1
    follow = writes_to(tmp_path / "e.csv", "src;dst\n1;2\n")
    advice_helps(tmp_path, f"Line {line} names the columns: remove what stands before it", follow)


def test_text_in_another_encoding(tmp_path: Path) -> None:
    content = "src,dst\ncafé,b\n"
    (tmp_path / "e.csv").write_bytes(content.encode("latin-1"))
    toml(tmp_path, "e.csv")
    string_ids(tmp_path, 'id = "string"')
    advice_helps(tmp_path, "`iconv -f LATIN1 -t UTF-8`", writes_to(tmp_path / "e.csv", content))


def writes(path: Path, content: str) -> None:
    path.write_text(content)


OPEN_QUOTES = {
    'src,dst,text\n1,2,"a\n3,4,b\n': ('src,dst,text\n1,2,"a"\n3,4,b\n', 'src,dst,text\n1,2,"""a"\n3,4,b\n'),
    'src,dst\n1,2\n"3,4\n5,6\n': ("src,dst\n1,2\n3,4\n5,6\n",),  # it swallows the other fields of its line
}


@pytest.mark.parametrize("content", OPEN_QUOTES)
def test_an_open_quote_is_closed_or_doubled(tmp_path: Path, content: str) -> None:
    for mended in OPEN_QUOTES[content]:
        (tmp_path / "e.csv").write_text(content)
        toml(tmp_path, "e.csv")
        follow = writes_to(tmp_path / "e.csv", mended)
        advice_helps(tmp_path, "Close the quote, or double one that is part of a value", follow)


def test_a_comment_among_the_lines_is_to_be_removed(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("src,dst\n1,2\n# later\n3,4\n")
    toml(tmp_path, "e.csv")
    follow = writes_to(tmp_path / "e.csv", "src,dst\n1,2\n3,4\n")
    advice_helps(tmp_path, "line 3: found 1 fields in '# later', expected 2 .* Correct or remove the line", follow)


class Unwrapped(pe.KmsClient):
    """Keeps no key secret."""

    def __init__(self, config: object) -> None:
        super().__init__()

    def wrap_key(self, key: bytes, name: str) -> bytes:
        return base64.b64encode(key)


@pytest.mark.parametrize("plaintext_footer", [False, True])
def test_an_encrypted_file_is_to_be_written_without_encryption(tmp_path: Path, plaintext_footer: bool) -> None:
    """Whether its footer is encrypted or a column alone."""
    table = pa.table({"src": [1], "dst": [2]})
    keys = pe.EncryptionConfiguration("footer", column_keys={"column": ["src"]}, plaintext_footer=plaintext_footer)
    secret = pe.CryptoFactory(Unwrapped).file_encryption_properties(pe.KmsConnectionConfig(), keys)
    pq.write_table(table, tmp_path / "e.parquet", encryption_properties=secret)
    toml(tmp_path, "e.parquet")

    def decrypt(directory: Path, message: str) -> None:
        pq.write_table(table, directory / "e.parquet")

    advice_helps(tmp_path, "It is encrypted, which is not read: write it without encryption", decrypt)


def writes_to(path: Path, content: str) -> Follow:
    return lambda directory, message: writes(path, content)


def test_a_time_split_that_leaves_nothing(tmp_path: Path) -> None:
    mostly_five, all_five = ((5, 5, 5, 6), 'Lower split.fraction or split by "random"'), ((5,) * 4, 'Split by "random"')
    for (times, advice), extra in (
        (mostly_five, 'by = "time"\nfraction = 0.1'),
        (mostly_five, 'by = "random"'),
        (all_five, 'by = "random"'),
    ):
        (tmp_path / "e.csv").write_text("src,dst,t\n" + "".join(f"{i},{i + 1},{t}\n" for i, t in enumerate(times)))
        toml(tmp_path, "e.csv", 'time = "t"\n[split]\nby = "time"\nfraction = 0.5')

        def change(directory: Path, message: str, extra: str = extra) -> None:
            toml(directory, "e.csv", f'time = "t"\n[split]\n{extra}')

        advice_helps(tmp_path, advice, change)


def test_a_missing_entity_type_is_added(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("src,dst\n1,2\n")
    path = toml(tmp_path, "e.csv")
    path.write_text(path.read_text().replace('target = "user"', 'target = "item"'))

    def add(directory: Path, message: str) -> None:
        table = re.search(r"add (\[entities\.item\])", message)
        assert table is not None
        path.write_text(f'{table[1]}\nid = "int64"\n' + path.read_text())

    advice_helps(tmp_path, r"'item' is no entity type", add)


def test_json_lines_from_an_array(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text('[{"src": 1, "dst": 2},\n{"src": 3, "dst": 4}]\n')
    toml(tmp_path, "e.json")
    lines = '{"src": 1, "dst": 2}\n{"src": 3, "dst": 4}\n'
    advice_helps(tmp_path, "expected one JSON object", lambda directory, _: writes(directory / "e.json", lines))

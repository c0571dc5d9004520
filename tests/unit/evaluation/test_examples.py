"""Reading labelled examples: ids, labels, other columns, and every way the file can be wrong."""

import gzip
import uuid
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle.errors import UsageError
from bundle.ids import int_ids, string_ids
from cli.compose import read_examples
from evaluation.ranking.examples import number_examples, split_by_user, vectors_of
from evaluation.ranking.models import Labelled

TWO = "user,item,label\n20,b,1\n99,a,0\n"


def written(tmp_path: Path, text: str, name: str = "examples.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_ids_labels_and_other_columns_of_text(tmp_path: Path) -> None:
    path = written(tmp_path, "user,item,label,age\n9007199254740993,007,1,3.5\n99,a,0,1\n")
    examples = read_examples(path)
    assert examples.users == ("9007199254740993", "99")  # more digits than a float holds
    assert examples.items == ("007", "a")
    assert examples.labels.tolist() == [True, False]
    assert examples.others.tolist() == [[3.5], [1.0]]
    assert examples.names == ("age",)


def test_tabs_by_the_name_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "item\tlabel\tuser\na\t1\t10\nb\t0\t10\n", "examples.tsv")
    assert read_examples(path).users == ("10", "10")


@pytest.mark.parametrize("labels", [[1, 0], [True, False], ["1", "0"], [1.0, 0.0]])
def test_parquet_with_whatever_type_the_labels_have(tmp_path: Path, labels: list[object]) -> None:
    columns = {"user": pa.array([2**62, 3]), "item": pa.array(["a", "b"]), "label": labels, "age": [1, 2]}
    pq.write_table(pa.table(columns), tmp_path / "examples.parquet")
    examples = read_examples(tmp_path / "examples.parquet")
    assert examples.users == (str(2**62), "3")
    assert examples.labels.tolist() == [True, False]
    assert examples.others.tolist() == [[1.0], [2.0]]


def test_the_index_of_a_frame_is_no_feature(tmp_path: Path) -> None:
    """Clicks put before the rest, shuffled, written: the index still tells which is which."""
    frame = pd.DataFrame({"user": [1, 2, 3], "item": ["a", "b", "c"], "label": [1, 0, 0], "age": [4, 5, 6]})
    frame.iloc[[2, 0, 1]].to_parquet(tmp_path / "examples.parquet")
    assert any(name.startswith("__index") for name in pq.read_schema(tmp_path / "examples.parquet").names)
    examples = read_examples(tmp_path / "examples.parquet")
    assert (examples.names, examples.others.tolist()) == (("age",), [[6.0], [4.0], [5.0]])


def test_ids_of_every_type_that_edges_may_have(tmp_path: Path) -> None:
    one, two = uuid.UUID(int=1), uuid.UUID(int=2)
    users = pa.array(["é", "b"]).dictionary_encode()
    for items, expected in (
        (pa.array([one.bytes, two.bytes], pa.binary(16)), (str(one), str(two))),
        (pa.array([Decimal(7), Decimal(10**20)], pa.decimal128(38, 0)), ("7", str(10**20))),
        (pa.array(["x", "y"], pa.string_view()), ("x", "y")),
        (pa.array([3, 4]).dictionary_encode(), ("3", "4")),
    ):
        pq.write_table(pa.table({"user": users, "item": items, "label": [True, False]}), tmp_path / "e.parquet")
        examples = read_examples(tmp_path / "e.parquet")
        assert (examples.users, examples.items) == (("é", "b"), expected)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("e.csv", 'user,item,label,age\n"a\r\nb",1,True,2\nc,2,FALSE,3\n'),
        ("e.csv", 'user;item;label;age\n"a\r\nb";1;1.0;2\nc;2;0;3\n'),
        ("e.jsonl", '{"user":"a\\r\\nb","item":1,"label":true,"age":2}\n{"user":"c","item":2,"label":false,"age":3}\n'),
        ("e.jsonl", '{"user":"a\\r\\nb","item":1,"label":1,"age":2.0}\n{"user":"c","item":2,"label":0,"age":3}\n'),
    ],
)
def test_sorts_of_files(tmp_path: Path, name: str, text: str) -> None:
    for ending, content in (("", text.encode()), (".gz", gzip.compress(text.encode()))):
        (tmp_path / (name + ending)).write_bytes(content)
        examples = read_examples(tmp_path / (name + ending))
        assert (examples.users, examples.items) == (("a\r\nb", "c"), ("1", "2"))
        assert examples.labels.tolist() == [True, False]
        assert examples.others.tolist() == [[2], [3]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user, item ,label\n10,a,1\n", "lacks the column 'item'; it has 'user', ' item ', 'label'. Call ' item ' so"),
        ("user,item,label,age\n10,a,1,1e300\n", "found 1e\\+300, expected a finite number of at most 3.4e\\+38"),
        ("user,item\n10,a\n", "lacks the column 'label'; it has 'user', 'item'"),
        ("user,item,label\n10,a,yes\n", "line 2, column 'label': found 'yes', expected 0 or 1"),
        ("user,item,label,age\n10,a,1,2\n10,b,0,old\n", "line 3, column 'age': found 'old', .* leave the column out"),
        ("user,item,label,age\n10,a,1,nan\n10,b,0,1\n", "line 2, column 'age': found nan, .* leave the column out"),
        ("user,item,label\n", "no examples"),
        ("user,item,label\n10,a,1\n11,a,1\n", "only labels 1"),
        ("user,item,label\n10,a\n", "line 2: found 2 fields in '10,a', expected 3"),
        ('user,item,label,text\n"1\n0",a,1,"x\n\ny"\n10,a,0,1\n', r"line 2, column 'text': found 'x\\n\\ny'"),
        ('user,item,label\n"1\n0",a,1\n\n10,,0\n', "line 5, column 'item': found ''"),
        ("", "no examples"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_examples(written(tmp_path, text))


def test_a_bad_parquet_file_is_named_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "examples.parquet"
    pq.write_table(pa.table({"user": [1, None], "item": [1, 2], "label": [1, 0]}), path)
    with pytest.raises(UsageError, match=r"row 2, column 'user': found nothing"):
        read_examples(path)
    days = pa.array([1, 2], pa.timestamp("s"))
    pq.write_table(pa.table({"user": [1, 2], "item": [1, 2], "label": [1, 0], "day": days}), path)
    with pytest.raises(UsageError, match="column 'day': found a column of type timestamp.* or leave it out"):
        read_examples(path)
    pq.write_table(pa.table({"user": [1.5, 2.5], "item": [1, 2], "label": [1, 0]}), path)
    with pytest.raises(UsageError, match="column 'user': found a column of type double, .* Write the column as text"):
        read_examples(path)


def test_a_missing_file_and_one_of_another_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.csv does not exist"):
        read_examples(tmp_path / "none.csv")
    with pytest.raises(UsageError, match=r"Use \.parquet, \.csv, \.tsv or \.jsonl"):
        read_examples(written(tmp_path, TWO, "examples.txt"))


def test_files_share_one_numbering(tmp_path: Path) -> None:
    files = [
        read_examples(written(tmp_path, text, f"{i}.csv"))
        for i, text in enumerate((TWO, "user,item,label\n99,c,1\n1,b,0\n"))
    ]
    numbered = number_examples(files)
    assert numbered.users == ("20", "99", "1")
    assert [part.users.tolist() for part in numbered.parts] == [[0, 1], [1, 2]]
    assert [part.items.tolist() for part in numbered.parts] == [[0, 1], [2, 0]]


def test_files_with_other_features_do_not_go_together(tmp_path: Path) -> None:
    other = written(tmp_path, "user,item,label,age\n1,b,0,3\n1,a,1,3\n", "other.csv")
    with pytest.raises(UsageError, match="other columns: none, and age"):
        number_examples([read_examples(written(tmp_path, TWO)), read_examples(other)])


def test_whoever_has_no_embedding_has_the_zero_vector() -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    chosen, share = vectors_of(("20", "99"), int_ids(np.array([10, 20, 30], dtype=np.int64)), vectors)
    assert chosen.tolist() == [[2.0, 3.0], [0.0, 0.0]]
    assert share == 0.5
    assert vectors_of(("b",), string_ids(["a", "b"]), vectors[:2])[0].tolist() == [[2.0, 3.0]]


def test_a_user_is_in_one_part_alone() -> None:
    users = np.repeat(np.arange(40), 5)
    examples = Labelled(users, users, users % 2 == 0, np.zeros((200, 0), dtype=np.float32))
    train, test = split_by_user(examples, 0.25, np.random.default_rng(1))
    assert not set(train.users) & set(test.users)
    assert len(train) + len(test) == 200
    assert 20 <= len(test) <= 100

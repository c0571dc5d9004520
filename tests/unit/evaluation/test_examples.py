"""Reading labelled examples: ids, labels, other columns, and every way the file can be wrong."""

from pathlib import Path

import numpy as np
import pytest

from bundle.errors import UsageError
from bundle.ids import int_ids, string_ids
from evaluation.examples import read_labelled, split_by_user, with_absent
from evaluation.ranking import Labelled

USERS = int_ids(np.array([10, 20, 30], dtype=np.int64))
ITEMS = string_ids(["a", "b"])


def written(tmp_path: Path, text: str, name: str = "examples.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_labels_and_other_columns(tmp_path: Path) -> None:
    path = written(tmp_path, "user,item,label,age\n20,b,1,3.5\n99,a,0,1\n")
    examples = read_labelled(path, USERS, ITEMS)
    assert examples.users.tolist() == [1, -1]  # 99 has no embedding
    assert examples.items.tolist() == [1, 0]
    assert examples.labels.tolist() == [True, False]
    assert examples.others.tolist() == [[3.5], [1.0]]


def test_tabs_by_the_name_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "item\tlabel\tuser\na\t1\t10\n", "examples.tsv")
    assert read_labelled(path, USERS, ITEMS).users.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,item\n10,a\n", "lacks the column 'label'"),
        ("user,item,label\n10,a,yes\n", "line 2: label is 'yes'"),
        ("user,item,label,age\n10,a,1,old\n", "line 2: age is 'old'"),
        ("user,item,label\n", "no examples"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_labelled(written(tmp_path, text), USERS, ITEMS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_labelled(tmp_path / "none.csv", USERS, ITEMS)


def test_an_absent_entity_has_the_zero_vector() -> None:
    vectors = with_absent(np.ones((3, 2), dtype=np.float32))
    assert vectors[-1].tolist() == [0.0, 0.0]


def test_a_user_is_in_one_part_alone() -> None:
    users = np.repeat(np.arange(40), 5)
    examples = Labelled(users, users, users % 2 == 0, np.zeros((200, 0), dtype=np.float32))
    one, other = split_by_user(examples, 0.3, np.random.default_rng(1))
    assert set(one.users.tolist()).isdisjoint(other.users.tolist())
    assert len(one) + len(other) == 200
    assert 20 < len(other) < 120

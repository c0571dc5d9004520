"""Columns set aside and looked up again: the row of every id, however the ids lie."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.scratch import RawColumn
from graph import idspace, spool
from graph.idspace import id_space
from graph.spool import distinct, id_spool

close = st.integers(5, 40)
far = st.integers(0, 2**63 - 1)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(close, max_size=20) | st.lists(far, max_size=20), min_size=1, max_size=5))
def test_integer_rows(tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]]) -> None:
    spooled, space = id_spool(tmp_path_factory.mktemp("s"), "src", "int64"), id_space("int64")
    for batch in batches:
        space.add(spooled.append(spooled.encoded(np.array(batch, dtype=np.int64))))
    table = space.table("user")
    wanted = sorted({number for batch in batches for number in batch})
    assert table.externals(np.arange(len(table))) == [str(number) for number in wanted]
    assert [rows.tolist() for rows in spooled.rows(table)] == [[wanted.index(n) for n in batch] for batch in batches]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.text(min_size=1, max_size=4), max_size=9), min_size=1, max_size=6))
def test_string_rows(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, batches: list[list[str]]
) -> None:
    monkeypatch.setattr(spool, "LOOKUP_STRINGS", 5)
    monkeypatch.setattr(idspace, "MERGE_IDS", 5)
    spooled, space = id_spool(tmp_path_factory.mktemp("s"), "src", "string"), id_space("string")
    for batch in batches:
        ids = pa.array([text.encode() for text in batch], type=pa.large_binary())
        space.add(spooled.append(spooled.encoded(ids)))
    table = space.table("user")
    wanted = sorted({text for batch in batches for text in batch}, key=str.encode)
    assert table.externals(np.arange(len(table))) == wanted
    assert [rows.tolist() for rows in spooled.rows(table)] == [[wanted.index(t) for t in batch] for batch in batches]


def test_a_table_of_the_other_kind_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="string ids need"):
        list(id_spool(tmp_path, "src", "string").rows(id_space("int64").table("user")))
    with pytest.raises(TypeError, match="integer ids need"):
        list(id_spool(tmp_path, "src", "int64").rows(id_space("string").table("user")))


def test_raw_columns(tmp_path: Path) -> None:
    column = RawColumn(tmp_path / "c", np.int32)
    assert list(column.batches()) == []
    assert len(column.mapped()) == 0
    for batch in ([1, 2], [], [3]):
        column.append(np.array(batch))
    assert [batch.tolist() for batch in column.batches()] == [[1, 2], [], [3]]
    column.mapped()[1] = 9
    assert column.mapped().tolist() == [1, 9, 3]


def test_distinct() -> None:
    assert distinct(np.array([3, 1, 3, 2**63 - 1, 1])).tolist() == [1, 3, 2**63 - 1]
    assert len(distinct(np.zeros(0, dtype=np.int64))) == 0

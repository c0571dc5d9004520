"""Columns set aside and looked up again: the row of every id, however the ids lie."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import engine
from bundle.errors import GraphError
from bundle.scratch import RawColumn
from graph import idspace, spool
from graph.idspace import id_space
from graph.interned import InternedNumbers
from graph.spool import distinct

pytestmark = pytest.mark.usefixtures("either_way")
close = st.integers(5, 40)
far = st.integers(0, 2**63 - 1)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(close, max_size=20) | st.lists(far, max_size=20), min_size=1, max_size=5))
def test_integer_rows(tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]]) -> None:
    space = id_space("int64")
    spooled = space.spool(tmp_path_factory.mktemp("s"), "src")
    for batch in batches:
        spooled.append(spooled.encoded(np.array(batch, dtype=np.int64)))
    table = space.table()
    wanted = sorted({number for batch in batches for number in batch})
    assert table.externals(np.arange(len(table))) == [str(number) for number in wanted]
    assert [rows.tolist() for rows in spooled.rows()] == [[wanted.index(n) for n in batch] for batch in batches]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.text(min_size=1, max_size=4), max_size=9), min_size=1, max_size=6))
def test_string_rows(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, batches: list[list[str]]
) -> None:
    monkeypatch.setattr(spool, "LOOKUP_STRINGS", 5)
    monkeypatch.setattr(idspace, "MERGE_IDS", 5)
    space = id_space("string")
    spooled = space.spool(tmp_path_factory.mktemp("s"), "src")
    for batch in batches:
        ids = pa.array([text.encode() for text in batch], type=pa.large_binary())
        spooled.append(spooled.encoded(ids))
    table = space.table()
    wanted = sorted({text for batch in batches for text in batch}, key=str.encode)
    assert table.externals(np.arange(len(table))) == wanted
    assert [rows.tolist() for rows in spooled.rows()] == [[wanted.index(t) for t in batch] for batch in batches]


def test_ids_come_on_many_threads(tmp_path: Path) -> None:
    """As they do when batches are read on all cores, new ones and known ones."""
    rng = np.random.default_rng(1)
    batches = [rng.integers(0, 2**40, 3000) // 2**10 * (1 + batch % 3) for batch in range(24)]
    numbers, texts = id_space("int64"), id_space("string")
    columns = numbers.spool(tmp_path, "numbers"), texts.spool(tmp_path, "texts")
    written = [pa.array([b"user-%d" % number for number in batch.tolist()], pa.large_binary()) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        for column, given in zip(columns, (batches, written), strict=True):
            for encoded in pool.map(column.encoded, given):
                column.append(encoded)
    wanted = np.unique(np.concatenate(batches))
    assert numbers.table().externals(np.arange(len(wanted))) == wanted.astype(str).tolist()
    for rows, batch in zip(columns[0].rows(), batches, strict=True):
        np.testing.assert_array_equal(wanted[rows], batch)
    for rows, batch in zip(columns[1].rows(), written, strict=True):
        assert texts.table().externals(rows) == [text.decode() for text in batch.to_pylist()]
    assert len(texts.table()) == len(wanted)


@pytest.mark.parametrize("lengths", [(1, 2), (7, 8, 9), (16, 40)])
def test_texts_that_begin_alike_ascend_by_bytes(tmp_path: Path, lengths: tuple[int, ...]) -> None:
    """Zero bytes, the ends of texts and bytes above 127 are what a comparison of eight bytes at once may get wrong."""
    signs = ["\0", "a", "b", "é"]
    ids = {("same beginning " + sign * length)[:250] for sign in signs for length in lengths} | {"same beginning "}
    ids |= {f"{text}{sign}" for text in ids for sign in signs}
    space = id_space("string")
    space.spool(tmp_path, "src").append(
        space.spool(tmp_path, "dst").encoded(pa.array([t.encode() for t in ids], pa.large_binary()))
    )
    assert space.table().externals(np.arange(len(ids))) == sorted(ids, key=str.encode)


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


def test_more_ids_than_have_codes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine says then takes 2^32 ids to be heard."""

    class Full:
        def __getattr__(self, name: str) -> object:
            return getattr(native, name)

        def add_numbers(self, *_: object) -> None:
            raise ValueError("more ids than have codes of 32 bits")

    if engine.available():
        native = engine.native()
        space = InternedNumbers()
        monkeypatch.setattr(engine, "native", Full)
        with pytest.raises(GraphError, match="Split it into several types"):
            space.spool(tmp_path, "src").encoded(np.arange(3))

"""The compiled engine prepares the graph that Python prepares without it, byte for byte."""

from pathlib import Path

import numpy as np
import pytest

import engine
from graph import dedupe
from graph.prepare import prepare
from tests.support.engines import write_inputs


@pytest.mark.parametrize("bucket", [64, dedupe.BUCKET_EDGES])
def test_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: int) -> None:
    """Numbers and texts, repeats with weights and times, self-loops, a symmetric relation, a column of relations."""
    monkeypatch.setattr(dedupe, "BUCKET_EDGES", bucket)
    graph_toml = write_inputs(tmp_path / "inputs")
    prepare(graph_toml, tmp_path / "compiled")
    assert engine.available(), engine.why_unavailable()
    monkeypatch.setattr(engine, "available", lambda: False)
    prepare(graph_toml, tmp_path / "python")
    names = {path.relative_to(tmp_path / "python") for path in (tmp_path / "python").rglob("*") if path.is_file()}
    assert len(names) > 30
    assert names == {
        path.relative_to(tmp_path / "compiled") for path in (tmp_path / "compiled").rglob("*") if path.is_file()
    }
    for name in names:
        assert (tmp_path / "compiled" / name).read_bytes() == (tmp_path / "python" / name).read_bytes(), name


@pytest.mark.parametrize("relations", [1, 3])
@pytest.mark.parametrize("distinct", [1, 40, 30_000])
def test_equal_edges_have_the_same_first(monkeypatch: pytest.MonkeyPatch, relations: int, distinct: int) -> None:
    """Among more edges than one table of the engine holds, and with keys of all 64 bits."""
    rng = np.random.default_rng(distinct)
    keys = rng.integers(0, 2**64, distinct, dtype=np.uint64)[rng.integers(0, distinct, 40_000)]
    of = rng.integers(0, relations, len(keys)).astype(np.int32) if relations > 1 else None
    found = dedupe.first_equal(keys, of, relations)
    monkeypatch.setattr(engine, "available", lambda: False)
    np.testing.assert_array_equal(found, dedupe.first_equal(keys, of, relations))
    seen: dict[tuple[int, int], int] = {}
    relation = np.zeros(len(keys), dtype=np.int64) if of is None else of
    firsts = [
        seen.setdefault(pair, place) for place, pair in enumerate(zip(keys.tolist(), relation.tolist(), strict=True))
    ]
    assert found.tolist() == firsts


def test_the_engine_refuses_what_does_not_fit() -> None:
    """Whatever calls it, it reads and writes nothing beyond its arrays."""
    native = engine.native()
    codes, offsets = np.empty(2, dtype=np.uint32), np.array([0, 1, 9])
    with pytest.raises(ValueError, match="offsets ascend within the text"):
        native.add_texts(native.distinct_texts(), offsets, np.zeros(3, dtype=np.uint8), codes)
    with pytest.raises(ValueError, match="offsets ascend within the text"):
        native.numbers_of_text(offsets, np.full(3, ord("7"), dtype=np.uint8), np.empty(2, dtype=np.int64))
    with pytest.raises(ValueError, match="each id has a code"):
        native.add_numbers(native.distinct_numbers(), np.arange(3), codes)
    with pytest.raises(ValueError, match="there is room for each id"):
        native.list_numbers(native.distinct_numbers(), np.arange(1), codes[:1])
    rows, many = np.zeros(2, dtype=np.int32), np.array([0, 7], dtype=np.int32)
    ends, loops, keys = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), np.empty(2, dtype=np.uint64)
    with pytest.raises(ValueError, match="a relation that there is"):
        native.deal_edges(rows, rows, many, 3, True, False, keys, rows.copy(), many.copy(), ends, loops)
    with pytest.raises(ValueError, match="each edge has a place"):
        native.first_equal(keys, None, rows[:1])

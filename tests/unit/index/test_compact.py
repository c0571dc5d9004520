"""Which form the scored rows take: what is allowed, what a budget of recall lets pass, what is left behind."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bundle.errors import ConfigError
from bundle.rows import CompactRows
from bundle.writer import BundleWriter
from index.builder.compact import MANY_ROWS, ChosenRows, RowsChoice, forms_to_try
from index.builder.config import IndexConfig
from index.builder.devices import CPU
from index.builder.indexes import write_index
from index.builder.measure import find_truth, measure
from index.builder.queries import RealQueries
from index.builder.spec import IndexSpec
from index.search.open import read_searcher
from index.search.protocol import Searcher

N, DIM, K = 4000, 16, 40
FILE = "vectors/items.rows.npy"
Vectors = npt.NDArray[np.float32]


def drawn(n: int, seed: int) -> Vectors:
    """Points about forty centres, and a popularity."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(5).normal(0, 1, (40, DIM))
    points = centres[rng.integers(0, 40, n)] + rng.normal(0, 0.3, (n, DIM))
    return np.column_stack([points, np.log1p(rng.pareto(1.5, n))]).astype(np.float32)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[BundleWriter]:
    with BundleWriter(tmp_path, "v") as writer:
        yield writer


def chosen(writer: BundleWriter, vectors: Vectors, **settings: object) -> ChosenRows | None:
    """What is chosen for an index that is so deep that it finds nearly everything."""
    spec = IndexSpec("ivf4", depth=600, refine=8.0, lists=16)
    path = writer.path("items.ivf4")
    asked = drawn(100, 2)
    asked[:, DIM] = 0.2
    write_index(spec, vectors, asked, path, seed=1, threads=1, device=CPU)
    truth = find_truth(vectors, RealQueries(asked, ("near",), np.zeros(100, dtype=np.int64)), K)

    def opened(rows: Vectors | CompactRows) -> Searcher:
        return read_searcher(path, spec.entry(path.name, K), rows)

    choice = RowsChoice(writer, FILE, vectors, DIM, IndexConfig.model_validate(settings))
    return choice.choose(opened, truth, measure(opened(vectors), truth))


def test_few_rows_keep_float32_unless_fewer_bytes_are_asked_for() -> None:
    assert forms_to_try(MANY_ROWS - 1, IndexConfig()) == ()
    assert forms_to_try(MANY_ROWS, IndexConfig()) == ("int8", "float16")
    assert forms_to_try(MANY_ROWS, IndexConfig(rows="float32")) == ()
    assert forms_to_try(5, IndexConfig(rows="float16")) == ("float16",)


@pytest.mark.parametrize(("budget", "kind"), [(0.5, "int8"), (0.001, "float16")])
def test_the_smallest_whose_loss_is_within_the_budget_is_taken(
    budget: float, kind: str, writer: BundleWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.builder.compact.MANY_ROWS", N)
    rows = chosen(writer, drawn(N, 1), rows_loss=budget, target_recall=0.5)
    assert rows is not None
    assert rows.entry.kind == kind
    assert rows.entry.recall_loss <= budget
    assert rows.entry.recall == round(rows.judgement.recall, 4)
    assert writer.files[FILE].size_bytes > N * rows.entry.bytes_per_vector


def test_without_a_budget_float32_stays_and_nothing_is_left(
    writer: BundleWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.builder.compact.MANY_ROWS", N)
    monkeypatch.setattr("index.builder.compact.FORMS", ("int8",))
    assert chosen(writer, drawn(N, 1), rows_loss=0.0) is None
    assert FILE not in writer.files
    assert not writer.path(FILE).exists()


def test_nothing_is_taken_that_would_miss_the_floor(writer: BundleWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.builder.compact.MANY_ROWS", N)
    monkeypatch.setattr("index.builder.compact.FORMS", ("int8",))
    assert chosen(writer, drawn(N, 1), rows_loss=0.5, target_recall=0.998) is None


def test_what_float16_cannot_hold_is_refused_where_it_was_asked_for(
    writer: BundleWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = drawn(N, 1)
    vectors[17, 3] = 1e5
    with pytest.raises(ConfigError, match=r"index\.rows is float16"):
        chosen(writer, vectors, rows="float16")
    monkeypatch.setattr("index.builder.compact.MANY_ROWS", N)
    monkeypatch.setattr("index.builder.compact.FORMS", ("float16",))
    assert chosen(writer, vectors) is None


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_a_form_that_is_asked_for_by_name_is_taken_whatever_it_loses(kind: str, writer: BundleWriter) -> None:
    rows = chosen(writer, drawn(N, 1), rows=kind, rows_loss=0.0, target_recall=1.0)
    assert rows is not None
    assert rows.entry.kind == kind

"""A searcher over rows of fewer bytes answers as over what they decode to: the same rows, the same scores."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import engine
from bundle.rows import CompactKind, CompactRows, encoded
from index.builder.devices import find_device
from index.builder.indexes import write_index
from index.search.eligible import pack
from index.search.open import read_searcher
from index.search.protocol import Hits, Searcher
from tests.contract.test_searchers import DIM, SPECS, WIDTH, Vectors, clustered
from tests.support.levels import LEVELS, at_level

N, K = 3000, 20


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return clustered(N, np.random.default_rng(1))


@pytest.fixture(params=[*LEVELS, "off"])
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each instruction set, and no engine."""
    if request.param == "off":
        monkeypatch.setattr(engine, "available", lambda: False)
    with at_level("avx512" if request.param == "off" else request.param):
        yield request.param


@pytest.fixture(scope="module", params=["exact", "ivf4", "ivf_pq"])
def files(
    request: pytest.FixtureRequest, vectors: Vectors, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A kind, and its file."""
    spec = SPECS[request.param]
    path = tmp_path_factory.mktemp("index") / spec.file_name
    if spec.kind != "exact":
        write_index(spec, vectors, vectors[:100], path, seed=1, threads=1, device=find_device())
    return request.param, path


def both(files: tuple[str, Path], vectors: Vectors, kind: CompactKind) -> tuple[Searcher, Searcher]:
    """Over the compact rows, and over what they decode to."""
    spec, path = SPECS[files[0]], files[1]
    rows = CompactRows(encoded(vectors, kind, DIM), kind, DIM, WIDTH)
    entry = spec.entry(path.name, K)
    return read_searcher(path, entry, rows), read_searcher(path, entry, np.ascontiguousarray(rows[:]))


def same(left: list[Hits], right: list[Hits]) -> bool:
    return all(
        a.rows.tolist() == b.rows.tolist() and a.scores.tobytes() == b.scores.tobytes()
        for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_it_answers_as_over_the_decoded_rows(
    level: str, files: tuple[str, Path], vectors: Vectors, kind: CompactKind
) -> None:
    queries = clustered(30, np.random.default_rng(2))
    queries[:, -1] = 0.3
    compact, decoded = both(files, vectors, kind)
    assert same(compact.search(queries, K), decoded.search(queries, K))
    eligible = pack(np.random.default_rng(3).random(N) < 0.5)
    gone = [hits.rows[::2] for hits in decoded.search(queries, K)]
    asked = {"exclude": gone, "eligible": eligible}
    assert same(compact.search(queries, K, **asked), decoded.search(queries, K, **asked))  # type: ignore[arg-type]

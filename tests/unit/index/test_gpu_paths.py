"""What a build does on a GPU, run on the CPU: codewords found by an index, and a CAGRA graph's file in the service."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from bundle.arrays import save_array
from index.builder.compression import compress
from index.builder.devices import CPU, Device, find_device
from index.builder.fit_projection import STEP, fit_projection
from index.builder.spec import IndexSpec
from index.search.exact import ExactSearcher
from index.search.open import read_searcher
from index.search.projection import projection_file

BY_INDEX = Device(n_gpus=0, has_cagra=False, by_index=True)


@pytest.mark.parametrize(("n", "rotated"), [(3, False), (700, False), (5000, False), (700, True)])
def test_codewords_found_by_an_index_are_those_that_faiss_finds(n: int, rotated: bool) -> None:
    """The same codebooks, and codes that mean the same: of two equal codewords either may be named."""
    rng = np.random.default_rng(1)
    vectors = (rng.normal(0, 1, (n, 6)) @ rng.normal(0, 1, (6, 16)) + rng.normal(0, 0.1, (n, 16))).astype(np.float32)
    expected, found = (
        compress(vectors, 4, rotated=rotated, training_vectors=2000, rng=np.random.default_rng(2), device=device)
        for device in (CPU, BY_INDEX)
    )
    np.testing.assert_allclose(found.quantizer.codebooks, expected.quantizer.codebooks, atol=1e-5)
    assert found.mse == pytest.approx(expected.mse, rel=1e-4, abs=1e-12)
    ours, theirs = (made.quantizer.decode(made.codes) for made in (found, expected))
    assert np.mean(np.isclose(ours, theirs, atol=1e-4)) > 0.999


def test_a_machine_without_a_gpu_says_so() -> None:
    if faiss.get_compile_options().find("GPU") >= 0 and faiss.get_num_gpus():
        pytest.skip("what is chosen without a GPU cannot be seen on a machine that has one")
    assert find_device() == CPU
    assert find_device().name == "CPU"


def test_the_file_of_a_cagra_graph_opens_in_the_service(tmp_path: Path) -> None:
    """The class that a GPU's graph is copied to, filled by the processor, and read as the service does."""
    vectors = np.random.default_rng(3).normal(0, 1, (2000, 17)).astype(np.float32)
    spec = IndexSpec("hnsw", depth=300, popularity_scale=0.3, links=16, build_depth=100, cagra=True)
    projection = fit_projection(vectors, vectors[:50], scale=0.3, step=STEP, rng=np.random.default_rng(1))
    graph = faiss.IndexHNSWCagra(projection.held, spec.links, faiss.METRIC_INNER_PRODUCT)
    graph.add(projection.of_vectors(vectors))
    path = tmp_path / spec.file_name
    faiss.write_index(graph, str(path))
    save_array(projection_file(path), projection.for_queries)
    searcher = read_searcher(path, spec.entry(path.name, 10), vectors)
    found, expected = (each.search(vectors[:20], 10) for each in (searcher, ExactSearcher(vectors)))
    shared = [np.isin(one.rows, other.rows).mean() for one, other in zip(found, expected, strict=True)]
    assert np.mean(shared) > 0.95

"""Makes the golden bundle of the present format version. Run by hand, once for each format version, then never again:

    python -m tests.golden.generate

The bundle it writes is committed and loaded by a test for ever, so that no later release forgets how to read it.
It is the toy of `tests/support/toy.py` and one more type, `tag`: enough vectors for a rotation, a symmetric
relation, the index files of hnswlib, of FAISS and of the engine, rows of fewer bytes, and interests in each type.
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from bundle.manifest import Manifest
from index.builder.config import BuildConfig, ClusterConfig, CompressionConfig, IndexConfig, MapConfig, MixtureConfig
from index.builder.version import build_version
from tests.support.toy import DIM, USERS, write_toy_run

HERE = Path(__file__).resolve().parent
N_TAGS = 300
_WITHOUT = {"weight": False, "time": False, "valid": 0, "test": 0, "duplicates": 0, "self_loops": 0}
CONFIGS = {
    "format-1-hnsw": BuildConfig(
        clusters=ClusterConfig(count=2, list_length=20),
        mixtures=MixtureConfig(modes=2),
        index=IndexConfig(kind="hnsw", hnsw_links=4, hnsw_build_depth=40, depth=120, queries=20),
        compression=CompressionConfig(subquantizers=2, rotated=True),
    ),
    "format-1-faiss": BuildConfig(
        clusters=ClusterConfig(count=2, list_length=20),
        mixtures=MixtureConfig(modes=2),
        index=IndexConfig(kind="ivf_sq8", ivf_lists=2, depth=2, queries=20),
        compression=CompressionConfig(subquantizers=1),
    ),
    "format-2-int8": BuildConfig(
        clusters=ClusterConfig(count=2, list_length=20),
        mixtures=MixtureConfig(modes=2),
        index=IndexConfig(kind="ivf4", ivf_lists=4, depth=600, refine=4.0, queries=20, rows="int8"),
        compression=CompressionConfig(subquantizers=1),
        map=MapConfig(points=0),
    ),
    "format-2-float16": BuildConfig(
        clusters=ClusterConfig(count=2, list_length=20),
        mixtures=MixtureConfig(modes=2),
        index=IndexConfig(kind="ivf_sq8", ivf_lists=2, depth=2, queries=20, rows="float16"),
        compression=CompressionConfig(subquantizers=1),
        map=MapConfig(points=0),
    ),
    "format-2-interests": BuildConfig(
        clusters=ClusterConfig(count=2, list_length=20),
        mixtures=MixtureConfig(modes=2),
        index=IndexConfig(kind="ivf4", ivf_lists=4, depth=600, refine=4.0, queries=20),
        compression=CompressionConfig(subquantizers=1),
        map=MapConfig(points=0),
    ),
    "format-1-ivf4": BuildConfig(
        clusters=ClusterConfig(count=2, list_length=20),
        mixtures=MixtureConfig(modes=2),
        index=IndexConfig(kind="ivf4", ivf_lists=4, depth=600, refine=4.0, queries=20),
        compression=CompressionConfig(subquantizers=1),
    ),
}


def main() -> None:
    """Write the bundles that are not there yet beside this file."""
    with tempfile.TemporaryDirectory() as name:
        run = add_tags(write_toy_run(Path(name) / "run"))
        for version, config in CONFIGS.items():
            if (HERE / version).exists():  # committed once, never written again
                continue
            shutil.rmtree(HERE / version, ignore_errors=True)
            manifest = build_version(run, Path(name) / "bundles", config, version=version).manifest
            shutil.move(Path(name) / "bundles" / version, HERE / version)
            _check_size(manifest)


def add_tags(run: Path) -> Path:
    """Give the toy run 300 tags with random vectors and the symmetric relation `near` between users."""
    graph = run / "graph"
    rng = np.random.default_rng(7)
    np.save(graph / "ids" / "tag.npy", np.arange(10, 10 + 3 * N_TAGS, 3, dtype=np.int64))
    np.save(run / "vectors" / "tag.npy", rng.normal(0, 1, (N_TAGS, DIM)).astype(np.float32))
    np.save(run / "optimizer" / "tag.npy", np.ones(N_TAGS, dtype=np.float32))
    np.save(graph / "edges" / "002.src.npy", np.array([0, 1, 2], dtype=np.int32))
    np.save(graph / "edges" / "002.dst.npy", np.array([1, 0, len(USERS) - 2], dtype=np.int32))
    record = json.loads((graph / "graph.json").read_text(encoding="utf-8"))
    record["entities"].append({"name": "tag", "id": "int64", "count": N_TAGS})
    near = {"name": "near", "source": "user", "target": "user", "symmetric": True, "coverage": "low", "edges": 3}
    record["relations"].append(near | _WITHOUT)
    (graph / "graph.json").write_text(json.dumps(record), encoding="utf-8")
    np.save(run / "relations.npy", np.zeros((3, 2, DIM), dtype=np.float32))
    np.save(run / "optimizer" / "relations.npy", np.ones((3, 2), dtype=np.float32))
    return run


def _check_size(manifest: Manifest) -> None:
    size_bytes = sum(entry.size_bytes for entry in manifest.files.values())
    if size_bytes > 150_000:
        raise SystemExit(f"{manifest.version} has {size_bytes} bytes: too many for the repository")


if __name__ == "__main__":
    main()

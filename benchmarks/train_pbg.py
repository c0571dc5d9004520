"""PyTorch-BigGraph 1.0.0, in an environment of its own: made by `environment`, fed and timed by `benchmarks/train.py`.

    python benchmarks/train_pbg.py GRAPH.npz NEGATIVES EPOCHS     # with that environment's interpreter: trains, once

GRAPH.npz holds src, dst, rel (int64) and nodes. The model is ours: softmax loss, dot product, a translation for each
relation (of several relations one for each direction), 128 floats; its chunks are its own: 50 edges of a batch of 1,000
with 50 + 50 negatives, the whole batch with 1,000 uniform ones.
"""

# It is installed in its own environment alone.
# mypy: disable-error-code="import-not-found,import-untyped,unused-ignore"

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

RELEASE = "torchbiggraph==1.0.0"
# It reads its own version with pkg_resources, which setuptools has dropped; its setup.py asks for what is there.
NEEDS = ("setuptools<81", "wheel", "numpy", "attrs>=18.2", "h5py>=2.8", "tqdm", "torch==2.13.0")
NEGATIVES = {
    100: {"num_batch_negs": 50, "num_uniform_negs": 50, "lr": 0.1},
    1000: {"num_batch_negs": 0, "num_uniform_negs": 1000, "lr": 0.1},
}


def environment(directory: Path) -> Path:
    """The interpreter of an environment that has PyTorch-BigGraph, made in `directory` where it lacks one."""
    python = directory / "bin" / "python"
    found = (
        python.exists()
        and not subprocess.run(
            [python, "-W", "ignore", "-c", "import torchbiggraph.train"], capture_output=True, check=False
        ).returncode
    )
    if not found:
        venv.create(directory, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        index = ["--extra-index-url", "https://download.pytorch.org/whl/cpu"]
        subprocess.run([*pip, *index, *NEEDS], check=True)
        # --no-cache-dir: a wheel that was built with another setuptools lacks what it reads at start
        subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--no-cache-dir", RELEASE], check=True)
    return python


def config(directory: Path, relations: int, negatives: int, epochs: int) -> dict[str, object]:
    """Its settings: one worker, everything in one bucket, no edges held back for evaluation."""
    return {
        "entity_path": str(directory),
        "edge_paths": [str(directory / "edges")],
        "checkpoint_path": str(directory / "model"),
        "entities": {"all": {"num_partitions": 1}},
        "relations": [{"name": "all", "lhs": "all", "rhs": "all", "operator": "translation"}],
        "dynamic_relations": relations > 1,
        "global_emb": False,
        "dimension": 128,
        "comparator": "dot",
        "loss_fn": "softmax",
        "batch_size": 1000,
        "num_epochs": epochs,
        "eval_fraction": 0,
        "workers": 1,
        "verbose": 0,
        **NEGATIVES[negatives],
    }


def main() -> None:
    """Write the graph in its format and train."""
    import h5py
    import numpy as np
    from torchbiggraph.config import ConfigSchema
    from torchbiggraph.train import train
    from torchbiggraph.util import SubprocessInitializer

    graph = np.load(sys.argv[1])
    negatives, epochs = map(int, sys.argv[2:])
    relations = int(graph["rel"].max()) + 1
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "edges").mkdir()
        (directory / "entity_count_all_0.txt").write_text(f"{graph['nodes']}\n")
        (directory / "dynamic_rel_count.txt").write_text(f"{relations}\n")
        with h5py.File(directory / "edges" / "edges_0_0.h5", "w") as file:
            file.attrs["format_version"] = 1
            for theirs, ours in (("lhs", "src"), ("rhs", "dst"), ("rel", "rel")):
                file.create_dataset(theirs, data=graph[ours].astype(np.int64))
        settings = ConfigSchema.from_dict(config(directory, relations, negatives, epochs))
        train(settings, subprocess_init=SubprocessInitializer())


if __name__ == "__main__":
    main()

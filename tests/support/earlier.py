"""What an earlier release made, for tests that hold it against what this one makes."""

import shutil
from pathlib import Path

import numpy as np

from bundle.prepared import load_prepared

SPLIT = """
[split]
relation = "likes"
by = "files"
valid = "valid.csv"
test = "test.csv"
"""


def split_alike(golden: Path, folder: Path) -> Path:
    """Write the files of the golden graph so that what its release held out is held out; returns their graph.toml.

    That release drew by the place of an edge, this one draws by its ids.
    """
    then = load_prepared(golden / "graph")
    shutil.copytree(golden, folder, ignore=shutil.ignore_patterns("graph"))
    likes = then.relation("likes")
    held_out: set[str] = set()
    for part in ("valid", "test"):
        edges = likes.part(part)
        sources = then.entity(likes.source).ids.externals(np.asarray(edges.src))
        targets = then.entity(likes.target).ids.externals(np.asarray(edges.dst))
        pairs = [f"{source},{target}" for source, target in zip(sources, targets, strict=True)]
        held_out |= set(pairs)
        (folder / f"{part}.csv").write_text("\n".join(["src,dst", *pairs, ""]))
    lines = (folder / "likes.csv").read_text().splitlines(keepends=True)
    (folder / "likes.csv").write_text("".join(line for line in lines if ",".join(line.split(",")[:2]) not in held_out))
    (folder / "graph.toml").write_text((folder / "graph.toml").read_text().split("[split]")[0] + SPLIT)
    return folder / "graph.toml"

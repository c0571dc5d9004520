"""Inputs of a graph with all that a graph file can say, for whoever prepares it."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bundle.prepared import PARTS, Part, PreparedGraph

# One relation between users.
GRAPH = """
[entities.user]
id = "int64"
[[relations]]
name = "follows"
source = "user"
target = "user"
files = {files}
{extra}
"""
EVERYTHING = """
[entities.user]
id = "int64"
[entities.item]
id = "string"
attributes = "items.csv"
label = "title"

[[relations]]
name = "follows"
source = "user"
target = "user"
files = ["follows/*.csv", "follows/**/*.parquet", "follows/old.tsv.gz"]
weight = "w"
symmetric = true

[[relations]]
name = "likes"
source = "user"
target = "item"
files = ["likes/", "likes/day=2026-01-02/part-1.parquet"]
time = "day"

[[relations]]
name = "*"
relation_column = "kind"
source = "item"
target = "item"
files = ["similar.jsonl", "similar.parquet"]
weight = "w"
time = "t"
coverage = "low"

[split]
by = "random"
relation = ["follows", "*"]
fraction = 0.2
seed = 7
"""
# Ids that something on the way could take for something else.
STRANGE = [
    "a" * 256, "é" * 128, "😀" * 64, "\u202eabc", "\u0645\u0631\u062d\u0628\u0627", "NA", "null", "007", " x ", "a,b",
    'say "x"', "-1", "\ufeff", "\uffff", "\U00010000", "a\u0301", "á", "\t", "A", "a", "%20", "{}", "\\", "\u2028",
]  # fmt: skip


def write_inputs(folder: Path) -> Path:
    """Write all files into a new folder; returns the path of its graph.toml."""
    for each in ("follows/more/deep", "likes/day=2026-01-01", "likes/day=2026-01-02"):
        (folder / each).mkdir(parents=True)
    rng = np.random.default_rng(11)
    users = np.unique(np.concatenate([[0, 2**53, 2**53 + 1, 2**63 - 1], rng.integers(0, 2**62, 36)]))
    items = [*STRANGE, *(f"item {number}" for number in range(14))]
    _write_follows(folder / "follows", users, rng)
    _write_likes(folder / "likes", users, items, rng)
    _write_similar(folder, items, rng)
    rows = [f'"item {number}",{number}.5,"the ""{number}""",{number % 2 == 0}\n' for number in range(20)]
    (folder / "items.csv").write_text("id,price,title,old\n" + "".join(rows))
    (folder / "graph.toml").write_text(EVERYTHING)
    return folder / "graph.toml"


def _write_follows(folder: Path, users: np.ndarray, rng: np.random.Generator) -> None:
    """Weights whose sum depends on the order in which they are added, and one edge that is there fifty times."""
    for number, separator in enumerate(",;"):
        rows = zip(*(rng.choice(users, 700) for _ in "ab"), rng.choice([1e16, 0.1, 3.7, 1.0, 3e-9], 700), strict=True)
        text = "".join(f"{a}{separator}{b}{separator}{w}\n" for a, b, w in rows)
        (folder / f"{number}.csv").write_text(f"src{separator}dst{separator}w\n{text}")
    often = {"src": [users[1]] * 50, "dst": [users[2]] * 50, "w": rng.random(50)}
    pq.write_table(pa.table(often), folder / "more" / "deep" / "often.parquet", row_group_size=20)
    mixed = {"src": pa.array(["5", "7"]), "dst": pa.array([6, 7], pa.uint16()), "w": pa.array([3, 3e38], pa.float32())}
    pq.write_table(pa.table(mixed), folder / "more" / "mixed.parquet")
    heavy = f"5\t6\t{3e38}\n6\t5\t{3e38}\n" * 3  # more than 32 bits hold
    (folder / "old.tsv.gz").write_bytes(gzip.compress(f"src\tdst\tw\n{heavy}".encode()))


def _write_likes(folder: Path, users: np.ndarray, items: list[str], rng: np.random.Generator) -> None:
    """The time stands in the names of folders."""
    for number, day in enumerate(("2026-01-01", "2026-01-02")):
        table = {"src": rng.choice(users, 900), "dst": rng.choice(items, 900).tolist()}
        pq.write_table(pa.table(table), folder / f"day={day}" / f"part-{number}.parquet")


def _write_similar(folder: Path, items: list[str], rng: np.random.Generator) -> None:
    """Six relations, weights and times; ids with a zero byte, which are legal in Parquet."""
    lines = []
    for number in range(1500):
        edge = {"src": items[rng.integers(len(items))], "dst": items[rng.integers(30)], "kind": f"{rng.integers(6)}"}
        edge |= {"w": float(rng.random()), "t": int(rng.integers(-5, 5))}
        lines.append(json.dumps(edge, ensure_ascii=number % 2 == 0))
    (folder / "similar.jsonl").write_text("\n".join(lines), encoding="utf-8")
    zeros = [f"a\0{number}" for number in range(12)]
    ends = {end: rng.choice(zeros, 90).tolist() for end in ("src", "dst")}
    more = {"kind": ["5"] * 90, "w": rng.random(90), "t": rng.integers(0, 9, 90)}
    pq.write_table(pa.table(ends | more), folder / "similar.parquet")


GROWING = """
[entities.user]
id = "int64"
[entities.item]
id = "string"
[[relations]]
name = "follows"
source = "user"
target = "user"
files = "follows.csv"
[[relations]]
name = "near"
source = "user"
target = "user"
files = "near.csv"
symmetric = true
[[relations]]
name = "likes"
source = "user"
target = "item"
files = "likes.csv"
[[relations]]
name = "friends"
source = "user"
target = "user"
files = "friends.csv"
symmetric = true
[[relations]]
name = "*"
relation_column = "kind"
source = "item"
target = "item"
files = "kinds.csv"
[split]
by = "random"
relation = ["follows", "near"]
"""
# A graph before and after it grew, by the folder that it is written to.
GROWTH = (("before", False), ("after", True))
# The slice of the smallest is a tenth; that of others 500 edges, a share which falls as they grow.
_EDGES = {"follows": 3000, "near": 3000, "likes": 6000, "friends": 1500, "kinds": 7000}


def write_growing(folder: Path, grown: bool) -> Path:
    """Write a graph, or the same with a fifth more edges, into a new folder; returns the path of its graph.toml.

    Grown, its files are in another order, symmetric edges stand the other way round first, and new ids come before
    old ones.
    """
    folder.mkdir()
    rng = np.random.default_rng(5)
    for name, count in _EDGES.items():
        pairs = rng.permutation(300 * 300)[: 2 * count]
        ends = np.stack([pairs // 300, pairs % 300], axis=1)
        if name in ("near", "friends"):
            ends = np.unique(np.sort(ends), axis=0)
        ends = rng.permutation(ends[ends[:, 0] != ends[:, 1]])[: count * 6 // 5]
        ends = np.where(np.arange(len(ends))[:, None] < count, ends + 300, ends)
        kinds = rng.integers(3, size=len(ends))
        text = name in ("likes", "kinds")
        lines = [
            f"{'item ' if name == 'kinds' else ''}{a},{'item ' if text else ''}{b},{kind}"
            for (a, b), kind in zip(ends.tolist(), kinds.tolist(), strict=True)
        ]
        lines = lines if grown else lines[:count]
        if grown:
            lines = [lines[place] for place in np.random.default_rng(6).permutation(len(lines))]
        if grown and name in ("near", "friends"):
            lines = [",".join((b, a, kind)) for a, b, kind in (line.split(",") for line in lines)] + lines
        (folder / f"{name}.csv").write_text("src,dst,kind\n" + "".join(f"{line}\n" for line in lines))
    (folder / "graph.toml").write_text(GROWING)
    return folder / "graph.toml"


STAR = """
[entities.user]
id = "int64"
[[relations]]
name = "*"
relation_column = "kind"
source = "user"
target = "user"
files = "edges.csv"
"""


def write_star(folder: Path) -> Path:
    """Write a graph of a relation with many edges and forty with one each; returns the path of its graph.toml."""
    folder.mkdir()
    lines = [f"{number % 40},{number + 40},big" for number in range(1500)]
    lines += [f"{number},{number + 40},one {number:02}" for number in range(40)]
    (folder / "edges.csv").write_text("src,dst,kind\n" + "".join(f"{line}\n" for line in lines))
    (folder / "graph.toml").write_text(STAR)
    return folder / "graph.toml"


def assert_nothing_leaks(before: PreparedGraph, after: PreparedGraph) -> None:
    """No held-out edge of the larger graph is a training edge of the smaller, and an edge that is split stays so."""
    assert sum(len(one.train) for one in after.relations) > 1.15 * sum(len(one.train) for one in before.relations)
    for relation in after.relations:
        held_out = _pairs(after, relation.name, "valid") | _pairs(after, relation.name, "test")
        earlier = [_pairs(before, relation.name, part) for part in PARTS]
        assert len(held_out & (earlier[1] | earlier[2])) > 30
        assert held_out.isdisjoint(earlier[0]), relation.name
        if len(relation.test):
            assert earlier[1] <= _pairs(after, relation.name, "valid")
            assert earlier[2] <= _pairs(after, relation.name, "test")


def _pairs(graph: PreparedGraph, name: str, part: Part) -> set[tuple[str, ...]]:
    """The edges of a part as external ids, those of a symmetric relation in one order."""
    relation = graph.relation(name)
    ends = (
        graph.entity(kind).ids.externals(np.asarray(rows))
        for kind, rows in ((relation.source, relation.part(part).src), (relation.target, relation.part(part).dst))
    )
    return {tuple(sorted(pair)) if relation.symmetric else pair for pair in zip(*ends, strict=True)}

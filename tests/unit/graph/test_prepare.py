"""Preparing: rows, repeats, self-loops, splits, relations from a column."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.errors import GraphFileError, UsageError
from bundle.hashing import xxh64_of_numbers
from bundle.prepared import Edges, PreparedGraph
from evaluation.task import relations_held_out
from graph import dedupe, entries, idspace, spool, text
from graph.prepare import prepare
from graph.split import DRAW_BITS, Draw
from tests.support.engines import GROWTH, assert_nothing_leaks, write_growing, write_star

MakeGraph = Callable[..., Path]


def pairs(graph: PreparedGraph, relation: str, part: str = "train") -> list[tuple[str, str]]:
    """The edges of one part as external ids: held-out ones in stored order, training edges sorted."""
    found = graph.relation(relation)
    edges: Edges = {"train": found.train, "valid": found.valid, "test": found.test}[part]
    sources = graph.entity(found.source).ids.externals(np.asarray(edges.src))
    targets = graph.entity(found.target).ids.externals(np.asarray(edges.dst))
    found_pairs = list(zip(sources, targets, strict=True))
    return sorted(found_pairs) if part == "train" else found_pairs


def test_repeats_and_self_loops_go(tmp_path: Path, follows: MakeGraph) -> None:
    graph = prepare(follows("src,dst\n9,5\n5,5\n7,9\n9,5\n5,9\n7,9\n7,9\n"), tmp_path / "out")
    assert pairs(graph, "follows") == [("5", "9"), ("7", "9"), ("9", "5")]
    assert (graph.relations[0].duplicates, graph.relations[0].self_loops) == (3, 1)
    assert [graph.entity("user").ids.external(row) for row in range(3)] == ["5", "7", "9"]


def test_an_entity_with_only_a_self_loop_keeps_its_row(tmp_path: Path, follows: MakeGraph) -> None:
    graph = prepare(follows("src,dst\n1,2\n3,3\n"), tmp_path / "out")
    assert graph.entity("user").count == 3


def test_a_symmetric_relation_has_one_edge_for_both_orders(tmp_path: Path, follows: MakeGraph) -> None:
    graph = prepare(follows("src,dst\n2,1\n1,2\n1,3\n", extra="symmetric = true"), tmp_path / "out")
    assert pairs(graph, "follows") == [("1", "3"), ("2", "1")]
    assert graph.relations[0].duplicates == 1


def test_repeats_add_their_weights_and_keep_the_earliest_time(tmp_path: Path, follows: MakeGraph) -> None:
    rows = "1,2,0.5,30\n1,3,1,7\n1,2,2,10\n1,2,0.25,20\n"
    graph = prepare(follows("src,dst,w,t\n" + rows, extra='weight = "w"\ntime = "t"'), tmp_path / "out")
    edges = graph.relations[0].train
    assert edges.weight is not None
    assert edges.time is not None
    stored = zip(edges.dst.tolist(), edges.weight.tolist(), edges.time.tolist(), strict=True)
    assert sorted(stored) == [(1, 2.75, 10), (2, 1.0, 7)]
    assert edges.weight.dtype == np.float32
    assert edges.time.dtype == np.int64


def test_ids_are_exact_beyond_what_a_float_holds(tmp_path: Path, follows: MakeGraph) -> None:
    rows = f"{2**53},{2**53 + 1}\n{2**63 - 1},{2**63 - 2}\n0,{2**53 + 1}\n"
    graph = prepare(follows("src,dst\n" + rows), tmp_path / "out")
    assert pairs(graph, "follows") == sorted(tuple(row.split(",")) for row in rows.splitlines())


def test_string_ids_survive(tmp_path: Path, follows: MakeGraph) -> None:
    content = '\ufeffsrc,dst\r\nNA,null\r\n007,"a,b"\r\n" x",é\r\n😀,7\r\n'
    graph = prepare(follows(content, kind="string"), tmp_path / "out")
    assert pairs(graph, "follows") == [(" x", "é"), ("007", "a,b"), ("NA", "null"), ("😀", "7")]
    table = graph.entity("user").ids
    assert all(table.row(table.external(row)) == row for row in range(len(table)))


def test_types_may_differ_and_ids_of_two_types_are_apart(tmp_path: Path) -> None:
    (tmp_path / "graph.toml").write_text(
        '[entities.user]\nid = "int64"\n[entities.item]\nid = "string"\n[[relations]]\nname = "likes"\n'
        'source = "user"\ntarget = "item"\nfiles = "likes.tsv"\n'
    )
    (tmp_path / "likes.tsv").write_text("src\tdst\n7\t7\n8\t7\n7\tlonger\n")
    graph = prepare(tmp_path / "graph.toml", tmp_path / "out")
    assert pairs(graph, "likes") == [("7", "7"), ("7", "longer"), ("8", "7")]
    assert graph.relations[0].self_loops == 0


def test_files_of_several_sorts_make_one_relation(tmp_path: Path, follows: MakeGraph) -> None:
    graph_toml = follows("src,dst\n1,2\n")
    pq.write_table(pa.table({"src": ["3"], "dst": pa.array([4], pa.uint32())}), tmp_path / "more.parquet")
    graph_toml.write_text(graph_toml.read_text().replace('"follows.csv"', '["more.parquet", "follows.csv"]'))
    assert pairs(prepare(graph_toml, tmp_path / "out"), "follows") == [("1", "2"), ("3", "4")]


def test_old_timestamps_of_parquet_hold_every_year(tmp_path: Path, follows: MakeGraph) -> None:
    seconds = [-62_135_596_800, -1, 1_700_000_000, 253_402_300_799]
    table = pa.table({"src": [1, 2, 3, 4], "dst": [5, 5, 5, 5], "t": pa.array(seconds, pa.timestamp("s"))})
    pq.write_table(table, tmp_path / "e.parquet", use_deprecated_int96_timestamps=True)
    graph_toml = follows("", extra='time = "t"')
    graph_toml.write_text(graph_toml.read_text().replace("follows.csv", "e.parquet"))
    time = prepare(graph_toml, tmp_path / "out").relations[0].train.time
    assert time is not None
    assert sorted(time.tolist()) == seconds


def test_the_random_split_is_the_draw_that_is_promised(tmp_path: Path, follows: MakeGraph) -> None:
    edges = [(str(i), str(i * 7 % 1000 + 1000)) for i in range(997)]
    rows = "".join(f"{s},{t}\n" for s, t in edges)
    split = '[split]\nby = "random"\nfraction = 0.1\nseed = 1'
    graph = prepare(follows("src,dst\n" + rows + rows, extra=split), tmp_path / "out")
    source, target = (xxh64_of_numbers(np.array([int(edge[end]) for edge in edges])) for end in (0, 1))
    draws = Draw.of(["follows"], False, 1)(source, target, np.zeros(997, dtype=np.int32)) / 2**DRAW_BITS
    test, valid = np.flatnonzero(draws < 0.1).tolist(), np.flatnonzero(draws >= 0.95).tolist()
    assert pairs(graph, "follows", "test") == [edges[i] for i in test]
    assert pairs(graph, "follows", "valid") == [edges[i] for i in valid]
    assert pairs(graph, "follows") == sorted(edges[i] for i in range(997) if i not in {*test, *valid})
    assert graph.split is not None
    assert graph.split.model_dump() == {"relation": "follows", "by": "random", "fraction": 0.1, "seed": 1}


def test_of_the_fewest_edges_some_are_left_to_train_on(tmp_path: Path, follows: MakeGraph) -> None:
    """Each edge is held out with probability 3/4: of a relation with one edge that may be all."""
    for number in range(12):
        split = '[split]\nby = "random"\nfraction = 0.5'
        graph = prepare(follows(f"src,dst\n{number},{number + 20}\n", extra=split), tmp_path / f"{number}")
        assert counts(graph) == [(1, 0, 0)]


def test_every_relation_of_a_column_has_edges_to_train_on(tmp_path: Path) -> None:
    """A tenth of many edges is held out, so of relations of one edge every tenth had none left."""
    graph = prepare(write_star(tmp_path / "star"), tmp_path / "out")
    assert [(len(one.train), len(one.valid), len(one.test)) for one in graph.relations[1:]] == [(1, 0, 0)] * 40
    assert len(graph.relations[0].valid) > 50


def test_what_is_held_out_stays_so_while_the_graph_grows(tmp_path: Path) -> None:
    """What a version that is warm started is measured on and learns from, the version before was not trained on."""
    before, after = (prepare(write_growing(tmp_path / name, grown), tmp_path / name / "out") for name, grown in GROWTH)
    assert_nothing_leaks(before, after)


def test_the_time_split_holds_out_the_latest(tmp_path: Path, follows: MakeGraph) -> None:
    times = [50, 10, 90, 20, 100, 30, 80, 40, 60, 70, 100, 90]
    rows = "".join(f"{i},{i + 100},{t}\n" for i, t in enumerate(times))
    graph = prepare(
        follows("src,dst,t\n" + rows, extra='time = "t"\n[split]\nby = "time"\nfraction = 0.2'), tmp_path / "out"
    )
    assert [s for s, _ in pairs(graph, "follows", "test")] == ["4", "10"]
    assert [s for s, _ in pairs(graph, "follows", "valid")] == ["2", "11"]  # both of one time: they stay together
    assert len(graph.relations[0].train) == 8


def test_the_earliest_time_of_a_repeat_decides_the_split(tmp_path: Path, follows: MakeGraph) -> None:
    rows = "1,2,99\n" + "".join(f"{i},{i + 100},{i}\n" for i in range(10, 19)) + "1,2,0\n"
    graph = prepare(
        follows("src,dst,t\n" + rows, extra='time = "t"\n[split]\nby = "time"\nfraction = 0.1'), tmp_path / "out"
    )
    assert pairs(graph, "follows", "test") == [("18", "118")]


TWO = """
[entities.user]
id = "int64"
[entities.item]
id = "int64"
[[relations]]
name = "follows"
source = "user"
target = "user"
files = "follows.csv"
[[relations]]
name = "likes"
source = "user"
target = "item"
files = "likes.csv"
"""


def two_relations(tmp_path: Path, extra: str, edges: int = 2000) -> PreparedGraph:
    rows = "".join(f"{i % 97},{1000 + i}\n" for i in range(edges))
    for name in ("follows.csv", "likes.csv"):
        (tmp_path / name).write_text("src,dst\n" + rows)
    (tmp_path / "graph.toml").write_text(TWO + extra)
    return prepare(tmp_path / "graph.toml", tmp_path / "out")


def counts(graph: PreparedGraph) -> list[tuple[int, int, int]]:
    return [(len(one.train), len(one.valid), len(one.test)) for one in graph.relations]


def assert_shares(graph: PreparedGraph, *shares: tuple[float, float]) -> None:
    """So much of each relation is held out for validation and for test, as closely as a draw comes to it."""
    for (train, *held_out), expected in zip(counts(graph), shares, strict=True):
        total = train + sum(held_out)
        assert total == 2000
        for found, share in zip(held_out, expected, strict=True):
            assert abs(found - share * total) <= 4 * (share * total) ** 0.5


def test_every_relation_without_a_split_holds_out_a_slice_to_learn_from(tmp_path: Path) -> None:
    graph = two_relations(tmp_path, "")
    assert_shares(graph, (0.1, 0), (0.1, 0))  # 500 would be more than a tenth
    for relation in graph.relations:
        held_out = set(pairs(graph, relation.name, "valid"))
        assert held_out.isdisjoint(pairs(graph, relation.name))
        assert len(held_out | set(pairs(graph, relation.name))) == 2000


def test_beside_a_split_the_other_relations_hold_out_their_slice(tmp_path: Path) -> None:
    graph = two_relations(tmp_path, '[split]\nby = "random"\nrelation = "likes"')
    assert_shares(graph, (0.1, 0), (0.05, 0.1))
    assert graph.split_relation().name == "likes"


@pytest.mark.parametrize("relation", ["", 'relation = ["likes", "follows"]'])
def test_several_relations_are_split_alike(tmp_path: Path, relation: str) -> None:
    graph = two_relations(tmp_path, f'[split]\nby = "random"\n{relation}')
    assert_shares(graph, (0.05, 0.1), (0.05, 0.1))
    assert graph.split is not None
    assert graph.split.relations == (("likes", "follows") if relation else ("follows", "likes"))
    assert graph.split_relation().name == graph.split.relations[0]


def test_the_slice_can_be_switched_off_and_small_relations_have_none(tmp_path: Path) -> None:
    assert counts(two_relations(tmp_path, "[validation]\nfraction = 0")) == [(2000, 0, 0)] * 2
    assert counts(two_relations(tmp_path, "", edges=999)) == [(999, 0, 0)] * 2


TRIPLES = """
[entities.thing]
id = "string"
[[relations]]
name = "*"
relation_column = "rel"
source = "thing"
target = "thing"
files = "train.tsv"
[split]
by = "files"
test = "test.tsv"
valid = "valid.tsv"
"""


def test_relations_from_a_column(tmp_path: Path) -> None:
    (tmp_path / "graph.toml").write_text(TRIPLES)
    (tmp_path / "train.tsv").write_text(
        "src\tdst\trel\na\tb\tlikes\na\tb\tknows\nb\ta\tlikes\na\ta\tknows\na\tb\tlikes\n"
    )
    (tmp_path / "test.tsv").write_text("dst\trel\tsrc\nnew\tonly here\ta\nb\tlikes\ta\na\tlikes\ta\na\tlikes\ta\n")
    (tmp_path / "valid.tsv").write_text("src\tdst\trel\nb\tc\tknows\n")
    graph = prepare(tmp_path / "graph.toml", tmp_path / "out")
    assert [(r.name, len(r.train), r.duplicates, r.self_loops) for r in graph.relations] == [
        ("knows", 1, 0, 1),
        ("likes", 2, 1, 0),
        ("only here", 0, 0, 0),
    ]
    assert pairs(graph, "likes") == [("a", "b"), ("b", "a")]
    assert pairs(graph, "likes", "test") == [("a", "b"), ("a", "a"), ("a", "a")]  # held-out files stay as they are
    assert pairs(graph, "only here", "test") == [("a", "new")]
    assert pairs(graph, "knows", "valid") == [("b", "c")]
    assert graph.split is not None
    assert graph.split.model_dump() == {"relation": "*", "by": "files", "fraction": None, "seed": None}


def test_relations_named_by_numbers_are_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "graph.toml").write_text(
        TRIPLES.split("[split]")[0] + '[split]\nby = "random"\nfraction = 0.5\nseed = 3'
    )
    rows = "".join(f"a\tb{i}\t{i}\n" for i in (10, 9, 100, 1, 2))
    (tmp_path / "train.tsv").write_text("src\tdst\trel\n" + rows)
    graph = prepare(tmp_path / "graph.toml", tmp_path / "out")
    assert [relation.name for relation in graph.relations] == ["1", "2", "9", "10", "100"]
    everything = [p for r in graph.relations for part in ("train", "valid", "test") for p in pairs(graph, r.name, part)]
    assert sorted(everything) == sorted(("a", f"b{i}") for i in (10, 9, 100, 1, 2))
    assert all(t == f"b{r.name}" for r in graph.relations for _, t in pairs(graph, r.name))


def test_a_relation_of_a_column_may_not_take_a_listed_name(tmp_path: Path) -> None:
    more = '[[relations]]\nname = "likes"\nsource = "thing"\ntarget = "thing"\nfiles = "likes.tsv"\n'
    (tmp_path / "graph.toml").write_text(TRIPLES.split("[split]")[0] + more)
    (tmp_path / "train.tsv").write_text("src\tdst\trel\na\tb\tlikes\n")
    (tmp_path / "likes.tsv").write_text("src\tdst\na\tb\n")
    with pytest.raises(GraphFileError, match="has the value 'likes', and a relation of that name is listed too"):
        prepare(tmp_path / "graph.toml", tmp_path / "out")


def test_too_many_relations_point_to_a_wrong_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MAX_RELATIONS", 3)
    (tmp_path / "graph.toml").write_text(TRIPLES.split("[split]")[0])
    (tmp_path / "train.tsv").write_text("src\tdst\trel\n" + "".join(f"a\tb\t{i}\n" for i in range(4)))
    with pytest.raises(GraphFileError, match="more than 3 different values"):
        prepare(tmp_path / "graph.toml", tmp_path / "out")


edge_lists = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 8), st.integers(-9, 9)), min_size=1, max_size=60
)


@pytest.mark.usefixtures("either_way")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edges=edge_lists,
    symmetric=st.booleans(),
    kind=st.sampled_from(["int64", "string"]),
    bucket=st.sampled_from([3, 99]),
)
def test_preparing_agrees_with_plain_python(
    tmp_path_factory: pytest.TempPathFactory,
    follows: MakeGraph,
    monkeypatch: pytest.MonkeyPatch,
    edges: list[tuple[int, int, int, int]],
    symmetric: bool,
    kind: str,
    bucket: int,
) -> None:
    """Small blocks, buckets and look-ups make the paths that a large graph takes."""
    kept: dict[tuple[int, int], list[int]] = {}
    for s, t, w, when in edges:
        key = (min(s, t), max(s, t)) if symmetric else (s, t)
        if s != t:
            entry = kept.setdefault(key, [s, t, 0, when])
            entry[2] += w
            entry[3] = min(entry[3], when)
    loops = sum(s == t for s, t, _, _ in edges)
    if not kept:
        return
    monkeypatch.setattr(dedupe, "BUCKET_EDGES", bucket)
    monkeypatch.setattr(spool, "LOOKUP_STRINGS", bucket)
    monkeypatch.setattr(idspace, "MERGE_IDS", bucket)
    monkeypatch.setattr(text, "BLOCK_BYTES", 40)
    extra = 'weight = "w"\ntime = "t"' + ("\nsymmetric = true" if symmetric else "")
    rows = "".join(f"{s},{t},{w},{when}\n" for s, t, w, when in edges)
    graph = prepare(follows("src,dst,w,t\n" + rows, kind=kind, extra=extra), tmp_path_factory.mktemp("g") / "out")
    relation = graph.relations[0]
    assert relation.train.weight is not None
    assert relation.train.time is not None
    ids = graph.entity("user").ids
    ends = [map(int, ids.externals(np.asarray(end))) for end in (relation.train.src, relation.train.dst)]
    stored = zip(*ends, relation.train.weight.tolist(), relation.train.time.tolist(), strict=True)
    assert sorted(stored) == sorted(map(tuple, kept.values()))
    assert (relation.self_loops, relation.duplicates) == (loops, len(edges) - loops - len(kept))


def test_a_sum_of_weights_beyond_32_bits_stays_finite(tmp_path: Path, follows: MakeGraph) -> None:
    graph = prepare(follows("src,dst,w\n1,2,3e38\n1,2,3e38\n", extra='weight = "w"'), tmp_path / "out")
    assert graph.relations[0].train.weight == np.finfo(np.float32).max


def test_relations_that_a_split_leaves_nothing_to_train_on_are_named(tmp_path: Path) -> None:
    """A split of `"*"` by time is one for all relations: the newest of them may lie behind it as a whole."""
    old = "".join(f"{i},{i + 1},old,{i}\n" for i in range(40))
    (tmp_path / "edges.csv").write_text("src,dst,rel,at\n" + old + "1,2,new,90\n2,3,newest,91\n")
    (tmp_path / "graph.toml").write_text(
        '[entities.e]\nid = "int64"\n[[relations]]\nname = "*"\nrelation_column = "rel"\nsource = "e"\ntarget = "e"\n'
        'files = "edges.csv"\ntime = "at"\n[split]\nby = "time"\n'
    )
    graph = prepare(tmp_path / "graph.toml", tmp_path / "out")
    assert [len(relation.train) for relation in graph.relations] == [0, 0, 36]
    warning = graph.warnings()[0]
    assert warning.startswith("2 of 3 relations have no training edge, as all of theirs are held out: new, newest.")
    assert 'split by "random"' in warning


@pytest.mark.parametrize(
    ("split", "warns"),
    [
        ('by = "time"\nrelation = "bought"', True),
        ('by = "time"\nrelation = ["bought", "viewed"]', False),
        ('by = "time"\nrelation = "liked"', False),
        ('by = "random"\nrelation = "bought"', False),
    ],
)
def test_a_relation_that_is_trained_on_beyond_the_time_of_a_split_is_named(
    tmp_path: Path, split: str, warns: bool
) -> None:
    """What was viewed on the days of the held-out purchases tells of them: nobody has that when answering."""
    (tmp_path / "edges.csv").write_text("src,dst,at\n" + "".join(f"{i % 7},{i % 11},{i}\n" for i in range(60)))
    entry = '[[relations]]\nname = "{}"\nsource = "{}"\ntarget = "item"\nfiles = "edges.csv"\ntime = "at"\n'
    relations = [("viewed", "user"), ("bought", "user"), ("liked", "guest")]
    (tmp_path / "graph.toml").write_text(
        "".join(f'[entities.{name}]\nid = "int64"\n' for name in ("user", "guest", "item"))
        + "".join(entry.format(*relation) for relation in relations)
        + f"[split]\n{split}\n"
    )
    said = [line for line in prepare(tmp_path / "graph.toml", tmp_path / "out").warnings() if "to the end" in line]
    assert bool(said) == warns
    assert all(line.startswith("viewed: ") and "edges of bought" in line for line in said)


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("", "Add a [split] to graph.toml"),
        ('[split]\nby = "random"\nfraction = 0.001\n', "raise its fraction, or give it more edges"),
        ('[split]\nby = "files"\ntest = "edges.csv"\n', "Name files of them in [split] (valid = …)"),
    ],
)
def test_where_nothing_is_held_out_the_advice_is_not_what_was_done_already(
    tmp_path: Path, split: str, said: str
) -> None:
    (tmp_path / "edges.csv").write_text("src,dst\n1,2\n2,3\n")
    (tmp_path / "graph.toml").write_text(
        '[entities.e]\nid = "int64"\n[[relations]]\nname = "r"\nsource = "e"\ntarget = "e"\nfiles = "edges.csv"\n'
        + split
    )
    graph = prepare(tmp_path / "graph.toml", tmp_path / "out")
    with pytest.raises(UsageError, match=re.escape(said)):
        relations_held_out(graph, "valid", "r")
    if "files" not in split:
        with pytest.raises(UsageError, match=re.escape(said)):
            graph.split_relation()

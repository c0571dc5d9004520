"""Public data sets become graphs that can be prepared, with the traps of each."""

import gzip
import re
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle.appearing import appearing
from bundle.errors import EdgeFileError, UsageError
from bundle.prepared import PARTS, PreparedGraph
from graph.importers import import_graph
from graph.prepare import prepare
from graph.rawtext import squash

FOLLOW = "user_index,author_index,time_chunk\n" + "".join(f"{i},{i % 7},{i * 10}\n" for i in range(1, 40))


def edges(graph: PreparedGraph, relation: str) -> list[tuple[str, str]]:
    found = graph.relation(relation)
    sources = graph.entity(found.source).ids.externals(np.asarray(found.train.src))
    targets = graph.entity(found.target).ids.externals(np.asarray(found.train.dst))
    return sorted(zip(sources, targets, strict=True))


def test_twitter_columns_are_separate_id_spaces_and_the_earliest_chunk_counts(tmp_path: Path) -> None:
    source = tmp_path / "TwitterFollowGraph.csv"
    source.write_text("user_index,author_index,time_chunk\n7,7,700\n" + FOLLOW.split("\n", 1)[1] + "7,7,0\n")
    path = import_graph("twitter-follow", [source], tmp_path / "graph")
    graph = prepare(path, tmp_path / "out")
    follows = graph.relation("follows")
    assert (follows.source, follows.target) == ("user", "author")
    assert ("7", "7") in edges(graph, "follows")  # no self-loop: user 7 is not author 7
    assert follows.train.time is not None
    assert follows.train.time.min() == 0
    assert (follows.self_loops, follows.duplicates) == (0, 1)
    assert graph.split is not None
    assert graph.split.by == "time"
    assert (len(follows.valid), len(follows.test)) == (2, 4)
    assert int(follows.train.time.max()) == 330


@pytest.mark.parametrize("form", ["csv", "gz", "zip", "parquet"])
def test_favourites_from_every_form_of_file(tmp_path: Path, form: str) -> None:
    text = FOLLOW.replace("author_index", "tweet_index").encode()
    source = tmp_path / {"csv": "f.csv", "gz": "f.csv.gz", "zip": "f.csv.zip", "parquet": "f.parquet"}[form]
    source.write_bytes(gzip.compress(text) if form == "gz" else text)
    if form == "zip":
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("TwitterFaveGraph.csv", text)
            archive.writestr("__MACOSX/._TwitterFaveGraph.csv", b"\0")
    if form == "parquet":
        pq.write_table(pa.csv.read_csv(pa.BufferReader(text)), source)
    graph = prepare(import_graph("twitter-fave", [source], tmp_path / "graph"), tmp_path / "out")
    assert [entity.name for entity in graph.entities] == ["user", "tweet"]
    assert len(graph.relation("favorites").train) + len(graph.relation("favorites").test) > 30
    assert {("1", "1"), ("2", "2")} <= set(edges(graph, "favorites"))


def test_several_files_are_one_relation(tmp_path: Path) -> None:
    for i in range(2):
        columns = {"user_index": [i], "tweet_index": [5], "time_chunk": [i]}
        pq.write_table(pa.table(columns), tmp_path / f"{i}.parquet")
    path = import_graph("twitter-fave", [tmp_path / "0.parquet", tmp_path / "1.parquet"], tmp_path / "graph")
    assert edges(prepare(path, tmp_path / "out"), "favorites") == [("0", "5"), ("1", "5")]


SNAP = """# Directed graph (each unordered pair of nodes is saved once): web.txt
# FromNodeId\tToNodeId
0\t1
  0  2
2\t \t0

% another comment
3 1
"""


@pytest.mark.parametrize("zipped", [False, True])
def test_snap_edge_lists(tmp_path: Path, zipped: bool) -> None:
    source = tmp_path / ("web.txt.gz" if zipped else "web.txt")
    source.write_bytes(gzip.compress(SNAP.encode()) if zipped else SNAP.encode())
    graph = prepare(import_graph("snap", [source], tmp_path / "graph"), tmp_path / "out")
    assert edges(graph, "edges") == [("0", "1"), ("0", "2"), ("2", "0"), ("3", "1")]
    assert not graph.relations[0].symmetric


def test_an_undirected_snap_graph_is_symmetric(tmp_path: Path) -> None:
    source = tmp_path / "com.ungraph.txt"
    source.write_text("# Undirected graph: com.ungraph.txt\n# FromNodeId ToNodeId\n1 2\n2 1\n1 3\n")
    graph = prepare(import_graph("snap", [source], tmp_path / "graph"), tmp_path / "out")
    assert graph.relations[0].symmetric
    assert edges(graph, "edges") == [("1", "2"), ("1", "3")]


def test_an_undirected_graph_of_konect_is_symmetric(tmp_path: Path) -> None:
    source = tmp_path / "out.ungraph"
    source.write_text("% sym unweighted\n% 3 3 3\n1 2\n2 1\n1 3\n")
    graph = prepare(import_graph("snap", [source], tmp_path / "graph"), tmp_path / "out")
    assert graph.relations[0].symmetric
    assert edges(graph, "edges") == [("1", "2"), ("1", "3")]


def test_a_bipartite_graph_of_konect_is_refused(tmp_path: Path) -> None:
    """Its sides have the same numbers: user 1 is not item 1."""
    source = tmp_path / "out.ratings"
    source.write_text("% bip weighted\n1 1 5\n2 1 3\n")
    with pytest.raises(EdgeFileError, match=r"is bipartite.* graph\.toml of two types"):
        import_graph("snap", [source], tmp_path / "graph", third="weight")


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(
    ("kind", "symmetric"),
    [("real general", False), ("real symmetric", True), ("real Skew-Symmetric", True), ("complex hermitian", True)],
)
def test_a_matrix_is_refused_and_the_command_helps(tmp_path: Path, kind: str, symmetric: bool, packed: str) -> None:
    """Its line of sizes would be an edge; one triangle of a symmetric matrix is half of the graph."""
    source = tmp_path / f"a list.mtx{packed}"
    text = f"%%MatrixMarket matrix coordinate {kind}\n% a comment\n7 7 2\n2 1 .5\n3 2 1\n".encode()
    source.write_bytes(gzip.compress(text) if packed else text)
    with pytest.raises(EdgeFileError, match="MatrixMarket") as caught:
        import_graph("snap", [source], tmp_path / "graph", third="weight")
    command = re.search("`(.*)`", str(caught.value))
    assert command is not None
    subprocess.run(["bash", "-c", command[1]], check=True)
    path = import_graph("snap", [tmp_path / f"{source.name}.edges"], tmp_path / "graph", third="weight")
    written = pq.read_table(tmp_path / "graph" / "edges.parquet").to_pydict()
    assert written == {"src": [2, 3], "dst": [1, 2], "weight": [0.5, 1.0]}
    assert ("symmetric = true" in path.read_text()) == symmetric


def test_files_of_which_only_some_are_undirected_are_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("# Undirected graph: 1\n1 2\n")
    other.write_text("2 3\n")
    with pytest.raises(UsageError, match=r"one\.txt says at its head that it is undirected, .*other\.txt does not"):
        import_graph("snap", [one, other], tmp_path / "graph")
    other.write_text("# Undirected graph\n2 3\n")
    assert "symmetric = true" in import_graph("snap", [one, other], tmp_path / "graph").read_text()


def test_the_third_column_of_a_snap_list_must_be_named(tmp_path: Path) -> None:
    source = tmp_path / "temporal.txt"
    source.write_text("".join(f"{i} {i + 1} {100 - i}\n" for i in range(20)))
    with pytest.raises(UsageError, match="Say what it is with --third"):
        import_graph("snap", [source], tmp_path / "graph")
    timed = prepare(import_graph("snap", [source], tmp_path / "timed", third="time"), tmp_path / "1")
    assert timed.relations[0].train.time is not None
    weighted = prepare(import_graph("snap", [source], tmp_path / "weighted", third="weight"), tmp_path / "2")
    assert weighted.relations[0].train.weight is not None
    plain = prepare(import_graph("snap", [source], tmp_path / "plain", third="ignore"), tmp_path / "3")
    assert plain.relations[0].train.weight is None
    assert plain.relations[0].train.time is None


def test_snap_ids_may_be_names(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("alice bob\nbob 7\n")
    graph = prepare(import_graph("snap", [tmp_path / "names.txt"], tmp_path / "graph"), tmp_path / "out")
    assert edges(graph, "edges") == [("alice", "bob"), ("bob", "7")]


def test_a_bad_snap_line_is_found_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "web.txt").write_text(SNAP + "4 x\n")
    with pytest.raises(EdgeFileError, match=r"web\.txt, line 9, column 'dst': found 'x'"):
        import_graph("snap", [tmp_path / "web.txt"], tmp_path / "graph")
    assert not (tmp_path / "graph" / "graph.toml").exists()
    (tmp_path / "web.txt").write_text(SNAP + "4\n")
    with pytest.raises(EdgeFileError, match="line 9: found 1 fields in '4', expected 2"):
        import_graph("snap", [tmp_path / "web.txt"], tmp_path / "graph")


def test_squashing_keeps_the_number_of_lines() -> None:
    text = b"  1 \t 2  \r\n# x\n\n   # y\n3\t4\n"
    assert squash(text) == b"1 2\n\n\n\n3 4\n"


def test_triples_in_files_by_name(tmp_path: Path) -> None:
    files = []
    for part, line in (("train", "a\tr1\tb\nb\tr 2\tc"), ("valid", "a\tr1\tc"), ("test", "b\tr1\tnew")):
        files.append(tmp_path / f"{part}.txt")
        files[-1].write_text(line + "\n")
    graph = prepare(import_graph("triples", files, tmp_path / "graph"), tmp_path / "out")
    assert [(r.name, len(r.train), len(r.valid), len(r.test)) for r in graph.relations] == [
        ("r 2", 1, 0, 0),
        ("r1", 1, 1, 1),
    ]
    assert graph.entity("entity").count == 4


def test_one_file_of_triples_with_a_header(tmp_path: Path) -> None:
    rows = "".join(f"e{i}\tr\te{i + 1}\n" for i in range(300))
    (tmp_path / "kg.tsv").write_text("head\trelation\ttail\n" + rows)
    graph = prepare(import_graph("triples", [tmp_path / "kg.tsv"], tmp_path / "graph"), tmp_path / "out")
    train, valid, test = (len(graph.relations[0].part(part)) for part in PARTS)
    assert train + valid + test == 300
    assert 0 < valid < test < 60  # a twentieth and a tenth, as closely as a draw comes to it


def test_what_cannot_be_imported(tmp_path: Path) -> None:
    csv = tmp_path / "f.csv"
    csv.write_text("user_index,tweet_index\n1,2\n")
    with pytest.raises(EdgeFileError, match="column 'time_chunk' is missing; the file has 'user_index', 'tweet_index'"):
        import_graph("twitter-fave", [csv], tmp_path / "graph")
    with pytest.raises(EdgeFileError, match=r"absent\.csv does not exist"):
        import_graph("twitter-fave", [tmp_path / "absent.csv"], tmp_path / "graph")
    csv.write_text("user_index,tweet_index,time_chunk\n")
    with pytest.raises(EdgeFileError, match="no edge in it"):
        import_graph("twitter-fave", [csv], tmp_path / "graph")
    assert not (tmp_path / "graph").exists()
    csv.rename(tmp_path / "f.zip")
    with pytest.raises(EdgeFileError, match="not a readable zip file"):
        import_graph("twitter-fave", [tmp_path / "f.zip"], tmp_path / "graph")
    with pytest.raises(UsageError, match="give one file, or files whose names hold train"):
        import_graph("triples", [tmp_path / "f.zip", tmp_path / "f.zip"], tmp_path / "graph")
    with pytest.raises(UsageError, match="A third column is for SNAP"):
        import_graph("triples", [tmp_path / "f.zip"], tmp_path / "graph", third="time")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "graph.toml").touch()
    with pytest.raises(UsageError, match="is there already. Name a new directory"):
        import_graph("snap", [tmp_path / "f.zip"], tmp_path / "taken")


def test_an_import_never_writes_over_what_it_reads_or_beside_another(tmp_path: Path) -> None:
    """What it writes is called as files to import may be."""
    (tmp_path / "here").mkdir()
    source = tmp_path / "here" / "follows.parquet"
    pq.write_table(pa.table({"user_index": [1], "author_index": [2], "time_chunk": [3], "more": [4]}), source)
    before = source.read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        import_graph("twitter-follow", [source], tmp_path / "here")
    assert source.read_bytes() == before
    with appearing(tmp_path / "graph"), pytest.raises(UsageError, match="Another process writes"):
        import_graph("twitter-follow", [source], tmp_path / "graph")
    assert not list((tmp_path / "graph").iterdir())


@pytest.mark.parametrize("damage", ["a byte", "encrypted", "method", "cut"])
def test_a_zip_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    source = tmp_path / "f.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("TwitterFollowGraph.csv", FOLLOW)
    content = bytearray(source.read_bytes())
    central = content.index(b"PK\x01\x02")
    if damage == "a byte":
        content[central // 2] ^= 1
    elif damage == "cut":
        del content[60:central]
    else:  # in both headers: of the file and in the directory
        for start, offset in ((0, 6), (central, 8)):
            content[start + offset + (2 if damage == "method" else 0)] = 99 if damage == "method" else 1
    source.write_bytes(content)
    with pytest.raises(EdgeFileError, match=r"f\.zip (is not a readable zip file|cannot be read)") as caught:
        import_graph("twitter-follow", [source], tmp_path / "graph")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_an_edge_list_may_begin_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    source = tmp_path / "list.txt"
    source.write_bytes("# Undirected graph: é\n# Nodes: 3\n1\t2\n2\t3\n".encode(encoding))
    graph = prepare(import_graph("snap", [source], tmp_path / "graph"), tmp_path / "out")
    assert graph.relation("edges").symmetric
    assert edges(graph, "edges") == [("1", "2"), ("2", "3")]

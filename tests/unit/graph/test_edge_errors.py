"""Bad edges stop preparing with one line: file, place, column, what was found, what to do; and leave nothing behind."""

import errno
import gzip
import resource
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle.errors import EdgeFileError, GraphFileError
from bundle.progress import SilentStage
from graph.files import expand, open_edge_file
from graph.parquet import ParquetEdgeFile
from graph.prepare import prepare
from graph.rawtext import zip_opener

MakeGraph = Callable[..., Path]

FAULTS: dict[str, tuple[str, str, str, str]] = {
    "word": (
        "1,2\n3,abc\n",
        "int64",
        "",
        r"line 3, column 'dst': found 'abc', expected a whole number.*id = \"string\"",
    ),
    "fraction": ("1.5,2\n", "int64", "", r"line 2, column 'src': found '1\.5'"),
    "exponent": ("1e3,2\n", "int64", "", "line 2, column 'src': found '1e3'"),
    "endless line": (f"1,2\n{'1' * 3_000_000},2\n", "int64", "", "line 3: a line is longer than 1048576 bytes, or"),
    "negative": ("1,-2\n", "int64", "", "line 2, column 'dst': found '-2'"),
    "overflow": ("1,9223372036854775808\n", "int64", "", "line 2, column 'dst': found '9223372036854775808'"),
    "null int": ("1,2\n,3\n", "int64", "", "line 3, column 'src': found ''"),
    "empty string": ("a,b\n,c\n", "string", "", "line 3, column 'src': found '', expected text of 1 to 256 bytes"),
    "long string": (f"a,{'é' * 129}\n", "string", "", "line 2, column 'dst': found 'éé.*…, expected .* not 258 bytes"),
    "not UTF-8": ("a,\udcff\n", "string", "", r"line 2, column 'dst': found '\\\\xff'"),
    "later line": ('a,"b\nc"\nd,\n', "string", "", "line 4, column 'dst': found ''"),
    "no edge": ("", "int64", "", "Relation 'follows': no edge in"),
    "only loops": ("1,1\n2,2\n", "int64", "", "each of its edges joins an entity to itself"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_in_text(tmp_path: Path, follows: MakeGraph, name: str) -> None:
    rows, kind, extra, message = FAULTS[name]
    content = ("src,dst\n" + rows).encode(errors="surrogateescape")
    expect_error(tmp_path, follows(content, kind=kind, extra=extra), message)


WEIGHTED: dict[str, tuple[str, str]] = {
    "NaN": ("1,2,nan,0\n", "line 2, column 'w': found nan, expected a finite number"),
    "infinite": ("1,2,1,0\n3,4,inf,0\n", "line 3, column 'w': found inf"),
    "negative": ("1,2,-0.5,0\n", "line 2, column 'w': found -0.5"),
    "empty weight": ("1,2,,0\n", "line 2, column 'w': found ''"),
    "fraction of time": ("1,2,1,0.5\n", "line 2, column 't': found '0.5', expected a whole number of 64 bits"),
    "null time": ("1,2,1,\n", "line 2, column 't': found ''"),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_faults_in_weights_and_times(tmp_path: Path, follows: MakeGraph, name: str) -> None:
    rows, message = WEIGHTED[name]
    expect_error(tmp_path, follows("src,dst,w,t\n" + rows, extra='weight = "w"\ntime = "t"'), message)


PARQUET: dict[str, tuple[list[object], object, str, str]] = {
    "null": ([1, 2, None], pa.int64(), "int64", r"row 3, column 'dst': found nothing \(null\)"),
    "negative": ([1, -2], pa.int64(), "int64", "row 2, column 'dst': found -2"),
    "overflow": ([1, 2**63], pa.uint64(), "int64", "row 2, column 'dst': found 9223372036854775808"),
    "float": ([1.0, 2.0], pa.float64(), "int64", "column 'dst': found a column of type double.*a float cannot hold"),
    "float for text": ([1.0], pa.float64(), "string", "column 'dst': found a column of type double"),
    "null text": (["a", None], pa.string(), "string", r"row 2, column 'dst': found nothing \(null\)"),
}


@pytest.mark.parametrize("name", PARQUET)
def test_faults_in_parquet(tmp_path: Path, follows: MakeGraph, name: str) -> None:
    values, kind, ids, message = PARQUET[name]
    graph = follows(b"", name="follows.parquet", kind=ids)
    table = pa.table({"src": list(range(len(values))), "dst": pa.array(values, type=kind)})
    pq.write_table(table, tmp_path / "follows.parquet")
    expect_error(tmp_path, graph, message)


def test_the_place_is_right_in_a_later_file_and_batch(tmp_path: Path, follows: MakeGraph) -> None:
    graph = follows("src,dst\n1,2\n", name="part-1.csv")
    (tmp_path / "part-2.csv").write_text("src,dst\n" + "1,2\n" * 400_000 + "x,2\n")
    graph.write_text(graph.read_text().replace("part-1.csv", "part-*.csv"))
    expect_error(tmp_path, graph, r"part-2\.csv, line 400002, column 'src': found 'x'")


MANY = {
    "values": (
        "src,dst\n1,x\n1,2\n3,y\n4,z\n5,a\n",
        r"line 2, .*found 'x'.* At least 3 more like it: line 4, line 5, line 6\.$",
    ),
    "fields": ("src,dst\n1,2\n3\n4,5,6\n7,8\n", r"line 3: found 1 fields .* At least 1 more like it: line 4\.$"),
    "very many": ("src,dst\n" + "1,x\n" * 500, r"At least 20 more like it: line 3, line 4, line 5, …\.$"),
}


@pytest.mark.parametrize("name", MANY)
def test_further_faults_like_the_first_are_counted(tmp_path: Path, follows: MakeGraph, name: str) -> None:
    content, message = MANY[name]
    expect_error(tmp_path, follows(content), message)


def test_further_rows_of_parquet_are_counted(tmp_path: Path, follows: MakeGraph) -> None:
    graph = follows(b"", name="follows.parquet")
    table = pa.table({"src": pa.array([5, None, 7, -1]), "dst": pa.array(["1", "2", "3", "4"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "follows.parquet")
    expect_error(tmp_path, graph, r"row 2, column 'src': found nothing .* At least 1 more like it: row 4\.$")


def test_of_many_columns_the_first_are_listed(tmp_path: Path, follows: MakeGraph) -> None:
    graph = follows(",".join(f"c{i}" for i in range(5000)) + "\n")
    expect_error(tmp_path, graph, "column 'src' is missing; the file has 'c0', .*'c19' and 4980 more")


def test_missing_file(tmp_path: Path, follows: MakeGraph) -> None:
    graph = follows("src,dst\n1,2\n")
    (tmp_path / "follows.csv").unlink()
    expect_error(
        tmp_path, graph, r"follows\.csv does not exist\. .*graph\.toml: relations\[0\] \(follows\)\.files names it"
    )


def test_a_time_split_that_leaves_nothing(tmp_path: Path, follows: MakeGraph) -> None:
    extra = 'time = "t"\n[split]\nby = "time"\nfraction = 0.5'
    graph = follows("src,dst,t\n1,2,5\n3,4,5\n", extra=extra)
    with pytest.raises(GraphFileError, match='have the time 5, so a split by time leaves none to .* Split by "random"'):
        prepare(graph, tmp_path / "out")
    edges = "src,dst,t\n1,2,5\n3,4,5\n5,6,5\n7,8,4\n"
    with pytest.raises(GraphFileError, match=r"leaves none to train on. Lower split\.fraction"):
        prepare(follows(edges, extra=extra), tmp_path / "out")
    assert len(prepare(follows(edges, extra=extra.replace("0.5", "0.25")), tmp_path / "out").relations[0].train) == 1


def expect_error(tmp_path: Path, graph: Path, message: str) -> None:
    with pytest.raises(EdgeFileError, match=message) as caught:
        prepare(graph, tmp_path / "run" / "graph")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "run").iterdir()) == [] if (tmp_path / "run").exists() else True


@contextmanager
def no_more_open_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz", "jsonl", "jsonl.gz"])
def test_too_many_open_files_are_no_fault_of_an_edge_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"e.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table({"src": [1], "dst": [2]}), path)
    else:
        text = b"src,dst\n1,2\n" if "csv" in ending else b'{"src": 1, "dst": 2}\n'
        path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    file = open_edge_file(path, None)

    def read() -> list[object]:
        return list(file.batches(["src", "dst"], SilentStage()))

    assert len(read()) == 1
    for ask in (read, lambda: file.names(["src", "dst"])):
        expect_limit(ask)


def test_too_many_open_files_are_no_fault_of_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("e.csv", "src,dst\n1,2\n")
    zip_opener(tmp_path / "e.zip")
    expect_limit(lambda: zip_opener(tmp_path / "e.zip"))


def test_too_many_open_files_are_no_fault_of_what_a_graph_file_names(tmp_path: Path) -> None:
    (tmp_path / "e.csv").touch()
    assert expand(tmp_path, ["*.csv"], "files").paths == (tmp_path / "e.csv",)
    with no_more_open_files(), pytest.raises(EdgeFileError, match=r"Raise the limit of open files \(ulimit -Hn\)"):
        expand(tmp_path, ["*.csv"], "files")


def expect_limit(ask: Callable[[], object]) -> None:
    with no_more_open_files(), pytest.raises(OSError, match="Too many open files") as caught:
        ask()
    assert caught.value.errno == errno.EMFILE


def test_a_file_is_not_encrypted_for_what_its_path_is_called(tmp_path: Path) -> None:
    """It was removed after it had been found."""
    with pytest.raises(EdgeFileError, match=r"No such file or directory\. Write it again\.$"):
        ParquetEdgeFile(tmp_path / "encrypted" / "gone.parquet").names(["src"])

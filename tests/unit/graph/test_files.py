"""Which files a pattern names: folders, globs, links and loops, brackets, columns in the names of folders."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle.errors import EdgeFileError, GraphFileError
from bundle.prepared import PreparedGraph
from graph.describe import describe
from graph.files import expand
from graph.prepare import prepare

EDGES = "src,dst,w\n1,2,1\n3,4,1\n"
GRAPH = """
[entities.user]
id = "{kind}"
[[relations]]
name = "follows"
source = "user"
target = "user"
files = {files}
{extra}
"""


def written(directory: Path, *names: str, content: str = EDGES) -> None:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(content)


def graph_of(directory: Path, files: str, extra: str = 'weight = "w"', kind: str = "int64") -> Path:
    (directory / "graph.toml").write_text(GRAPH.format(files=files, extra=extra, kind=kind))
    return directory / "graph.toml"


def prepared(directory: Path, files: str, extra: str = 'weight = "w"', kind: str = "int64") -> PreparedGraph:
    return prepare(graph_of(directory, files, extra, kind), directory / "out")


def weights(graph: PreparedGraph) -> list[float]:
    weight = graph.relations[0].train.weight
    assert weight is not None
    return sorted(weight.tolist())


LINKED = {
    "a link": ('"*.csv"', "latest.csv"),
    "overlapping globs": ('["part-*.csv", "*-1.csv"]', None),
    "one name twice": ('["part-1.csv", "./part-1.csv"]', None),
    "a loop": ('"**/*.csv"', "sub/loop"),
    "two loops": ('"**/*.csv"', "sub/loop"),
    "a folder and a file of it": ('["part-1.csv", "../graph/part-1.csv"]', None),
}


@pytest.mark.parametrize("name", LINKED)
def test_a_file_that_is_reached_twice_counts_once_and_it_is_said(tmp_path: Path, name: str) -> None:
    files, link = LINKED[name]
    directory = tmp_path / "graph"
    written(directory, "part-1.csv")
    (directory / "sub").mkdir()
    if link is not None:
        (directory / link).symlink_to(directory if link.endswith("loop") else directory / "part-1.csv")
    if name == "two loops":
        (directory / "sub" / "again").symlink_to(directory / "sub")
    graph = prepared(directory, files)
    assert weights(graph) == [1, 1]
    assert graph.relations[0].duplicates == 0
    text = str(describe(directory / "graph.toml"))
    assert ("reached under another name as well, and read once" in text) == (link is None or not link.endswith("loop"))


def test_a_hard_link_is_the_same_file_and_a_copy_is_another(tmp_path: Path) -> None:
    written(tmp_path, "a.csv", "c.csv")
    (tmp_path / "b.csv").hardlink_to(tmp_path / "a.csv")
    files = expand(tmp_path, ["*.csv"], "files")
    assert (files.paths, files.repeats) == ((tmp_path / "a.csv", tmp_path / "c.csv"), (tmp_path / "b.csv",))


def test_two_relations_may_read_one_file(tmp_path: Path) -> None:
    written(tmp_path, "a.csv")
    more = '[[relations]]\nname = "back"\nsource = "user"\ntarget = "user"\nfiles = "a.csv"\nsrc = "dst"\ndst = "src"'
    assert [len(relation.train) for relation in prepared(tmp_path, '"a.csv"', more).relations] == [2, 2]


def test_a_folder_stands_for_the_files_in_it_and_below(tmp_path: Path) -> None:
    written(tmp_path, "likes/b.csv", "likes/a/c.csv", "likes/d.tsv", content=EDGES)
    written(tmp_path, "likes/_SUCCESS", "likes/.b.csv.crc", "likes/_temporary/x.csv", "likes/.tmp/y.csv", content="")
    (tmp_path / "likes" / "a" / "up").symlink_to(tmp_path / "likes")
    names = ["a/c.csv", "b.csv", "d.tsv"]
    for pattern in ("likes", "likes/", "lik*", "likes/**"):
        assert expand(tmp_path, [pattern], "files").paths == tuple(tmp_path / "likes" / name for name in names)
    (tmp_path / "empty").mkdir()
    with pytest.raises(GraphFileError, match="'empty' matches no file"):
        expand(tmp_path, ["empty"], "files")


def test_a_strange_file_in_a_folder_is_refused_and_a_glob_helps(tmp_path: Path) -> None:
    written(tmp_path, "likes/b.csv", "likes/README.md")
    with pytest.raises(EdgeFileError, match=r"README\.md: the ending does not say .* or name the files .* by a glob"):
        prepared(tmp_path, '"likes"')
    assert weights(prepared(tmp_path, '"likes/*.csv"')) == [1, 1]


LOGS = [
    "_delta_log/0.json",
    ".hoodie/hoodie.properties",
    "metadata/v1.metadata.json",
    "metadata/version-hint.text",
    "metadata/00003-5f2c.gz.metadata.json",
    "metadata/v2.metadata.json.gz",
]


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize(
    "pattern",
    [
        "likes",
        "likes/*.parquet",
        "likes/data",
        "likes/data/*.parquet",
        "likes/dt=1/2026/*",
        "likes/us",
        "likes/us/south/*.parquet",
        "likes/**/us/**",
        "l*/us/*/*",
        "**/*.pq",
        ".",
        "latest",
    ],
)
def test_the_folder_of_a_table_is_refused(tmp_path: Path, log: str, pattern: str) -> None:
    """However its files are found, but for those that are named: a list of them may be what is not deleted."""
    written(tmp_path, "likes/b.parquet", "likes/data/c.parquet", "likes/dt=1/2026/d.pq", "likes/us/south/e.parquet")
    written(tmp_path, f"likes/{log}")
    (tmp_path / "latest").symlink_to("likes/data")
    with pytest.raises(EdgeFileError, match="likes is an? (Delta|Hudi|Iceberg) table: .*Export the table to Parquet"):
        expand(tmp_path, [pattern], "files")
    assert expand(tmp_path, ["likes/data/c.parquet"], "files").paths == (tmp_path / "likes" / "data" / "c.parquet",)


@pytest.mark.parametrize("pattern", ["likes/us/*.parquet", "likes/us", "likes/us/*/*.parquet"])
@pytest.mark.parametrize("ending", ["", ".parquet"])
def test_a_partition_of_hudi_is_told_by_the_mark_in_it(tmp_path: Path, pattern: str, ending: str) -> None:
    """Its folders may have plain names, from which nothing leads up to the log."""
    for folder in ("us", "us/south"):
        written(tmp_path, f"likes/{folder}/a.parquet", f"likes/{folder}/.hoodie_partition_metadata{ending}")
    with pytest.raises(EdgeFileError, match="us(/south)? is a Hudi table: .*Export the table to Parquet"):
        expand(tmp_path, [pattern], "files")


@pytest.mark.parametrize("part", ["base_0000007", "base_0000007_v0000031", "delta_0000008_0000008_0000"])
@pytest.mark.parametrize("pattern", ["likes", "likes/dt=1/*", "likes/dt=1/{part}", "**/*.parquet"])
def test_a_transactional_table_of_hive_is_told_by_its_parts(tmp_path: Path, part: str, pattern: str) -> None:
    """What its compaction has put together stands in the older parts as well, until a cleaner comes."""
    written(tmp_path, f"likes/dt=1/{part}/000000_0.parquet")
    with pytest.raises(EdgeFileError, match=f"{part} is a Hive table: .*Export the table to Parquet"):
        expand(tmp_path, [pattern.format(part=part)], "files")
    written(tmp_path, "other/base_1/a.parquet", "other/delta_force/a.parquet")
    assert len(expand(tmp_path, ["other"], "files").paths) == 2


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("pattern", ["graphs/likes", "graphs/likes/*.parquet", "graphs/**/*.parquet"])
def test_a_log_in_a_folder_beside_refuses_nothing(tmp_path: Path, log: str, pattern: str) -> None:
    written(tmp_path, "graphs/likes/a.parquet", f"graphs/table/{log}", f"other/{log}")
    assert expand(tmp_path, [pattern], "files").paths == (tmp_path / "graphs" / "likes" / "a.parquet",)


@pytest.mark.parametrize("log", LOGS)
def test_text_is_of_no_table(tmp_path: Path, log: str) -> None:
    written(tmp_path, "likes/data/a.csv", f"likes/{log}")
    for pattern in ("likes/data", "likes/**/*.csv"):
        assert expand(tmp_path, [pattern], "files").paths == (tmp_path / "likes" / "data" / "a.csv",)


def test_other_metadata_makes_no_table(tmp_path: Path) -> None:
    written(tmp_path, "likes/a.parquet", "likes/metadata/x.metadata.json", "likes/metadata/view.json")
    assert expand(tmp_path, ["likes/*.parquet"], "files").paths == (tmp_path / "likes" / "a.parquet",)


@pytest.mark.parametrize("pattern", ["[new] a?/*.csv", "[new] a?/**/*.csv", "**/[new] a?/e.csv", "[[]new] a?/e.csv"])
def test_brackets_in_the_name_of_a_folder(tmp_path: Path, pattern: str) -> None:
    written(tmp_path, "[new] a?/e.csv")
    assert expand(tmp_path, [pattern], "files").paths == (tmp_path / "[new] a?" / "e.csv",)
    assert expand(Path("/nowhere"), [str(tmp_path / pattern)], "files").paths == (tmp_path / "[new] a?" / "e.csv",)


def test_brackets_within_a_glob_are_explained(tmp_path: Path) -> None:
    written(tmp_path, "e[1]-a.csv")
    with pytest.raises(GraphFileError, match=r"matches no file .* is written \[\[\]\.") as caught:
        expand(tmp_path, ["e[1]-*.csv"], "files")
    assert "\n" not in str(caught.value)
    assert expand(tmp_path, ["e[[]1]-*.csv"], "files").paths == (tmp_path / "e[1]-a.csv",)


@pytest.mark.parametrize("pattern", ["gone.csv", "*.csv", "folder"])
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, pattern: str) -> None:
    written(tmp_path, "e.csv", "folder/e.csv")
    for name in ("gone.csv", "folder/gone.csv"):
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(EdgeFileError, match=r"gone\.csv does not exist\. files names it"):
        expand(tmp_path, [pattern], "files")


def test_columns_in_the_names_of_folders(tmp_path: Path) -> None:
    for day, user in (("1970-01-02", 5), ("1970-01-03", 6)):
        folder = tmp_path / "likes" / f"dt={day}" / "kind%20of=a%2Fb"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"src": [user, user], "dst": [1, 2]}), folder / "part-0.parquet")
        (folder / "part-1.csv").write_text(f"src,dst\n{user},3\n")
        (folder / "part-2.jsonl").write_text(f'{{"src": {user}, "dst": 4}}\n')
    extra = 'time = "dt"\nrelation_column = "kind of"'
    toml = graph_of(tmp_path, '"likes"', extra)
    toml.write_text(toml.read_text().replace('"follows"', '"*"'))
    graph = prepare(toml, tmp_path / "out")
    assert graph.relations[0].name == "a/b"
    time = graph.relations[0].train.time
    assert time is not None
    assert time.tolist() == [86_400] * 4 + [172_800] * 4
    users = graph.entity("user").ids.externals(np.asarray(graph.relations[0].train.src))
    assert users == ["5"] * 4 + ["6"] * 4


@pytest.mark.parametrize("folder", [b"src=%ff", b"src=\xff"])
def test_what_the_name_of_a_folder_says_that_is_no_text_is_refused(tmp_path: Path, folder: bytes) -> None:
    """%ff and %fe had both been one sign that stands for what cannot be read, and so one entity."""
    directory = tmp_path / os.fsdecode(folder)
    directory.mkdir()
    (directory / "e.csv").write_text("dst\n7\n")
    toml = graph_of(tmp_path, '"*/e.csv"', "")
    toml.write_text(toml.read_text().replace('"int64"', '"string"'))
    with pytest.raises(EdgeFileError, match=r"column 'src': found .*xff.* expected text of 1 to 256 bytes of UTF-8"):
        prepare(toml, tmp_path / "out")


def test_columns_in_the_names_of_folders_of_files_without_a_header(tmp_path: Path) -> None:
    written(tmp_path, "w=2/e.csv", "w=3/e.csv", content="1,2,x\n")
    written(tmp_path, "f.csv", content="3,4,x\n")
    extra = 'weight = "w"\ncolumns = ["src", "dst", "more"]'
    assert weights(prepared(tmp_path, '"*/*.csv"', extra)) == [5]
    with pytest.raises(EdgeFileError, match=r"f\.csv: column 'w' is missing; the file has 'src', 'dst', 'more'\."):
        prepared(tmp_path, '"**/*.csv"', extra)


def test_a_column_of_the_file_counts_before_one_of_the_folders(tmp_path: Path) -> None:
    written(tmp_path, "w=9/w=7/e.csv", "w=9/f.csv")
    written(tmp_path, "w=9/w=7/g.csv", content="src,dst\n5,6\n")
    (tmp_path / "latest.csv").symlink_to(tmp_path / "w=9" / "w=7" / "g.csv")
    assert weights(prepared(tmp_path, '["latest.csv", "**/*.csv"]')) == [2, 2, 7]


def test_a_bad_value_in_the_name_of_a_folder_is_found_there(tmp_path: Path) -> None:
    written(tmp_path, "dt=__HIVE_DEFAULT_PARTITION__/e.csv")
    with pytest.raises(EdgeFileError, match=r"e\.csv, line 2, column 'dt': found nothing \(null\)"):
        prepared(tmp_path, '"*/*.csv"', 'time = "dt"')


def test_an_empty_file_among_many_holds_no_edges(tmp_path: Path) -> None:
    written(tmp_path, "a.csv", "d.jsonl", content="")
    written(tmp_path, "b.csv")
    pq.write_table(
        pa.table({"src": pa.array([], pa.null()), "dst": pa.array([], pa.float64()), "w": pa.array([], pa.string())}),
        tmp_path / "c.parquet",
    )
    assert weights(prepared(tmp_path, '["*.csv", "c.parquet", "d.jsonl"]')) == [1, 1]
    with pytest.raises(EdgeFileError, match=r"Relation 'follows': no edge in .*a\.csv"):
        prepared(tmp_path, '["a.csv", "c.parquet"]')

"""graph.toml: what is accepted, and one clear line for every fault."""

from pathlib import Path

import pytest

from bundle.errors import EdgeFileError, GraphFileError
from graph.files import expand, open_edge_file
from graph.schema import FileSplit, GraphFile, RandomSplit, TimeSplit, read_graph_file

USER = '[entities.user]\nid = "int64"\n'
FOLLOWS = '[[relations]]\nname = "follows"\nsource = "user"\ntarget = "user"\nfiles = "follows.csv"\n'


def read(tmp_path: Path, text: str) -> GraphFile:
    path = tmp_path / "graph.toml"
    path.write_text(text)
    return read_graph_file(path)


def test_defaults(tmp_path: Path) -> None:
    graph = read(tmp_path, USER + FOLLOWS)
    relation = graph.relations[0]
    assert (relation.src, relation.dst, relation.weight, relation.time) == ("src", "dst", None, None)
    assert relation.coverage == "high"
    assert not relation.symmetric
    assert graph.split is None
    assert graph.split_relations == ()


def test_files_may_be_a_list(tmp_path: Path) -> None:
    graph = read(tmp_path, USER + FOLLOWS.replace('"follows.csv"', '["a.csv", "b-*.tsv"]'))
    assert graph.relations[0].files == ("a.csv", "b-*.tsv")


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ('by = "random"', RandomSplit(by="random", fraction=0.1, seed=1)),
        ('by = "random"\nfraction = 0.2\nseed = 7', RandomSplit(by="random", fraction=0.2, seed=7)),
        ('by = "time"\nrelation = "follows"', TimeSplit(by="time", relation="follows", fraction=0.1)),
        ('by = "files"\ntest = "t.csv"', FileSplit(by="files", test=("t.csv",))),
    ],
)
def test_splits(tmp_path: Path, text: str, split: object) -> None:
    graph = read(tmp_path, USER + FOLLOWS + 'time = "when"\n[split]\n' + text)
    assert graph.split == split
    assert graph.split_relations == (0,)


FAULTS = {
    "unknown relation key": (FOLLOWS + "colour = 1", r"relations\[0\] \(follows\)\.colour: this key is unknown"),
    "unknown top key": (FOLLOWS + "[extra]\na = 1", "extra: this key is unknown"),
    "unknown split key": (FOLLOWS + '[split]\nby = "random"\nvalid = "x"', "split.valid: this key is unknown"),
    "missing key": (FOLLOWS.replace('files = "follows.csv"\n', ""), r"relations\[0\] \(follows\)\.files is missing"),
    "missing by": (FOLLOWS + "[split]\nfraction = 0.1", "split.by is missing"),
    "unknown by": (FOLLOWS + '[split]\nby = "randm"', "split.by: found 'randm'"),
    "fraction too large": (FOLLOWS + '[split]\nby = "random"\nfraction = 0.9', "split.fraction: found 0.9"),
    "unknown source type": (FOLLOWS.replace('source = "user"', 'source = "usr"'), r"\.source: 'usr' is no entity type"),
    "duplicate relation": (FOLLOWS + FOLLOWS, "a second relation has this name"),
    "wrong type": (FOLLOWS + 'symmetric = "yes"', r"symmetric: found 'yes'"),
    "split of no relation": (FOLLOWS + '[split]\nby = "random"\nrelation = "likes"', "'likes' is no relation"),
    "split of one relation of many": (
        FOLLOWS.replace('"follows"', '"*"') + 'relation_column = "rel"\n[split]\nby = "random"\nrelation = "likes"',
        "'likes' is no relation of this file. Name one of '\\*'. Those of a relation_column are split together",
    ),
    "split of a relation twice": (
        FOLLOWS + '[split]\nby = "random"\nrelation = ["follows", "follows"]',
        "'follows' is listed twice",
    ),
    "files of many": (
        FOLLOWS + FOLLOWS.replace('"follows"', '"likes"') + '[split]\nby = "files"\ntest = "t.csv"',
        "a split of one relation, and split.relation names none of the 2 there are",
    ),
    "unknown key of validation": (FOLLOWS + "[validation]\nshare = 0.1", "Known here: 'fraction', 'seed'"),
    "time split without time": (FOLLOWS + '[split]\nby = "time"', "has no time column"),
    "star without column": (FOLLOWS.replace('"follows"', '"*"'), "relation_column belong together"),
    "column without star": (FOLLOWS + 'relation_column = "rel"', "relation_column belong together"),
    "one column twice": (FOLLOWS + 'weight = "src"', "one column is used twice"),
    "columns without dst": (FOLLOWS + 'columns = ["src", "x"]', r"columns: 'dst' is not among"),
    "columns twice": (FOLLOWS + 'columns = ["src", "dst", "x", "x"]', "a name is listed twice"),
    "unused type": ('[entities.item]\nid = "int64"\n' + FOLLOWS, r"entities\.item: no relation has this type"),
    "bad id kind": ('[entities.item]\nid = "int"\n' + FOLLOWS, r"entities\.item\.id: found 'int'"),
    "bad type name": ('[entities."a/b"]\nid = "int64"\n' + FOLLOWS, "entities.a/b: found 'a/b'"),
    "no relations": ("", "relations is missing"),
    "symmetric across types": (
        '[entities.item]\nid = "int64"\n' + FOLLOWS.replace('target = "user"', 'target = "item"') + "symmetric = true",
        "only a relation within one type can be symmetric",
    ),
    "misspelt key": (
        FOLLOWS + 'wieght = "w"',
        r"\(follows\)\.wieght: this key is unknown\. If 'weight' is meant, spell it so",
    ),
    "misspelt key that is required": (
        FOLLOWS.replace("source", "sorce"),
        r"sorce: this key is unknown\. If 'source' is",
    ),
    "misspelt table": (FOLLOWS + '[spilt]\nby = "random"', r"spilt: this key is unknown\. If 'split' is meant"),
    "table in another": (FOLLOWS + '[relations.split]\nby = "random"', "It belongs to the top of the file"),
    "key in another table": (FOLLOWS + '[split]\nby = "random"\nsymmetric = true', r"It belongs to \[\[relations\]\]"),
    "seed of a split by time": (
        FOLLOWS + '[split]\nby = "time"\nseed = 1',
        r"split\.seed: this key is unknown\. A split by 'time' has none such\. Known .*: 'by', 'relation', 'fraction'",
    ),
    "files of a random split": (FOLLOWS + '[split]\nby = "random"\ntest = "a"', "A split by 'random' has none such"),
    "fraction of a split by files": (
        FOLLOWS + '[split]\nby = "files"\ntest = "a"\nfraction = 0.1',
        "A split by 'files' has none such",
    ),
    "key called as a split is": (
        FOLLOWS + '[split]\nby = "files"\ntest = "a"\nfiles = "b"',
        r"split\.files: this key is unknown\. It belongs to \[\[relations\]\]",
    ),
    "relation of validation": (
        FOLLOWS + '[validation]\nrelation = "follows"',
        r"validation\.relation: this key is unknown\. It belongs to \[split\]\.",
    ),
    "seed of a relation": (FOLLOWS + "seed = 1", r"\.seed: .* It belongs to \[split\] or \[validation\]"),
    "misspelt relations": (FOLLOWS.replace("relations", "relation"), "unknown. If 'relations' is meant"),
    "relation at the top": ('relation = "x"', "unknown. It belongs to"),
    "misspelt fraction": (FOLLOWS + '[split]\nby = "random"\nfracton = 0.1', "If 'fraction' is meant"),
    "type called as a table is": (
        "[entities]\nsplit = 3\n" + FOLLOWS,
        r"entities\.split: found 3\. Give a table, as in \[entities\.user\]",
    ),
    "column called as a table is": (
        'attributes = "a"\nattribute_types = { relations = "x" }\n' + FOLLOWS,
        r"attribute_types\.relations: found 'x'\. (?!Each relation)",
    ),
    "column called as a key is": (
        'attributes = "a"\nattribute_types = { columns = "x" }\n' + FOLLOWS,
        r"attribute_types\.columns: found 'x'\. (?!Give the names)",
    ),
    "relations without brackets": (FOLLOWS.replace("[[relations]]", "[relations]"), r"begins with \[\[relations\]\]"),
    "split is text": (FOLLOWS.replace("[[", 'split = "random"\n[['), "unknown. It belongs to the top of the file"),
    "types as text": (
        '[entities.item]\nid = "int64"\nattribute_types = "x"\n' + FOLLOWS,
        "Give a table, as in { year =",
    ),
    "name of two lines": (
        FOLLOWS.replace('"follows"', '"a\\nb"'),
        r"\(a\\nb\)\.name: found 'a\\nb'\. Give text without",
    ),
    "second of several files": (
        FOLLOWS.replace('"follows.csv"', '["a.csv", 1]') + FOLLOWS,
        r"\.files\[1\]: found 1\. Give",
    ),
    "broken TOML": (FOLLOWS + "= 3", "not valid TOML: .*line"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_told_in_one_line(tmp_path: Path, name: str) -> None:
    text, message = FAULTS[name]
    with pytest.raises(GraphFileError, match=message) as caught:
        read(tmp_path, USER + text)
    assert str(tmp_path / "graph.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_graph_file_may_begin_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "graph.toml").write_bytes((USER + FOLLOWS).replace("\n", "\r\n").encode(encoding))
    assert list(read_graph_file(tmp_path / "graph.toml").entities) == ["user"]


def test_missing_graph_file(tmp_path: Path) -> None:
    with pytest.raises(GraphFileError, match="does not exist"):
        read_graph_file(tmp_path / "graph.toml")
    with pytest.raises(GraphFileError, match="is a directory"):
        read_graph_file(tmp_path)


def test_globs_expand_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "sub/c.csv", "d.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert expand(tmp_path, ["*.csv"], "files").paths == (
        tmp_path / "a.csv",
        tmp_path / "b.csv",
    )
    assert expand(tmp_path, ["**/c.csv", "d.tsv"], "files").paths == (
        tmp_path / "sub/c.csv",
        tmp_path / "d.tsv",
    )
    assert expand(Path("/nowhere"), [str(tmp_path / "d.*")], "files").paths == (tmp_path / "d.tsv",)


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob(tmp_path: Path) -> None:
    (tmp_path / "part[1].csv").touch()
    assert expand(tmp_path, ["part[1].csv"], "files").paths == (tmp_path / "part[1].csv",)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(GraphFileError, match=r"relations\[0\]\.files: 'part-\*\.csv' matches no file"):
        expand(tmp_path, ["part-*.csv"], "relations[0].files")
    with pytest.raises(EdgeFileError, match=r"absent\.csv does not exist"):
        expand(tmp_path, ["absent.csv"], "relations[0].files")


def test_the_ending_says_what_a_file_is(tmp_path: Path) -> None:
    with pytest.raises(EdgeFileError, match="the ending does not say"):
        open_edge_file(tmp_path / "edges.dat", None)


@pytest.mark.parametrize("seed", ["1e3", "10.0", '"10"'])
@pytest.mark.parametrize("table", ['[split]\nby = "random"', "[validation]"])
def test_a_seed_is_a_whole_number_in_digits(tmp_path: Path, table: str, seed: str) -> None:
    with pytest.raises(GraphFileError, match=r"seed: found .*\. Give a whole number, in digits\."):
        read(tmp_path, USER + FOLLOWS + f"{table}\nseed = {seed}\n")
    assert read(tmp_path, USER + FOLLOWS + f"{table}\nseed = 1_000\n") is not None

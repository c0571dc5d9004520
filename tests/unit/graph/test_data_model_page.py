"""What docs/data-model.md says is so: its example, its messages, its tables, its limits."""

import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle.errors import EdgeFileError, GraphError
from bundle.graph_record import GraphRecord
from graph.files import open_edge_file
from graph.prepare import prepare
from graph.schema import EntitySpec, RelationSpec
from graph.textstream import CODECS

PAGE = (Path(__file__).parents[3] / "docs" / "data-model.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
FOLLOWS = """
[entities.user]
id = "int64"
[[relations]]
name = "follows"
source = "user"
target = "user"
files = "follows.csv"
"""


def test_the_complete_example_is_one(tmp_path: Path) -> None:
    (tmp_path / "graph.toml").write_text(next(text for language, text in BLOCKS if language == "toml"))
    pq.write_table(pa.table({"src": range(20), "dst": range(1, 21)}), tmp_path / "follows.parquet")
    (tmp_path / "likes").mkdir()
    for month in ("01", "02"):
        (tmp_path / "likes" / f"2026-{month}.csv").write_text(f"user,item,when,stars\n1,a{month},2026-{month}-01,4.5\n")
    graph = prepare(tmp_path / "graph.toml", tmp_path / "out")
    assert [(r.name, len(r.train), len(r.valid), len(r.test)) for r in graph.relations] == [
        ("follows", 17, 1, 2),
        ("likes", 2, 0, 0),
    ]


MESSAGES: dict[str, tuple[str, str]] = {
    "a word": ("src,dst\n1,2\n1,abc\n", ""),
    "too few fields": ("src,dst\n1,2\n12\n", ""),
    "no header": ("12,7\n", ""),
    "a weight": ("src,dst,w\n1,2,nan\n", 'weight = "w"'),
    "a type": ("src,dst\n1,2\n", "usr"),
    "no file": ("src,dst\n1,2\n", "part-*.csv"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_the_messages_are_those_of_the_page(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content, change = MESSAGES[name]
    (tmp_path / "follows.csv").write_text(content)
    text = FOLLOWS + change * change.startswith("weight")
    text = text.replace('target = "user"', 'target = "usr"') if change == "usr" else text
    text = text.replace("follows.csv", change) if change.startswith("part") else text
    (tmp_path / "graph.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GraphError) as caught:
        prepare(Path("graph.toml"), Path("out"))
    block = next(text for _, text in BLOCKS if text.startswith("follows.csv, line 3"))
    said = re.sub(r"\s+", " ", block)
    assert str(caught.value).replace(str(tmp_path), "/data/shop") in said


def test_the_keys_are_those_of_the_page() -> None:
    def keys(heading: str) -> set[str]:
        section = PAGE.split(heading)[1].split("\n###")[0]
        return {
            key
            for cell in re.findall(r"^\| (`[^|]*) \|", section, flags=re.MULTILINE)
            for key in re.findall(r"`(\w+)`", cell)
        }

    assert keys("### `[entities.<type>]`") == set(EntitySpec.model_fields)
    assert keys("### `[[relations]]`") == set(RelationSpec.model_fields)


def test_the_endings_are_those_of_the_page(tmp_path: Path) -> None:
    table = PAGE.split("| ending | |")[1].split("\n\n")[0]
    endings = re.findall(r"`(\.\w+)`", table)
    assert [ending for ending in endings if ending in CODECS] == list(CODECS)
    for ending in endings:
        if ending not in CODECS:
            assert open_edge_file(tmp_path / f"e{ending}", None)
            assert open_edge_file(tmp_path / f"e{ending.upper()}", None)
    for codec in CODECS:
        for ending in (".csv", ".tsv", ".jsonl", ".ndjson", ".json"):
            assert open_edge_file(tmp_path / f"e{ending}{codec}", None)
        with pytest.raises(EdgeFileError, match="the ending does not say"):
            open_edge_file(tmp_path / f"e.parquet{codec}", None)


def test_the_record_is_that_of_the_page() -> None:
    record = next(text for language, text in BLOCKS if language == "json")
    GraphRecord.model_validate(json.loads(record))


def test_the_layout_is_that_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "graph.toml").write_text(FOLLOWS + 'weight = "w"\ntime = "t"\n[split]\nby = "random"\nfraction = 0.2\n')
    (tmp_path / "follows.csv").write_text("src,dst,w,t\n" + "".join(f"{i},{i + 1},1,1\n" for i in range(20)))
    out = tmp_path / "out"
    prepare(tmp_path / "graph.toml", out)
    layout = next(text for _, text in BLOCKS if text.startswith("graph.json"))
    for path in out.rglob("*.*"):
        name = str(path.relative_to(out)).replace("user", "<type>").replace("000", "<iii>")
        folder, _, file = name.partition("/")
        assert name in layout or (folder in layout and file.removeprefix("<iii>") in layout), name


EXAMPLES = {
    "integers": ("int64", "src,dst\n0,9223372036854775807\n"),
    "strings": ("string", "src,dst\nNA,null\n007, a \n"),
    "quotes": ("string", 'src,dst\n"a,b","say ""x"""\n"a\nb",c\n'),
    "semicolons": ("string", "src;dst\na;b\n"),
    "times": (
        "string",
        "src,dst,t\na,b,1.7e9\nb,c,2026-01-31\nc,d,2026-01-31T12:00:01.5+02:00\nd,e,2026-01-31 12:00:01 UTC\n",
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_may_stand_in_a_file(tmp_path: Path, name: str) -> None:
    kind, content = EXAMPLES[name]
    (tmp_path / "graph.toml").write_text(FOLLOWS.replace("int64", kind) + 'time = "t"\n' * (name == "times"))
    (tmp_path / "follows.csv").write_text(content)
    graph = prepare(tmp_path / "graph.toml", tmp_path / "out")
    time = graph.relations[0].train.time
    if time is not None:
        assert sorted(time.tolist()) == [1_700_000_000, 1_769_817_600, 1_769_853_601, 1_769_860_801]
    shutil.rmtree(tmp_path / "out")

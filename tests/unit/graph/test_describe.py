"""Describing: every figure on a graph small enough to count by hand."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len

from bundle.text import printable
from graph import describe as describe_module
from graph.describe import describe
from graph.prepare import prepare

MakeGraph = Callable[..., Path]
EDGES = "src,dst\n1,2\n2,1\n1,3\n1,4\n3,5\n1,2\n6,6\n"


@pytest.mark.parametrize("bucket", [2, 1000])
def test_counts(follows: MakeGraph, monkeypatch: pytest.MonkeyPatch, bucket: int) -> None:
    monkeypatch.setattr(describe_module, "BUCKET_EDGES", bucket)
    graph = describe(follows(EDGES))
    relation = graph.relations[0]
    assert graph.entities == {"user": 6}
    assert (relation.edges, relation.duplicates, relation.self_loops) == (5, 1, 1)
    assert relation.reciprocity == pytest.approx(2 / 5)
    assert (relation.sources.entities, relation.sources.coverage) == (3, 0.5)
    assert (relation.sources.min, relation.sources.median, relation.sources.max) == (1, 1, 3)
    assert (relation.targets.entities, relation.targets.max) == (5, 1)


def test_what_is_thrown_away_is_not_made_durable(follows: MakeGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of thousands of relations waiting for the disk took most of the time."""
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    describe(follows(EDGES))
    assert not [path for path in synced if path.endswith(".npy")]


def test_both_ends_of_a_symmetric_relation_count(follows: MakeGraph) -> None:
    relation = describe(follows("src,dst\n1,2\n3,1\n", extra="symmetric = true")).relations[0]
    assert relation.reciprocity is None
    assert relation.sources == relation.targets
    assert (relation.sources.entities, relation.sources.max) == (3, 2)


def test_held_out_edges_are_counted_and_the_unseen_among_them(follows: MakeGraph) -> None:
    rows = "".join(f"{i},{i + 100}\n" for i in range(20))
    relation = describe(follows("src,dst\n" + rows, extra='[split]\nby = "random"\nfraction = 0.2')).relations[0]
    assert (relation.edges, relation.train + relation.valid + relation.test) == (20, 20)
    assert min(relation.train, relation.valid, relation.test) > 0
    assert relation.unseen == relation.valid + relation.test  # no two edges share an end
    assert relation.sources.entities == 20


def test_the_report_is_for_people(follows: MakeGraph) -> None:
    text = str(describe(follows(EDGES)))
    assert "follows  (user → user, high coverage)" in text
    assert "left out: 1 duplicates, 1 self-loops" in text
    assert "reciprocity 40.0%" in text
    assert "sources 3 (50.0% of the type), edges each: min 1" in text


def test_what_columns_of_attributes_were_taken_for_is_told(tmp_path: Path, follows: MakeGraph) -> None:
    path = follows(EDGES)
    path.write_text(path.read_text().replace('id = "int64"', 'id = "int64"\nattributes = "people.csv"\nlabel = "name"'))
    (tmp_path / "people.csv").write_text(
        "id,name,age,member,since,city\n"
        "1,Ann,30,true,2026-01-31,Köln\n2,,41,yes,2026-02-01,Köln\n3,Cy,,false,,Rom\n99,Nobody,1,true,,Oslo\n"
    )
    graph = describe(path)
    assert [(one.name, one.kind, one.present, one.distinct) for one in graph.attributes["user"]] == [
        ("name", "label", 2, None),
        ("age", "number", 2, None),
        ("member", "category", 3, 3),  # one "yes" is enough
        ("since", "timestamp", 2, None),
        ("city", "category", 3, 2),
    ]
    told = [line.split() for line in str(graph).splitlines()]
    assert ["attributes", "of", "user"] in told
    assert ["member", "category", "3", "have", "one,", "3", "different"] in told
    assert not describe(follows(EDGES)).attributes


def test_the_range_of_times_is_told(tmp_path: Path, follows: MakeGraph) -> None:
    graph = describe(follows("src,dst,t\n1,2,1700000000\n2,3,5\n3,4,2026-01-31\n4,1,7\n", extra='time = "t"'))
    assert graph.relations[0].times == (5, 1769817600)
    assert "  times of the training edges: 5 to 1769817600 (2026-01-31)" in str(graph).splitlines()
    without = describe(follows(EDGES))
    assert without.relations[0].times is None
    assert "training edges:" not in str(without)


def test_many_relations_are_shown_in_a_table(tmp_path: Path) -> None:
    (tmp_path / "graph.toml").write_text(
        '[entities.thing]\nid = "string"\n[[relations]]\nname = "*"\nrelation_column = "rel"\n'
        'source = "thing"\ntarget = "thing"\nfiles = "train.tsv"\n'
    )
    (tmp_path / "train.tsv").write_text("src\tdst\trel\n" + "".join(f"a\tb\tr{i}\na\ta\tr{i}\n" for i in range(20)))
    lines = str(describe(tmp_path / "graph.toml")).splitlines()
    assert lines[-1].split() == ["all", "20", "0", "0", "0", "0", "0", "20"]
    assert lines[-2].split() == ["r9", "1", "0", "0", "0", "0", "0", "1"]


def test_names_of_any_signs_and_length_are_told_apart_and_keep_to_their_lines(tmp_path: Path) -> None:
    """In a table and each for itself: numbers under one another, a long name on a line of its own."""
    names = [*(f"{'long ' * 20}#{number}" for number in range(3)), "日本", "e\u0301", "a\nb", "a\x1b[31mb", "a\u202eb"]
    for number in (len(names), 20):
        named = [*names, *(f"r{n}" for n in range(number - len(names)))]
        pq.write_table(
            pa.table({"src": ["a"] * number, "dst": ["b"] * number, "rel": named}), tmp_path / "train.parquet"
        )
        (tmp_path / "graph.toml").write_text(
            '[entities.thing]\nid = "string"\n[[relations]]\nname = "*"\nrelation_column = "rel"\n'
            'source = "thing"\ntarget = "thing"\nfiles = "train.parquet"\n'
        )
        lines = str(describe(tmp_path / "graph.toml")).split("\n")
        assert all(line.isprintable() for line in lines)
        for name in names:
            (shown,) = (line for line in lines if line.strip().split("  ")[0] == printable(name).strip())
            assert number == len(names) or shown.endswith(" 0") or len(name) > 60
    (last,) = {cell_len(line) for line in lines[6:] if line.endswith(" 0")}
    assert last < 160


@pytest.mark.parametrize(("symmetric", "trained"), [(False, 4), (True, 5)])
def test_held_out_files_that_repeat_training_edges_are_counted_and_warned_about(
    tmp_path: Path, follows: MakeGraph, symmetric: bool, trained: int
) -> None:
    (tmp_path / "valid.csv").write_text("src,dst\n1,2\n7,8\n")
    (tmp_path / "test.csv").write_text("src,dst\n1,3\n1,3\n4,1\n3,5\n5,9\n")
    extra = f'symmetric = {str(symmetric).lower()}\n[split]\nby = "files"\nvalid = "valid.csv"\ntest = "test.csv"'
    graph = describe(follows(EDGES, extra=extra))
    assert (graph.relations[0].trained, graph.relations[0].unseen) == (trained, 2)
    assert f"held out, but training edges as well: {trained}" in str(graph)
    assert graph.warnings == (
        f"{trained} of 7 held-out edges are training edges as well: figures measured on them mislead. "
        "Take these edges out of the files to train on.",
    )
    loaded = prepare(tmp_path / "graph.toml", tmp_path / "out")
    assert loaded.relations[0].held_out_trained == trained
    assert loaded.warnings() == graph.warnings
    text = str(graph)
    assert text.splitlines()[-2:] == ["warnings", f"  {graph.warnings[0]}"]


def test_the_advice_over_held_out_edges_that_are_trained_helps(tmp_path: Path, follows: MakeGraph) -> None:
    (tmp_path / "test.csv").write_text("src,dst\n1,3\n")
    extra = '[split]\nby = "files"\ntest = "test.csv"'
    assert describe(follows(EDGES, extra=extra)).warnings
    assert not describe(follows(EDGES.replace("1,3\n", ""), extra=extra)).warnings


def test_a_time_split_whose_held_out_edges_cannot_be_predicted_is_warned_about(follows: MakeGraph) -> None:
    old = "".join(f"{i},{(i + 1) % 100},{i}\n" for i in range(100))
    new = "".join(f"{i},{i + 100},{i}\n" for i in range(1000, 1015))
    extra = 'time = "t"\n[split]\nby = "{by}"\nfraction = 0.1'
    graph = describe(follows("src,dst,t\n" + old + new, extra=extra.format(by="time")))
    assert graph.warnings == (
        "15 of 16 held-out edges have an end that no training edge has, so no model can predict them: "
        'figures measured on all of them are low for that alone. Split by "random", or judge by newcomers.',
    )
    assert not describe(follows("src,dst,t\n" + old + new, extra=extra.format(by="random"))).warnings


def test_weights_that_teach_nothing_are_warned_about(follows: MakeGraph) -> None:
    graph = follows("src,dst,w\n1,2,0\n2,3,0\n", extra='weight = "w"')
    assert "all weights are 0, of which nothing is learnt" in describe(graph).warnings[0]


@pytest.mark.parametrize(("first", "last"), [("seconds", "milliseconds"), ("microseconds", "nanoseconds")])
def test_times_in_two_units_are_warned_about(follows: MakeGraph, first: str, last: str) -> None:
    scale = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
    times = 1_700_000_000 * scale[first], 1_700_000_000 * scale[last]
    told = describe(follows(f"src,dst,t\n1,2,{times[1]}\n2,3,{times[0]}\n", extra='time = "t"')).warnings
    assert len(told) == 1
    assert told[0].startswith(f"follows: the times go from {times[0]}, a date in {first}, to {times[1]}, one in {last}")
    one = describe(follows(f"src,dst,t\n1,2,{times[1]}\n2,3,{2 * times[1]}\n", extra='time = "t"')).warnings
    assert not one


def test_a_file_that_is_reached_twice_is_named(tmp_path: Path, follows: MakeGraph) -> None:
    graph = follows(EDGES)
    (tmp_path / "people.csv").write_text("id,x\n1,5\n")
    with_attributes = graph.read_text().replace(
        "\n[[relations]]", '\nattributes = ["people.csv", "p*.csv"]\n[[relations]]'
    )
    graph.write_text(with_attributes.replace('files = "follows.csv"', 'files = ["follows.csv", "f*.csv"]'))
    told = [line for line in describe(graph).warnings if "read once" in line]
    assert [Path(line.split()[0]).name for line in told] == ["follows.csv", "people.csv"]


def test_names_of_relations_and_attributes_cannot_steer_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text('src,dst,rel\n1,2,"\x1b[2Jgone\n"\n')
    (tmp_path / "a.csv").write_text("id,\x1b[31m\n1,5\n")
    (tmp_path / "graph.toml").write_text(
        '[entities.user]\nid = "int64"\nattributes = "a.csv"\n[[relations]]\nname = "*"\nrelation_column = "rel"\n'
        'source = "user"\ntarget = "user"\nfiles = "e.csv"\n'
    )
    report = str(describe(tmp_path / "graph.toml"))
    assert "\x1b" not in report
    assert r"\x1b[2Jgone\n  (user" in report
    assert r"\x1b[31m " in report


def test_weights_that_drown_all_others_are_warned_about(follows: MakeGraph) -> None:
    rows = "".join(f"{i},{i + 1},{3.4e38 if i == 7 else 1}\n" for i in range(10))
    graph = describe(follows("src,dst,w\n" + rows, extra='weight = "w"'))
    assert graph.warnings == (
        "follows: 9 of 10 training edges weigh less than a millionth of the mean, because some weigh up to 3.4e+38: "
        "they teach next to nothing. Correct weights that are none, or cap them.",
    )
    assert "weights: min 1, mean 3.4e+37, max 3.4e+38" in str(graph)
    assert not describe(follows("src,dst,w\n" + rows.replace("3.4e+38", "100"), extra='weight = "w"')).warnings

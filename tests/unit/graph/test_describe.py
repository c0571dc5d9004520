"""Describing: every figure on a graph small enough to count by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from graph import describe as describe_module
from graph.describe import describe

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


def test_both_ends_of_a_symmetric_relation_count(follows: MakeGraph) -> None:
    relation = describe(follows("src,dst\n1,2\n3,1\n", extra="symmetric = true")).relations[0]
    assert relation.reciprocity is None
    assert relation.sources == relation.targets
    assert (relation.sources.entities, relation.sources.max) == (3, 2)


def test_held_out_edges_are_counted_and_the_unseen_among_them(follows: MakeGraph) -> None:
    rows = "".join(f"{i},{i + 100}\n" for i in range(20))
    relation = describe(follows("src,dst\n" + rows, extra='[split]\nby = "random"\nfraction = 0.2')).relations[0]
    assert (relation.edges, relation.train, relation.valid, relation.test) == (20, 14, 2, 4)
    assert relation.unseen == 6
    assert relation.sources.entities == 20


def test_the_report_is_for_people(follows: MakeGraph) -> None:
    text = str(describe(follows(EDGES)))
    assert "follows  (user → user, high coverage)" in text
    assert "left out: 1 duplicates, 1 self-loops" in text
    assert "reciprocity 40.0%" in text
    assert "sources 3 (50.0% of the type), edges each: min 1" in text


def test_many_relations_are_shown_in_a_table(tmp_path: Path) -> None:
    (tmp_path / "graph.toml").write_text(
        '[entities.thing]\nid = "string"\n[[relations]]\nname = "*"\nrelation_column = "rel"\n'
        'source = "thing"\ntarget = "thing"\nfiles = "train.tsv"\n'
    )
    (tmp_path / "train.tsv").write_text("src\tdst\trel\n" + "".join(f"a\tb\tr{i}\na\ta\tr{i}\n" for i in range(20)))
    lines = str(describe(tmp_path / "graph.toml")).splitlines()
    assert lines[-1].split() == ["all", "20", "0", "0", "0", "0", "20"]
    assert lines[-2].split() == ["r9", "1", "0", "0", "0", "0", "1"]

"""The smaller graph that benchmarks/drift.py starts from: true edges of the whole one, under the same external ids."""

from pathlib import Path

import numpy as np

from benchmarks.drift import write_part
from bundle.prepared import PreparedGraph
from tests.support.graphs import Links, ids, write_graph


def external(graph: PreparedGraph, relation: str) -> set[tuple[object, object]]:
    """The training edges of a relation by external id."""
    found = graph.relation(relation)
    source, target = graph.entity(found.source).ids, graph.entity(found.target).ids
    return set(zip(source.externals(found.train.src), target.externals(found.train.dst), strict=True))


def test_a_part_holds_true_edges_and_the_entities_they_touch(circles: PreparedGraph, tmp_path: Path) -> None:
    part = write_part(circles, tmp_path / "part", 0.9, seed=1)
    for relation in circles.relations:
        kept, whole = external(part, relation.name), external(circles, relation.name)
        assert kept < whole
        assert len(kept) == round(0.9 * len(whole))
        assert len(part.relation(relation.name).test) == 0
    assert external(write_part(circles, tmp_path / "same", 0.9, seed=1), "likes") == external(part, "likes")
    assert external(write_part(circles, tmp_path / "other", 0.9, seed=2), "likes") != external(part, "likes")


def test_entities_without_an_edge_are_left_out(tmp_path: Path) -> None:
    edges = np.stack([np.arange(0, 100), np.arange(100, 200)], axis=1).astype(np.int32)
    whole = write_graph(tmp_path / "whole", {"node": ids(200)}, [Links("next", "node", "node", edges)])
    part = write_part(whole, tmp_path / "part", 0.5, seed=1)
    assert part.count("node") == 100
    assert external(part, "next") < external(whole, "next")

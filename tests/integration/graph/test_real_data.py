"""The three real data sets: counts as their READMEs state them, and the split that measurements refer to."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bundle.hashing import xxh64_of_numbers
from bundle.prepared import PARTS, PreparedGraph
from graph.describe import GraphDescription, describe_prepared
from graph.prepare import prepare
from graph.split import DRAW_BITS, Draw

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def ego_twitter(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedGraph:
    """ego-twitter, prepared."""
    return prepare(data_dir / "ego-twitter" / "graph.toml", tmp_path_factory.mktemp("ego") / "graph")


def described(graph: PreparedGraph, tmp_path: Path) -> GraphDescription:
    return describe_prepared(graph, "graph.toml", tmp_path)


def test_ego_twitter(ego_twitter: PreparedGraph, tmp_path: Path) -> None:
    graph = described(ego_twitter, tmp_path)
    assert graph.entities == {"user": 81_306, "hashtag": 24_031, "account": 131_345, "list": 4_065}
    assert {relation.name: relation.edges for relation in graph.relations} == {
        "follows": 1_768_135,
        "uses_hashtag": 226_437,
        "mentions_account": 856_894,
        "in_list": 50_850,
    }
    assert all((relation.duplicates, relation.self_loops) == (0, 0) for relation in graph.relations)
    follows = graph.relations[0]
    assert follows.reciprocity == pytest.approx(0.482, abs=5e-4)
    assert (follows.sources.max, follows.targets.max) == (1_205, 3_383)
    assert graph.entities["user"] - follows.sources.entities == 11_211


def test_the_seed_1_split_of_ego_twitter(ego_twitter: PreparedGraph, data_dir: Path) -> None:
    """The tenth of the follows whose draws are lowest, in file order."""
    table = pq.read_table(data_dir / "ego-twitter" / "follows.parquet", columns=["src", "dst"])
    src, dst = (table.column(name).to_numpy().astype(np.int64) for name in ("src", "dst"))
    draw = Draw.of(["follows"], False, 1)
    draws = draw(xxh64_of_numbers(src), xxh64_of_numbers(dst), np.zeros(len(src), dtype=np.int32))
    test = np.flatnonzero(draws < int(0.1 * 2**DRAW_BITS))
    ids = ego_twitter.entity("user").ids
    users = np.array([int(text) for text in ids.externals(np.arange(len(ids)))])
    follows = ego_twitter.relation("follows")
    assert np.array_equal(users[follows.test.src], src[test])
    assert np.array_equal(users[follows.test.dst], dst[test])
    assert (len(follows.train), len(follows.valid), len(follows.test)) == (1_503_070, 88_396, 176_669)


def test_lastfm(data_dir: Path, tmp_path: Path) -> None:
    prepared = prepare(data_dir / "lastfm" / "graph.toml", tmp_path / "graph")
    graph = described(prepared, tmp_path)
    assert graph.entities["user"] == 1_892
    assert graph.entities["artist"] == 17_632
    assert {relation.name: relation.edges for relation in graph.relations} == {
        "friend": 12_717,
        "listens": 92_834,
        "uses_tag": 35_816,
    }
    friend = graph.relations[0]
    assert friend.symmetric
    assert friend.sources.entities == 1_892
    weight = prepared.relation("listens").train.weight
    assert weight is not None
    assert weight.max() > 300_000


def test_lastfm_with_string_ids_is_the_same_graph(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "lastfm"
    text = (source / "graph.toml").read_text().replace('"int64"', '"string"')
    for name in ("friend", "listens", "uses_tag"):
        text = text.replace(f'"{name}.tsv"', f'"{source / name}.tsv"')
    (tmp_path / "graph.toml").write_text(text)
    strings = prepare(tmp_path / "graph.toml", tmp_path / "strings")
    numbers = prepare(source / "graph.toml", tmp_path / "numbers")
    for relation in numbers.relations:
        edges: list[set[tuple[str, str]]] = []  # of all parts: other ids are drawn otherwise
        for graph in (numbers, strings):
            edges.append(set())
            for part in PARTS:
                held = graph.relation(relation.name).part(part)
                sources = graph.entity(relation.source).ids.externals(np.asarray(held.src))
                targets = graph.entity(relation.target).ids.externals(np.asarray(held.dst))
                edges[-1] |= set(zip(sources, targets, strict=True))
        assert len(edges[0]) == sum(len(relation.part(part)) for part in PARTS)
        assert edges[0] == edges[1]


def test_fb15k_237(data_dir: Path, tmp_path: Path) -> None:
    graph = prepare(data_dir / "fb15k-237" / "graph.toml", tmp_path / "graph")
    assert graph.entity("entity").count == 14_541
    assert [relation.name for relation in graph.relations] == [str(i) for i in range(237)]
    left_out = sum(relation.self_loops + relation.duplicates for relation in graph.relations)
    assert sum(len(relation.train) for relation in graph.relations) + left_out == 272_115
    assert sum(len(relation.valid) for relation in graph.relations) == 17_535
    assert sum(len(relation.test) for relation in graph.relations) == 20_466
    seen = np.zeros(14_541, dtype=bool)
    for line in (data_dir / "fb15k-237" / "train.tsv").read_text().splitlines()[1:]:
        source, target, _ = line.split("\t")
        seen[[int(source), int(target)]] = True
    unseen = [
        sum(int(np.sum(~(seen[part.src] & seen[part.dst]))) for part in parts)
        for parts in ([r.valid for r in graph.relations], [r.test for r in graph.relations])
    ]
    assert unseen == [9, 28]

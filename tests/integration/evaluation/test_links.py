"""Link prediction of a whole run against ranks counted one by one."""

import json
from pathlib import Path

import numpy as np
import pytest

from bundle.errors import UsageError
from evaluation.links import evaluate_links
from tests.support.graphs import Links, distinct_pairs, ids, write_graph

SIZES = {"user": 30, "item": 20}


def write_run(path: Path, held_out: bool = True) -> Path:
    """A run with random vectors: one relation between the types, one symmetric one within."""
    rng = np.random.default_rng(1)
    likes, friends = distinct_pairs(30, 20, 120, rng), distinct_pairs(15, 15, 60, rng)
    friends[:, 1] += 15
    cut = 100 if held_out else 120
    relations = [
        Links("likes", "user", "item", likes[:cut], test=likes[cut:] if held_out else None),
        Links("friends", "user", "user", friends[:50], test=friends[50:] if held_out else None, symmetric=True),
    ]
    write_graph(path / "graph", {name: ids(n) for name, n in SIZES.items()}, relations)
    (path / "vectors").mkdir()
    for name, n in SIZES.items():
        np.save(path / "vectors" / f"{name}.npy", rng.normal(size=(n, 4)).astype(np.float32))
    np.save(path / "relations.npy", rng.normal(size=(2, 2, 4)).astype(np.float32))
    record = {"format_version": 1, "graph_digest": "test", "config_digest": "test", "dim": 4, "epochs": 1}
    (path / "run.json").write_text(json.dumps(record))
    return path


def counted(query: np.ndarray, table: np.ndarray, truth: int, known: set[int]) -> int:
    """1 + the candidates that score more than the truth, known answers left out."""
    scores = table @ query
    return 1 + sum(scores[j] > scores[truth] for j in range(len(table)) if j != truth and j not in known)


@pytest.mark.parametrize("without_self", [False, True])
def test_ranks_are_those_counted_one_by_one(tmp_path: Path, without_self: bool) -> None:
    run = write_run(tmp_path)
    tables = {name: np.load(run / "vectors" / f"{name}.npy") for name in SIZES}
    theta = np.load(run / "relations.npy")
    expected = []
    for i, (source, target) in enumerate((("user", "item"), ("user", "user"))):
        train, test = (
            np.stack([np.load(run / "graph" / part / f"{i:03d}.{end}.npy") for end in ("src", "dst")], axis=1)
            for part in ("edges", "test")
        )
        edges = np.concatenate([train, test])
        if i == 1:
            edges = np.concatenate([edges, edges[:, ::-1]])
        for s, t in test.tolist():
            known_t, known_s = set(edges[edges[:, 0] == s, 1].tolist()), set(edges[edges[:, 1] == t, 0].tolist())
            if without_self and source == target:
                known_t, known_s = known_t | {s}, known_s | {t}
            expected.append(counted(tables[source][s] + theta[i, 0], tables[target], t, known_t))
            expected.append(counted(tables[target][t] + theta[i, 1], tables[source], s, known_s))
    report = evaluate_links(run, without_self=without_self)
    assert report.overall.edges == len(expected)
    assert report.overall.mrr == pytest.approx(np.mean(1 / np.array(expected)))
    assert report.overall.mean_rank == pytest.approx(np.mean(expected))
    assert {relation.relation for relation in report.relations} == {"likes", "friends"}


def test_a_sample_is_a_part_and_repeats_with_its_seed(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    first, second = (evaluate_links(run, max_edges=5, seed=3) for _ in range(2))
    assert first == second
    assert first.target.edges == 10


def test_without_held_out_edges_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no test edges"):
        evaluate_links(write_run(tmp_path, held_out=False))

"""A build with defaults passes its own gates and is published, however small or lopsided the graph."""

import resource
from pathlib import Path

import numpy as np
import psutil
import pytest

from bundle.errors import ConfigError, RunError
from bundle.reader import open_bundle
from bundle.successor import compare
from bundle.versions import publish
from cli.build import build_assessed
from index.builder import interests
from recommend.profile import profile_of_row
from recommend.types import NO_LIVE_EDGES
from tests.support.graphs import Links, Pairs, distinct_pairs, ids, write_run


def split(pairs: Pairs, held_out: int) -> dict[str, Pairs]:
    return {"edges": pairs[held_out:], "valid": pairs[:held_out]}


def relations(sizes: dict[str, int], held_out: int) -> list[Links]:
    """Every pair of types, and within each type, with `held_out` validation edges at most."""
    rng = np.random.default_rng(1)
    made = []
    for source, n in sizes.items():
        for target, m in sizes.items():
            pairs = distinct_pairs(n, m, min(n * m, 3 * n), rng)
            made.append(Links(f"{source}_{target}", source, target, **split(pairs, min(held_out, len(pairs) // 2))))
    return made


def built(root: Path, sizes: dict[str, int], links: list[Links], default: str, **settings: object) -> Path:
    """Build from a fresh run and publish."""
    run = root / "run"
    if not run.exists():
        write_run(run, {name: ids(n) for name, n in sizes.items()}, links)
    made = build_assessed(run, root / "bundles", {"default_relation": default, **settings}, version=default)
    assert all(gate.passed for gate in made.manifest.evaluation.gates)
    publish(root / "bundles", default, judge=lambda new, active: compare(new, active, 0.05))
    return made.path


@pytest.mark.parametrize(
    ("sizes", "held_out", "defaults"),
    [
        ({"a": 1, "b": 2}, 1, ("b_a", "a_b")),
        ({"a": 10, "b": 1}, 2, ("a_b", "a_a")),
        ({"a": 60, "b": 10}, 30, ("a_b", "b_a")),
        ({"a": 60, "b": 10}, 0, ("b_b",)),
    ],
    ids=str,
)
def test_any_relation_of_a_tiny_graph_may_be_the_default(
    sizes: dict[str, int], held_out: int, defaults: tuple[str, ...], tmp_path: Path
) -> None:
    """One, two or ten entities; users all of whose edges are held out; no held-out edges at all."""
    links = relations(sizes, held_out)
    for default in defaults:
        built(tmp_path, sizes, links, default)


def test_a_relation_without_any_edges_may_be_the_default(tmp_path: Path) -> None:
    sizes = {"a": 30, "b": 20}
    links = [*relations(sizes, 5), Links("never", "a", "b", np.empty((0, 2), dtype=np.int32))]
    built(tmp_path, sizes, links, "never")


def test_users_without_modes_are_counted_and_told(tmp_path: Path) -> None:
    """Twenty users follow, thirty only like: all have modes, unless what they did counts for nothing."""
    rng = np.random.default_rng(1)
    follows = distinct_pairs(20, 50, 80, rng)
    likes = distinct_pairs(30, 40, 90, rng) + np.array([20, 0], dtype=np.int32)
    links = [Links("follows", "user", "user", follows), Links("likes", "user", "item", likes)]
    sizes = {"user": 50, "item": 40}
    run = write_run(tmp_path / "run", {name: ids(n) for name, n in sizes.items()}, links)
    followers, likers = (len(np.unique(pairs[:, 0])) for pairs in (follows, likes))
    made = build_assessed(run, tmp_path / "bundles", {}, version="v1")
    clusters = open_bundle(made.path).space().entry.clusters
    found = [(one.types, one.users_with_modes, one.users_without_modes) for one in clusters.interests]
    assert found == [(("user",), followers, 0), (("item",), likers, 0)]
    assert made.warnings == ()
    silent: dict[str, object] = {"mixtures": {"relation_weights": {"follows": 0.0}}}
    told = build_assessed(run, tmp_path / "bundles", silent, version="v2").warnings
    assert len(told) == 1
    assert told[0].startswith(f"{followers} of {followers} entities of user with edges to user (100.0%) have no modes")


def test_types_may_be_clustered_together_and_no_type_has_more_clusters_than_entities(tmp_path: Path) -> None:
    sizes = {"a": 30, "b": 20, "c": 5}
    links = [one for one in relations(sizes, 5) if one.name != "a_c"]
    run = write_run(tmp_path / "run", {name: ids(n) for name, n in sizes.items()}, links)
    settings: dict[str, object] = {"clusters": {"types": ["b", "a"], "count": 8}}
    space = open_bundle(build_assessed(run, tmp_path / "bundles", settings).path).space()
    entries = space.entry.clusters.interests
    assert [(one.types, one.count, one.user_type) for one in entries] == [(("b", "a"), 8, "a"), (("c",), 5, "b")]
    assert space.clusters.sizes.tolist()[8:] == [1] * 5
    medoids = zip(space.clusters.medoid_types.tolist(), space.clusters.medoid_rows.tolist(), strict=True)
    own = [space.clusters.assignment[space.clusters.types[kind]][row] for kind, row in medoids]
    assert own == list(range(13))


def test_types_beyond_the_most_have_no_modes_and_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interests, "MOST_TYPES", 2)
    sizes = {"a": 30, "b": 20, "c": 5}
    run = write_run(tmp_path / "run", {name: ids(n) for name, n in sizes.items()}, relations(sizes, 5))
    made = build_assessed(run, tmp_path / "bundles", {"default_relation": "a_a"})
    space = open_bundle(made.path).space()
    assert space.clusters.types == ("a", "b")
    user = int(np.argmax(space.relation("a_b").targets.degrees()))
    modes = [profile_of_row(space, space.relation(n), user, NO_LIVE_EDGES, 4).modes for n in ("a_b", "a_c")]
    assert [len(one) > 0 for one in modes] == [True, False]
    assert (
        sum(
            "1 target types were not clustered" in said and said.split(": ")[1].startswith("c.")
            for said in made.warnings
        )
        == 1
    )


def test_clusters_of_types_that_no_relation_leads_to_are_refused(tmp_path: Path) -> None:
    sizes = {"a": 30, "b": 20}
    links = [one for one in relations(sizes, 5) if one.target == "a"]
    run = write_run(tmp_path / "run", {name: ids(n) for name, n in sizes.items()}, links)
    with pytest.raises(ConfigError, match=r"clusters\.types: no relation leads to b; relations lead to a"):
        build_assessed(run, tmp_path / "bundles", {"clusters": {"types": ["b"]}})


def test_users_of_types_named_together_are_those_who_lead_there(tmp_path: Path) -> None:
    """The default's users have no relation to b: the version had clusters and nobody with modes."""
    sizes = {"a": 30, "b": 20, "c": 10}
    links = [one for one in relations(sizes, 5) if one.name in ("a_a", "c_b")]
    run = write_run(tmp_path / "run", {name: ids(n) for name, n in sizes.items()}, links)
    settings: dict[str, object] = {"default_relation": "a_a", "clusters": {"types": ["b"]}}
    found = open_bundle(build_assessed(run, tmp_path / "bundles", settings).path).space().entry.clusters
    assert found.mixture_type == "c"
    assert found.users_with_modes


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_vectors_that_no_score_can_be_made_of_are_refused_by_row(tmp_path: Path, bad: float) -> None:
    """Before, such a version was built and refused when published."""
    sizes = {"a": 20, "b": 20}
    run = write_run(tmp_path / "run", {name: ids(n) for name, n in sizes.items()}, relations(sizes, 0))
    file = run / "vectors" / "b.npy"
    vectors = np.load(file)
    vectors[7, 3] = bad
    np.save(file, vectors)
    with pytest.raises(RunError, match="vectors of b"):
        build_assessed(run, tmp_path / "bundles", {})


def test_a_graph_of_hundreds_of_relations_is_built_with_few_open_files(tmp_path: Path) -> None:
    """Each has a dozen files in its run and in its version."""
    links = [Links(f"r{i}", "a", "b", np.stack([np.arange(9), (np.arange(9) + i) % 20], axis=1)) for i in range(200)]
    write_run(tmp_path / "run", {"a": ids(10), "b": ids(20)}, links)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (psutil.Process().num_fds() + 200, before[1]))
    try:
        made = build_assessed(tmp_path / "run", tmp_path / "bundles", {"map": {"points": 0}}, quick=True)
        bundle = open_bundle(made.path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    found = bundle.space().relation("r150").targets
    assert [found.row(row).tolist() for row in range(10)] == [*([(row + 150) % 20] for row in range(9)), []]

"""Attributes go from the files beside graph.toml through the run into the version, value for value."""

import json
from pathlib import Path

import numpy as np
import pytest

from bundle.attributes import Categories, Labels, Scalars
from bundle.manifest import Manifest
from bundle.reader import open_bundle
from bundle.verify import verify_bundle
from graph.prepare import prepare
from index.builder.config import BuildConfig, ClusterConfig
from index.builder.version import build_version

GRAPH = """
[entities.user]
id = "int64"
[entities.item]
id = "string"
attributes = "items.csv"
label = "title"
[[relations]]
name = "likes"
source = "user"
target = "item"
files = "likes.csv"
"""
N_USERS, N_ITEMS, DIM = 40, 30, 8
GENRES = ["rock", "jazz"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run over a graph with attributes of every kind; vectors are random."""
    rng = np.random.default_rng(1)
    likes = "".join(f"{user},i{item}\n" for user in range(N_USERS) for item in rng.permutation(N_ITEMS)[:5])
    items = "".join(
        f"i{item},Item {item},{GENRES[item % 2]},{item / 2},{'true' if item % 3 else ''},2026-01-{item + 1:02}\n"
        for item in range(N_ITEMS)
    )
    (tmp_path / "likes.csv").write_text("src,dst\n" + likes)
    (tmp_path / "items.csv").write_text("id,title,genre,price,new,since\n" + items)
    (tmp_path / "graph.toml").write_text(GRAPH)
    graph = prepare(tmp_path / "graph.toml", tmp_path / "run" / "graph")
    (tmp_path / "run" / "vectors").mkdir()
    for name, count in (("user", N_USERS), ("item", N_ITEMS)):
        np.save(tmp_path / "run" / "vectors" / f"{name}.npy", rng.normal(size=(count, DIM)).astype(np.float32))
    np.save(tmp_path / "run" / "relations.npy", np.zeros((1, 2, DIM), dtype=np.float32))
    record = {"format_version": 1, "graph_digest": graph.digest, "config_digest": "1" * 64, "dim": DIM}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    return tmp_path / "run"


def test_every_kind_arrives_and_the_version_is_whole(run: Path, tmp_path: Path) -> None:
    config = BuildConfig(clusters=ClusterConfig(count=4, list_length=10))
    built = build_version(run, tmp_path / "bundles", config, version="v1")
    bundle = open_bundle(built.path)
    verify_bundle(bundle)
    items = bundle.space().entities["item"]
    numbers = [int(external[1:]) for external in items.ids.externals(np.arange(N_ITEMS))]
    assert {name: attribute.kind for name, attribute in items.attributes.items()} == {
        "title": "label",
        "genre": "category",
        "price": "number",
        "new": "boolean",
        "since": "timestamp",
    }
    genre, price, new, title = (items.attributes[name] for name in ("genre", "price", "new", "title"))
    assert isinstance(genre, Categories)
    assert isinstance(price, Scalars)
    assert isinstance(new, Scalars)
    assert isinstance(title, Labels)
    assert [genre.vocabulary.externals(genre.codes.row(row)) for row in range(N_ITEMS)] == [
        [GENRES[number % 2]] for number in numbers
    ]
    assert price.values.tolist() == [number / 2 for number in numbers]
    assert new.has().tolist() == [number % 3 > 0 for number in numbers]
    assert [items.label(row) for row in range(N_ITEMS)] == [f"Item {number}" for number in numbers]
    assert bundle.space().entities["user"].attributes == {}
    assert bundle.space().entities["user"].label(0) is None


def test_a_manifest_without_attributes_is_read(run: Path, tmp_path: Path) -> None:
    manifest = build_version(run, tmp_path / "bundles", BuildConfig(), version="v1").manifest
    entries = json.loads(manifest.model_dump_json())
    for space in entries["spaces"].values():
        for entity in space["entities"]:
            del entity["attributes"]
    assert Manifest.model_validate_json(json.dumps(entries)).spaces["default"].entities[1].attributes == ()

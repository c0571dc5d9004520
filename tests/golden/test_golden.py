"""Bundles of every format version, committed once and read for ever; every fault in any of their files is named."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from bundle.arrays import map_array
from bundle.errors import BundleAltered, BundleFormatUnsupported, BundleIncomplete, BundleInvalid
from bundle.layout import MANIFEST, SpaceLayout
from bundle.reader import open_bundle, read_manifest
from bundle.verify import check_digests, check_finite
from bundle.versions import current_version, publish
from index.search.open import open_searcher
from index.search.probe import probe_bundle
from tests.support.toy import ITEMS, JAZZ_LOVERS, LOVERS_OF_BOTH, USERS, item_row, user_row

HERE = Path(__file__).resolve().parent
GOLDEN = [
    *("format-1-hnsw", "format-1-faiss", "format-1-ivf4"),
    *("format-2-int8", "format-2-float16", "format-2-interests"),
]
FILES = [(name, file) for name in GOLDEN for file in read_manifest(HERE / name).files]


@pytest.fixture(params=GOLDEN)
def golden(request: pytest.FixtureRequest) -> Path:
    """A golden bundle as it was committed."""
    return HERE / str(request.param)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies that a test may harm, and must heal."""
    root = tmp_path_factory.mktemp("golden")
    for name in GOLDEN:
        shutil.copytree(HERE / name, root / name)
    return root


def test_it_is_whole(golden: Path) -> None:
    bundle = open_bundle(golden)
    check_digests(golden, bundle.manifest)
    check_finite(golden, bundle.manifest)
    probe_bundle(bundle)


def test_it_can_be_published(golden: Path, tmp_path: Path) -> None:
    shutil.copytree(golden, tmp_path / golden.name)
    publish(tmp_path, golden.name)
    assert current_version(tmp_path) == golden.name


def test_ids_are_found_both_ways(golden: Path) -> None:
    space = open_bundle(golden).space()
    assert space.table("user").ids.externals(np.arange(len(USERS))) == USERS
    assert space.table("item").ids.rows([*ITEMS, "jazz-99"]).tolist() == [*range(len(ITEMS)), -1]
    assert space.table("tag").ids.row("13") == 1


def test_the_searcher_answers_as_ever(golden: Path) -> None:
    bundle = open_bundle(golden)
    taste = bundle.space().table("user").embeddings[user_row(JAZZ_LOVERS[0])]
    query = np.append(taste, np.float32(0))[np.newaxis]
    rows = open_searcher(bundle, None, "item").search(query, 4)[0].rows
    assert [ITEMS[row] for row in rows] == ["jazz-00", "jazz-01", "jazz-02", "jazz-03"]


def test_the_mixture_is_six_to_four(golden: Path) -> None:
    mixtures = open_bundle(golden).space().clusters.interests[0].mixtures
    np.testing.assert_allclose(mixtures.row_weights(user_row(LOVERS_OF_BOTH[0])), [0.6, 0.4], rtol=1e-6)


def test_versions_without_named_interests_have_one_of_all_and_others_one_for_each_target_type() -> None:
    old, new = (open_bundle(HERE / f"format-2-{kind}").space() for kind in ("int8", "interests"))
    assert [one.entry.types for one in old.clusters.interests] == [("item",)]
    assert old.clusters.interests_in("user") is old.clusters.interests[0]
    assert [(one.entry.types, one.clusters) for one in new.clusters.interests] == [
        (("item",), range(2)),
        (("user",), range(2, 4)),
    ]
    assert set(new.clusters.assignment["user"].tolist()) == {2, 3}
    assert new.clusters.lists["user", "centroid"].first == 2
    near, users = new.relation("near"), new.clusters.interests_in("user")
    assert new.clusters.assignment["user"][near.targets.row(0)[0]] in users.mixtures.row(0)


def test_edges_go_both_ways(golden: Path) -> None:
    relations = open_bundle(golden).space().relations
    assert relations["likes"].sources.row(item_row("jazz-05")).tolist() == [*range(10), *range(20, 24)]
    assert relations["near"].targets.row(0).tolist() == [1]
    assert relations["near"].targets.row(len(USERS) - 2).tolist() == [2]


@pytest.mark.parametrize("entity_type", ["user", "item", "tag"])
def test_codes_decode_to_what_faiss_decoded(golden: Path, entity_type: str) -> None:
    table = open_bundle(golden).space().table(entity_type)
    expected = map_array(golden / SpaceLayout("default").pq(entity_type, "golden"))
    assert table.quantizer is not None
    assert table.codes is not None
    decoded = table.quantizer.decode(table.codes[: len(expected)])
    if table.quantizer.rotation is None:
        np.testing.assert_array_equal(decoded, expected)
    else:
        np.testing.assert_allclose(decoded, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["int8", "float16"])
def test_compact_rows_decode_as_ever(kind: str) -> None:
    table = open_bundle(HERE / f"format-2-{kind}").space().table("tag")
    assert table.compact is not None
    assert table.compact.kind == kind
    largest = np.abs(table.embeddings).max(axis=1, keepdims=True)
    step = largest / 127 if kind == "int8" else np.abs(table.embeddings) * 2.0**-10
    assert np.all(np.abs(table.scored_embeddings(np.arange(len(table))) - table.embeddings) <= 0.51 * step)


def test_one_of_the_two_has_a_rotation() -> None:
    assert (HERE / GOLDEN[0] / SpaceLayout("default").pq("tag", "rotation")).exists()


@pytest.mark.parametrize(("name", "file"), FILES)
def test_every_fault_of_every_file_is_named(name: str, file: str, copies: Path) -> None:
    path, whole = copies / name / file, (HERE / name / file).read_bytes()
    manifest = read_manifest(copies / name)
    try:
        path.write_bytes(whole[:-1])
        with pytest.raises(BundleIncomplete, match=str(path)):
            open_bundle(copies / name)
        path.write_bytes(whole + b"\0")
        with pytest.raises(BundleAltered, match=str(path)):
            open_bundle(copies / name)
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(BundleAltered, match=str(path)):
            check_digests(copies / name, manifest)
        path.unlink()
        with pytest.raises(BundleIncomplete, match=str(path)):
            open_bundle(copies / name)
    finally:
        path.write_bytes(whole)


def test_an_extra_file_is_named(golden: Path, copies: Path) -> None:
    extra = copies / golden.name / "spaces" / "default" / "vectors" / "more.npy"
    extra.write_bytes(b"")
    try:
        with pytest.raises(BundleAltered, match=str(extra)):
            open_bundle(copies / golden.name)
    finally:
        extra.unlink()


@pytest.mark.parametrize("name", GOLDEN)
def test_an_altered_index_never_reaches_its_library(name: str, copies: Path) -> None:
    bundle = open_bundle(copies / name)
    file = bundle.space().entry.indexes["item"].file
    assert file is not None
    path, whole = copies / name / file, (HERE / name / file).read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + b"\xff\xff\xff\xff" + whole[middle + 4 :])
    try:
        with pytest.raises(BundleAltered, match=str(path)):
            open_searcher(bundle, None, "item")
    finally:
        path.write_bytes(whole)


def test_a_newer_format_is_refused_by_number(golden: Path, copies: Path) -> None:
    manifest = copies / golden.name / MANIFEST
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(re.sub(r'"format_version": \d', '"format_version": 3', text), encoding="utf-8")
    try:
        with pytest.raises(BundleFormatUnsupported, match="format 3"):
            open_bundle(copies / golden.name)
    finally:
        manifest.write_text(text, encoding="utf-8")


def test_a_manifest_cut_short_is_invalid(golden: Path, copies: Path) -> None:
    manifest = copies / golden.name / MANIFEST
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text[: len(text) // 2], encoding="utf-8")
    try:
        with pytest.raises(BundleInvalid, match="not a manifest"):
            open_bundle(copies / golden.name)
    finally:
        manifest.write_text(text, encoding="utf-8")

"""Versions read without a service: as `bundle` reads them, and refused when they are damaged."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import twhin_client
from bundle import manifest as product
from bundle.reader import open_bundle
from bundle.space import Bundle
from bundle.versions import publish
from service.api.lookups import etag_of
from tests.support.service_bundle import tag_ids, user_ids, write_toy_bundle
from twhin_client import Client, Version
from twhin_client.ids import MANY
from twhin_client.manifest import READ_VERSIONS
from twhin_client.problems import (
    BundleAltered,
    BundleFormatUnsupported,
    BundleIncomplete,
    BundleInvalid,
    EntityNotFound,
    QueryInvalid,
    VersionNotFound,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(scope="module", params=["format-1-hnsw", "format-1-faiss", "toy"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Version]:
    """A version as the product opens it and as the client does."""
    path = GOLDEN / request.param
    if request.param == "toy":
        path = write_toy_bundle(tmp_path_factory.mktemp("local"), "toy")
    return open_bundle(path), twhin_client.open(path, verify=True)


def test_the_reader_agrees_with_the_product_s_in_everything_it_reads(both: tuple[Bundle, Version]) -> None:
    theirs, ours = both
    assert (ours.name, ours.created) == (theirs.version, theirs.manifest.created)
    assert list(ours.spaces) == list(theirs.spaces)
    for name, space in theirs.spaces.items():
        opened = ours.space(name)
        assert opened.types == tuple(space.entities)
        assert opened.relations == tuple(space.relations)
        np.testing.assert_array_equal(opened.centroids, space.clusters.centroids)
        for relation in space.relations.values():
            expected = np.stack([relation.forward, relation.inverse])
            np.testing.assert_array_equal(opened.relation_vectors(relation.entry.name), expected)
        for table in space.entities.values():
            entities = opened.entities(table.name)
            rows = np.arange(len(table))
            names = table.ids.externals(rows)
            assert entities.ids.externals() == entities.ids.externals(rows) == names
            asked = [*names, "nobody", "007", "", "-1", "\ud800", str(2**63)]
            assert entities.ids.rows(asked).tolist() == table.ids.rows(asked).tolist()
            np.testing.assert_array_equal(entities.vectors, table.embeddings)
            np.testing.assert_array_equal(entities.codes, table.codes)
            np.testing.assert_array_equal(entities.decoder.decode(entities.codes), table.quantizer.decode(table.codes))  # type: ignore[union-attr, arg-type]
            assert entities.decoder.etag == etag_of(theirs, space, table)  # type: ignore[union-attr]
            clusters = space.clusters.assignment.get(table.name)
            assert (entities.clusters is None) == (clusters is None)
            if clusters is not None:
                np.testing.assert_array_equal(entities.clusters, clusters)
            if table.name == space.entry.clusters.mixture_type:
                mixtures = space.clusters.interests[0].mixtures
                for row in range(len(table)):
                    expected_modes = zip(mixtures.row(row).tolist(), mixtures.row_weights(row).tolist(), strict=True)
                    assert entities.mixtures.row(row) == list(expected_modes)  # type: ignore[union-attr]
            else:
                assert entities.mixtures is None


def test_many_string_ids_are_looked_up_as_few_are(both: tuple[Bundle, Version]) -> None:
    _, ours = both
    for name in ours.space().types:
        ids = ours.entities(name).ids
        asked = [*ids.externals(), *[f"no-{i}" for i in range(MANY)]]
        few = [ids.rows(asked[i : i + 100]).tolist() for i in range(0, len(asked), 100)]
        assert ids.rows(asked).tolist() == [row for part in few for row in part]


def test_arrays_of_integers_are_looked_up_as_they_are() -> None:
    ids = twhin_client.open(GOLDEN / "format-1-hnsw").entities("user").ids
    assert ids.rows(np.array([101, 5, 201])).tolist() == ids.rows(["101", "5", "201"]).tolist()
    assert ids.rows(np.array([101, 2**64 - 1], dtype=np.uint64)).tolist() == [0, -1]
    with pytest.raises(TypeError, match="list"):
        ids.rows("101")


def test_a_look_up_is_the_service_s(client: Client, toy_bundles: Path) -> None:
    asked = [user_ids()[3], "nobody", user_ids()[0]]
    for decoded in (False, True):
        ours = twhin_client.open(toy_bundles).entities("user").of(asked, decoded=decoded)
        theirs = client.features("user", asked) if decoded else client.embeddings("user", asked)
        np.testing.assert_array_equal(ours.values, theirs.values)
        assert (ours.ids, ours.version) == (theirs.ids, theirs.version)
        assert ours.missing.tolist() == theirs.missing.tolist() == [False, True, False]


def test_frames_have_every_column() -> None:
    users = twhin_client.open(GOLDEN / "format-1-hnsw").entities("user")
    columns = ("vector", "decoded", "codes", "cluster", "mixture")
    table = users.to_arrow(("vector", "decoded", "codes", "mixture"))
    assert table.num_rows == len(users)
    assert table["id"].to_pylist() == users.ids.values.tolist()  # type: ignore[union-attr]
    np.testing.assert_array_equal(np.array(table["vector"].to_pylist(), dtype=np.float32), users.vectors)
    modes = [[(mode["cluster"], mode["weight"]) for mode in row] for row in table["mixture"].to_pylist()]
    assert modes == [users.mixtures.row(row) for row in range(len(users))]  # type: ignore[union-attr]
    frame = users.to_pandas(("vector", "codes"))
    np.testing.assert_array_equal(np.stack(frame.loc[101, "vector"]), users.vectors[0])
    polar = users.to_polars()
    assert polar.shape == (len(users), 2)
    np.testing.assert_array_equal(polar["vector"].to_numpy(), users.vectors)
    items = twhin_client.open(GOLDEN / "format-1-hnsw").entities("item")
    assert items.to_arrow(("cluster",))["cluster"].to_pylist() == items.clusters.tolist()  # type: ignore[union-attr]
    assert items.to_arrow()["id"].to_pylist() == items.ids.externals()
    with pytest.raises(QueryInvalid, match="no mixtures of item"):
        items.to_arrow(columns)


def test_batches_are_all_of_it_a_part_at_a_time(toy_bundles: Path) -> None:
    tags = twhin_client.open(toy_bundles).entities("hashtag")
    parts = list(tags.batches(("vector", "codes"), rows=7))
    assert [name for part in parts for name in part["id"]] == tag_ids()
    np.testing.assert_array_equal(np.concatenate([part["vector"] for part in parts]), tags.vectors)
    assert {len(part["codes"]) for part in parts[:-1]} == {7}


def test_the_published_version_is_opened_unless_another_is_named(toy_bundles: Path, tmp_path: Path) -> None:
    assert twhin_client.open(toy_bundles).name == "v2"
    assert twhin_client.open(str(toy_bundles), "v1").name == "v1"
    assert twhin_client.open(toy_bundles / "v1").name == "v1"
    for path, version in ((toy_bundles, "v3"), (toy_bundles, "../x"), (toy_bundles / "v1", "v2"), (tmp_path, None)):
        with pytest.raises(VersionNotFound):
            twhin_client.open(path, version)
    version = twhin_client.open(toy_bundles)
    for ask in (
        lambda: version.space("x"),
        lambda: version.entities("x"),
        lambda: version.space().relation_vectors("x"),
    ):
        with pytest.raises(QueryInvalid, match="it has"):
            ask()


def test_a_type_without_codes_says_so(tmp_path: Path) -> None:
    path = write_toy_bundle(tmp_path, "v1")
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["spaces"]["main"]["compression"]["user"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    users = twhin_client.open(path).entities("user")
    assert users.codes is None
    assert users.decoder is None
    with pytest.raises(EntityNotFound):
        users.of(user_ids()[:1], decoded=True)


def test_a_newer_release_s_statements_are_passed_over(tmp_path: Path) -> None:
    path = write_toy_bundle(tmp_path, "v1")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["spaces"]["main"]["entities"][0]["colour"] = "blue"
    manifest["novelty"] = {"a": 1}
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert twhin_client.open(path).entities("user").ids.externals() == user_ids()


def test_every_format_that_the_product_reads_is_read() -> None:
    assert READ_VERSIONS == product.READ_VERSIONS


def test_another_format_is_refused_by_name(tmp_path: Path) -> None:
    path = write_toy_bundle(tmp_path, "v1")
    (path / "manifest.json").write_text(json.dumps({"format_version": 3, "all": "else is different"}))
    with pytest.raises(BundleFormatUnsupported, match="format 3"):
        twhin_client.open(path)


def test_damage_is_refused_by_name(toy_bundles: Path, tmp_path: Path) -> None:
    def damaged() -> Path:
        shutil.rmtree(tmp_path / "v1", ignore_errors=True)
        return Path(shutil.copytree(toy_bundles / "v1", tmp_path / "v1"))

    vectors = "spaces/main/vectors/user.npy"
    (damaged() / vectors).unlink()
    with pytest.raises(BundleIncomplete, match=r"user\.npy is missing"):
        _ = twhin_client.open(tmp_path / "v1").entities("user").vectors
    whole = (damaged() / vectors).read_bytes()
    (tmp_path / "v1" / vectors).write_bytes(whole[:-4])
    with pytest.raises(BundleInvalid, match=r"user\.npy"):
        _ = twhin_client.open(tmp_path / "v1").entities("user").vectors
    (tmp_path / "v1" / vectors).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert twhin_client.open(tmp_path / "v1").entities("user").vectors.shape == (400, 16)
    with pytest.raises(BundleAltered, match=r"user\.npy"):
        twhin_client.open(tmp_path / "v1", verify=True)
    np.save(damaged() / vectors, np.zeros((400, 17)))
    with pytest.raises(BundleInvalid, match="float64"):
        _ = twhin_client.open(tmp_path / "v1").entities("user").vectors
    np.save(damaged() / "spaces/main/ids/hashtag.offsets.npy", np.zeros(61, dtype=np.int64))
    with pytest.raises(BundleInvalid, match="ids of hashtag"):
        _ = twhin_client.open(tmp_path / "v1").entities("hashtag").ids
    for text in ("{", "[]", '{"format_version": 1}'):
        (damaged() / "manifest.json").write_text(text)
        with pytest.raises(BundleInvalid, match="no manifest"):
            twhin_client.open(tmp_path / "v1")
    shutil.move(damaged(), tmp_path / "other")
    with pytest.raises(BundleInvalid, match="has its name"):
        twhin_client.open(tmp_path / "other")


def test_a_manifest_that_is_not_as_it_was_published_is_refused(tmp_path: Path) -> None:
    path = write_toy_bundle(tmp_path, "v1")
    publish(tmp_path, "v1")
    (path / "manifest.json").write_bytes((path / "manifest.json").read_bytes() + b"\n")
    with pytest.raises(BundleAltered, match="SHA256SUMS"):
        twhin_client.open(tmp_path)

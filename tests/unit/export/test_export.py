"""Every export has exactly the ids and numbers of the version, bounded in memory, and appears whole or not at all."""

import importlib.util
import json
import struct
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from bundle.appearing import appearing
from bundle.errors import DiskFull, QueryError, UsageError
from bundle.progress import SilentProgress
from bundle.reader import open_bundle
from bundle.space import Bundle
from bundle.versions import publish, timeline
from export import projector
from export.table import COLUMNS, chosen
from export.write import Format, export
from tests.support.full_disk import files_end_at
from tests.support.service_bundle import N_TAGS, N_USERS, tag_ids, user_ids, write_toy_bundle


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The published toy version: users with integer ids, hashtags with awkward strings."""
    path = tmp_path_factory.mktemp("export")
    publish(path, write_toy_bundle(path, "v1").name)
    return open_bundle(path / "v1")


def written(toy: Bundle, to: Format, out: Path, columns: tuple[str, ...] = COLUMNS, *types: str) -> list[str]:
    """Export into `out`; the names of the files."""
    return sorted(path.name for path in export(chosen(toy, None, types, columns), to, out, SilentProgress()))


@pytest.fixture(autouse=True)
def _few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.table.ROWS_AT_ONCE", 70)


def expected(toy: Bundle, name: str) -> dict[str, Any]:
    table, clusters = toy.space().table(name), toy.space().clusters
    assert table.quantizer is not None
    assert table.codes is not None
    return {
        "vector": table.embeddings,
        "codes": table.codes,
        "decoded": table.quantizer.decode(np.asarray(table.codes)),
        "cluster": clusters.assignment.get(name),
        "mixture": clusters.interests[0].mixtures if name == "user" else None,
    }


def test_parquet_has_every_column_of_every_type(toy: Bundle, tmp_path: Path) -> None:
    assert written(toy, "parquet", tmp_path / "out") == ["hashtag.parquet", "user.parquet"]
    users, tags = (pq.read_table(tmp_path / "out" / f"{name}.parquet") for name in ("user", "hashtag"))
    assert list(map(str, users["id"].to_pylist())) == user_ids()
    assert tags["id"].to_pylist() == tag_ids()
    assert (users.column_names, tags.column_names) == (["id", *COLUMNS], ["id", "vector", "decoded", "codes"])
    for name, read in (("user", users), ("hashtag", tags)):
        wanted = expected(toy, name)
        for column in ("vector", "decoded", "codes"):
            np.testing.assert_array_equal(np.array(read[column].to_pylist()), wanted[column])
    assert users["cluster"].to_pylist() == expected(toy, "user")["cluster"].tolist()
    mixtures = expected(toy, "user")["mixture"]
    told = [[(mode["cluster"], mode["weight"]) for mode in row] for row in users["mixture"].to_pylist()]
    for row in range(N_USERS):
        assert told[row] == list(zip(mixtures.row(row).tolist(), mixtures.row_weights(row).tolist(), strict=True))
    assert users.schema.metadata[b"twhin.version"] == b"v1"


def test_npy_has_every_column_of_every_type(toy: Bundle, tmp_path: Path) -> None:
    files = written(toy, "npy", tmp_path / "out")
    assert [name for name in files if name.startswith("hashtag")] == [
        "hashtag.codes.npy",
        "hashtag.decoded.npy",
        "hashtag.id.jsonl",
        "hashtag.vector.npy",
    ]
    lines = (tmp_path / "out" / "hashtag.id.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line) for line in lines] == tag_ids()
    read = {
        name: np.load(tmp_path / "out" / f"user.{name}.npy") for name in ("id", "vector", "decoded", "codes", "cluster")
    }
    assert list(map(str, read.pop("id").tolist())) == user_ids()
    for name, array in read.items():
        np.testing.assert_array_equal(array, expected(toy, "user")[name])
        assert array.dtype == expected(toy, "user")[name].dtype
    for part, attribute in (("indptr", "indptr"), ("cluster", "indices"), ("weight", "weights")):
        array = np.load(tmp_path / "out" / f"user.mixture.{part}.npy")
        np.testing.assert_array_equal(array, getattr(expected(toy, "user")["mixture"], attribute))


def read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors of a file and its metadata, by the format's own description."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    types = {"F32": "<f4", "U8": "u1", "I32": "<i4", "I64": "<i8"}
    metadata = header.pop("__metadata__")
    data, tensors, end = content[8 + size :], {}, 0
    for name, about in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, stop = about["data_offsets"]
        assert begin == end, "no holes and no overlaps"
        assert begin % np.dtype(types[about["dtype"]]).itemsize == 0
        tensors[name] = np.frombuffer(data[begin:stop], types[about["dtype"]]).reshape(about["shape"])
        end = stop
    assert (end, size % 8) == (len(data), 0)
    return tensors, metadata


def test_safetensors_has_every_column_of_every_type(toy: Bundle, tmp_path: Path) -> None:
    assert written(toy, "safetensors", tmp_path / "out") == ["hashtag.safetensors", "user.safetensors"]
    tags, metadata = read_safetensors(tmp_path / "out" / "hashtag.safetensors")
    assert metadata["twhin.version"] == "v1"
    bounds = tags["id.offsets"].tolist()
    texts = [tags["id.utf8"].tobytes()[a:b].decode() for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    assert texts == tag_ids()
    users, _ = read_safetensors(tmp_path / "out" / "user.safetensors")
    assert list(map(str, users["id"].tolist())) == user_ids()
    for name in ("vector", "decoded", "codes", "cluster"):
        np.testing.assert_array_equal(users[name], expected(toy, "user")[name])
    np.testing.assert_array_equal(users["mixture.weight"], expected(toy, "user")["mixture"].weights)
    np.testing.assert_array_equal(users["mixture.indptr"], expected(toy, "user")["mixture"].indptr)


def test_the_projector_s_files_have_a_line_an_entity(
    toy: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(toy, "projector", tmp_path / "out", ("vector",))
    vectors = np.loadtxt(tmp_path / "out" / "hashtag.vectors.tsv", delimiter="\t")
    np.testing.assert_allclose(vectors, expected(toy, "hashtag")["vector"], rtol=1e-4)
    lines = (tmp_path / "out" / "hashtag.metadata.tsv").read_text(encoding="utf-8").split("\n")
    assert lines[0].split("\t") == ["id", "label", "cluster", "in_degree"]
    assert len(lines) == N_TAGS + 2
    assert {len(line.split("\t")) for line in lines[:-1]} == {4}
    config = (tmp_path / "out" / "projector_config.pbtxt").read_text()
    assert config.count("embeddings {") == 2
    monkeypatch.setattr(projector, "MOST_ROWS", 50)
    written(toy, "projector", tmp_path / "few", ("vector",), "user")
    shown = (tmp_path / "few" / "user.metadata.tsv").read_text().splitlines()[1:]
    degrees = np.sort([int(line.split("\t")[3]) for line in shown])[::-1]
    every = np.sort(np.bincount(toy.space().relation("follows").targets.indices, minlength=N_USERS))[::-1]
    assert degrees.tolist() == every[:50].tolist()


def test_feast_gets_the_time_of_publication_and_definitions_that_fit(toy: Bundle, tmp_path: Path) -> None:
    files = written(toy, "feast", tmp_path / "out", ("vector", "cluster"))
    assert files == ["feature_store.yaml", "features.py", "hashtag.parquet", "user.parquet"]
    users = pq.read_table(tmp_path / "out" / "user.parquet")
    assert users["user_id"].to_pylist() == user_ids()
    np.testing.assert_array_equal(np.array(users["vector"].to_pylist()), expected(toy, "user")["vector"])
    served = datetime.fromtimestamp(timeline(toy.path.parent)[0].at, UTC)
    assert users["event_timestamp"][0].as_py() == served
    assert users["created"][0].as_py() == toy.manifest.created
    views = _definitions(tmp_path / "out" / "features.py")
    for name in ("user", "hashtag"):
        view, schema = views[name], pq.read_schema(tmp_path / "out" / f"{name}.parquet")
        assert view["source"]["path"] == f"{name}.parquet"
        assert {field["name"] for field in view["schema"]} == set(schema.names) - {
            f"{name}_id",
            "event_timestamp",
            "created",
        }
        assert view["entities"][0]["join_keys"] == [f"{name}_id"]
        assert {view["source"]["timestamp_field"], view["source"]["created_timestamp_column"]} < set(schema.names)


def _definitions(path: Path) -> dict[str, Any]:
    """The feature views of `path`, with classes of Feast that keep what they are given: Feast itself is not here."""

    def recorder(kind: str) -> Any:
        return lambda *given, **named: {"kind": kind, "given": given, **named}

    feast, feast_types = ModuleType("feast"), ModuleType("feast.types")
    for name in ("Entity", "FeatureView", "Field", "FileSource"):
        setattr(feast, name, recorder(name))
    feast.ValueType = type("ValueType", (), {"STRING": "STRING"})  # type: ignore[attr-defined]
    for name in ("Array", "Float32", "Int32", "UInt8"):
        setattr(feast_types, name, recorder(name))
    before = {name: sys.modules.get(name) for name in ("feast", "feast.types")}
    sys.modules |= {"feast": feast, "feast.types": feast_types}
    try:
        spec = importlib.util.spec_from_file_location("features", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        for name, was in before.items():
            sys.modules.pop(name) if was is None else sys.modules.update({name: was})
    views = [value for value in vars(module).values() if isinstance(value, dict) and value.get("kind") == "FeatureView"]
    return {view["name"].removesuffix("_twhin"): view for view in views}


def test_what_is_not_there_is_refused_in_one_line(toy: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column"):
        chosen(toy, None, [], ["nonsense"])
    with pytest.raises(UsageError, match="no mixture of hashtag.* or with --type the types that have them"):
        chosen(toy, None, ["hashtag"], ["mixture"])
    assert [table.name for table in chosen(toy, None, ["user", "user"], ["mixture"])] == ["user"]
    with pytest.raises(QueryError, match="it has: hashtag, user"):
        chosen(toy, None, ["nonsense"], ["vector"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(UsageError, match="there already"):
        written(toy, "npy", tmp_path / "out")


@pytest.mark.parametrize("to", ["parquet", "npy", "safetensors", "projector", "feast"])
def test_an_export_that_finds_no_room_leaves_nothing(toy: Bundle, tmp_path: Path, to: Format) -> None:
    with files_end_at(3_000), pytest.raises(DiskFull, match="Make room"):
        written(toy, to, tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []
    written(toy, to, tmp_path / "out")


def test_an_export_touches_nothing_beside_it_and_goes_where_a_link_leads(toy: Bundle, tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "mine").write_text("precious")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to("elsewhere")
    written(toy, "npy", tmp_path / "out")
    assert (tmp_path / "out.partial" / "mine").read_text() == "precious"
    assert any((tmp_path / "elsewhere").iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out.partial", "elsewhere"}


def test_two_exports_into_one_directory_do_not_meet(toy: Bundle, tmp_path: Path) -> None:
    with appearing(tmp_path / "out") as first:
        (first / "file").write_text("first")
        with pytest.raises(UsageError, match="Another process writes"):
            written(toy, "npy", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


def test_memory_stays_small(tmp_path: Path) -> None:
    """An export of 200 MB in a process of its own grows it by less than half of that."""
    code = f"""
import numpy as np, resource, sys
from pathlib import Path
from types import SimpleNamespace as N
from bundle.arrays import map_array
from bundle.ids import IntIds
from bundle.progress import SilentProgress
from bundle.space import EntityTable
from export.table import ExportedTable
from export.write import export
from datetime import datetime, UTC
path = Path({str(tmp_path)!r})
out = np.lib.format.open_memmap(path / "v.npy", mode="w+", dtype=np.float32, shape=(400_000, 129))
out.flush(); del out
vectors = map_array(path / "v.npy")
table = EntityTable("user", IntIds(np.arange(400_000)), vectors, 128)
bundle = N(version="v", manifest=N(created=datetime.now(UTC)))
import pyarrow.parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for to in ("parquet", "npy", "safetensors"):
    export([ExportedTable(bundle, N(name="main", clusters=None), table, ("vector",))], to, path / to, SilentProgress())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100_000

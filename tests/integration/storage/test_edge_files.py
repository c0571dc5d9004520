"""Graph files and examples may name files in a store: read as the same files here are."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import obstore
import pytest

from bundle.errors import EdgeFileError, GraphFileError, StorageError, UsageError
from cli.compose import read_examples
from graph.describe import describe
from graph.files import expand
from graph.prepare import prepare
from storage.files import find_file, find_files
from storage.store import Store
from tests.integration.storage.conftest import URL
from tests.support.object_store import S3Server

EDGES = {"a.csv": "src,dst\n1,2\n2,3\n", "deep/er/b.csv": "src,dst\n3,1\n", "day=1/c.csv": "src,dst\n4,1\n"}


def graph_file(directory: Path, files: str, relation: str = "follows", more: str = "") -> Path:
    directory.mkdir(exist_ok=True)
    text = f'[entities.user]\nid = "int64"\n\n[[relations]]\nname = "{relation}"\nsource = "user"\ntarget = "user"\n'
    (directory / "graph.toml").write_text(f"{text}files = {files!r}\n{more}", encoding="utf-8")
    return directory / "graph.toml"


@pytest.fixture
def both(raw: Any, tmp_path: Path) -> Path:
    """A directory with the edge files; the store has the same below `edges`, and what is no edge file beside them."""
    for name, text in EDGES.items():
        path = tmp_path / "here" / "edges" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        obstore.put(raw, f"edges/{name}", text.encode())
    obstore.put(raw, "edges/deep/_SUCCESS", b"")
    obstore.put(raw, "edges/deep/.hidden/d.csv", b"src,dst\n9,9\n")
    obstore.put(raw, "other/e.csv", b"src,dst\n8,7\n")
    return tmp_path / "here"


@pytest.mark.parametrize("files", ["edges", "edges/**/*.csv", "edges/*", "edges/a.csv", "edges/*/er", "e*s/[ab].csv"])
def test_a_graph_in_a_store_is_the_graph_of_the_same_files_here(both: Path, tmp_path: Path, files: str) -> None:
    here = prepare(graph_file(both, files), tmp_path / "one")
    stored = prepare(graph_file(tmp_path / "g", f"{URL}/{files}"), tmp_path / "two")
    assert stored.digest == here.digest
    assert len(stored.relations[0].train) > 0


def test_a_folder_of_the_name_of_an_object_is_a_column(both: Path, tmp_path: Path) -> None:
    more = 'relation_column = "day"\n'
    files = "edges/day=*/*.csv"
    here = prepare(graph_file(both, files, "*", more), tmp_path / "one")
    stored = prepare(graph_file(tmp_path / "g", f"{URL}/{files}", "*", more), tmp_path / "two")
    assert [relation.name for relation in stored.relations] == ["1"]
    assert stored.digest == here.digest


def test_objects_that_have_not_changed_are_not_read_twice(both: Path, raw: Any, tmp_path: Path) -> None:
    graph = graph_file(tmp_path / "g", f"{URL}/edges/*.csv")
    first = prepare(graph, tmp_path / "out")
    written = (tmp_path / "out" / "graph.json").stat().st_mtime_ns
    assert prepare(graph, tmp_path / "out").digest == first.digest
    assert (tmp_path / "out" / "graph.json").stat().st_mtime_ns == written
    obstore.put(raw, "edges/f.csv", b"src,dst\n5,6\n")
    assert prepare(graph, tmp_path / "out").digest != first.digest


def test_a_fault_in_an_object_is_told_with_its_url_and_place(raw: Any, tmp_path: Path) -> None:
    obstore.put(raw, "bad.csv", b"src,dst\n1,2\nx,3\n")
    with pytest.raises(EdgeFileError, match=rf"^{URL}/bad.csv, .*3") as fault:
        prepare(graph_file(tmp_path / "g", f"{URL}/bad.csv"), tmp_path / "out")
    assert "/tmp/" not in str(fault.value)


def test_nothing_stays_among_the_temporary_files(both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert describe(graph_file(tmp_path / "g", f"{URL}/edges")) is not None
    assert list((tmp_path / "temporary").iterdir()) == []


def test_attributes_may_be_in_a_store(both: Path, raw: Any, tmp_path: Path) -> None:
    text = "id,name\n1,Ada\n3,Bob\n"
    (both / "names.csv").write_text(text)
    obstore.put(raw, "names.csv", text.encode())
    digests = []
    for where, prefix in ((both, ""), (tmp_path / "g", f"{URL}/")):
        graph = graph_file(where, f"{prefix}edges")
        graph.write_text(graph.read_text().replace('"int64"\n', f'"int64"\nattributes = "{prefix}names.csv"\n'))
        digests.append(prepare(graph, where / "out").digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize("files", ["nothing.csv", "nothing/*.csv", "edges/*.parquet"])
def test_a_url_that_leads_to_no_file_is_refused(both: Path, tmp_path: Path, files: str) -> None:
    with pytest.raises(GraphFileError, match="leads to no file"):
        prepare(graph_file(tmp_path / "g", f"{URL}/{files}"), tmp_path / "out")


TABLES = {
    "Delta": ("_delta_log/0.json", "dt=1/a.parquet"),
    "Hudi": (".hoodie/hoodie.properties", "2026/01/31/a.parquet"),
    "Iceberg": ("metadata/v1.metadata.json", "data/a.parquet"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_the_folder_of_a_table_is_refused(raw: Any, kind: str) -> None:
    """Wherever its log lies: below the folder that is listed, or above it."""
    log, name = TABLES[kind]
    within = name.rsplit("/", 1)[0]
    obstore.put(raw, f"table/{log}", b"{}")
    obstore.put(raw, f"table/{name}", b"")
    obstore.put(raw, "table/us/south/b.parquet", b"")
    for pattern in ("table/us", "table/us/south/*.parquet"):  # a folder that has no name of a partition's
        with pytest.raises(UsageError, match=f"{kind} table: .*Export"):
            find_files(f"{URL}/{pattern}")
    for pattern in ("table", "table/**/*.parquet", "**/*.parquet", f"table/{within}", f"table/{within}/*.parquet"):
        with pytest.raises(UsageError, match=f"{kind} table: .*Export"):
            find_files(f"{URL}/{pattern}")
    assert [str(each) for each in find_files(f"{URL}/table/{name}")] == [f"{URL}/table/{name}"]
    with pytest.raises(GraphFileError, match=rf"files: .*/{within}/ leads to an? {kind} table"):
        expand(Path("/nowhere"), [f"{URL}/table/{within}/"], "files")


@pytest.mark.parametrize("kind", TABLES)
def test_the_log_of_a_table_refuses_nothing_else(raw: Any, kind: str) -> None:
    log, name = TABLES[kind]
    obstore.put(raw, f"lake/{log}", b"{}")
    obstore.put(raw, "lake/data/a.csv", b"")
    obstore.put(raw, f"graphs/{name}", b"")
    assert [each.name for each in find_files(f"{URL}/lake/data")] == ["data/a.csv"]
    assert len(find_files(f"{URL}/graphs/**/*.parquet")) == 1
    obstore.put(raw, "other/metadata/x.metadata.json", b"{}")
    obstore.put(raw, "other/data/a.parquet", b"")
    assert len(find_files(f"{URL}/other/data/*")) == 1


def test_a_transactional_table_of_hive_is_told_by_its_parts(raw: Any) -> None:
    obstore.put(raw, "hive/dt=1/base_0000007/000000_0.parquet", b"")
    for pattern in ("hive", "hive/dt=1/*/*", "hive/dt=1/base_0000007/*.parquet"):
        with pytest.raises(UsageError, match="Hive table: .*Export"):
            find_files(f"{URL}/{pattern}")


@pytest.fixture
def of_one_folder(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment leads to the store as credentials have it that may list one folder, `lake/data`."""

    class Gate(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            prefix = parse_qs(urlsplit(self.path).query)["prefix"][0]
            allowed = prefix.endswith("/lake/data/")
            body = httpx.get(f"http://127.0.0.1:{s3.port}{self.path}").content if allowed else b""
            self.send_response(200 if allowed else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    thread = Thread(target=server.serve_forever)
    thread.start()
    for name, value in s3.environment(server.server_port).items():
        monkeypatch.setenv(name, value)
    yield
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_parquet_of_a_log_makes_no_table_of_text(raw: Any) -> None:
    obstore.put(raw, "text/_delta_log/1.checkpoint.parquet", b"")
    obstore.put(raw, "text/a.csv", b"")
    assert [each.name for each in find_files(f"{URL}/text")] == ["text/a.csv"]


def test_folders_above_that_may_not_be_looked_at_refuse_nothing(raw: Any, of_one_folder: None) -> None:
    obstore.put(raw, "lake/data/a.parquet", b"")
    assert [each.name for each in find_files(f"{URL}/lake/data/*.parquet")] == ["a.parquet"]
    with pytest.raises(StorageError, match="refuses the credentials"):
        find_files(f"{URL}/lake/*/*.parquet")


def test_an_object_that_shrinks_while_it_is_read_is_found(store: Store, raw: Any, tmp_path: Path) -> None:
    obstore.put(raw, "a.csv", b"src,dst\n1,2\n3,4\n")
    found = find_file(f"{URL}/a.csv")
    for changed in (b"src,dst\n1,2\n", b"src,dst\n1,2\n3,4\n5,6\n"):
        obstore.put(raw, "a.csv", changed)
        with pytest.raises(UsageError, match="changed while it was read"), found.local():
            pass


def test_examples_may_be_in_a_store(raw: Any, tmp_path: Path) -> None:
    text = "user,item,label\n1,2,1\n1,3,0\n"
    (tmp_path / "e.csv").write_text(text)
    obstore.put(raw, "e.csv", text.encode())
    here, stored = read_examples(tmp_path / "e.csv"), read_examples(f"{URL}/e.csv")
    assert (stored.users, stored.items, stored.labels.tolist()) == (here.users, here.items, here.labels.tolist())
    obstore.put(raw, "bad.csv", b"user,item,label\n1,2,7\n")
    with pytest.raises(UsageError, match=f"{URL}/bad.csv"):
        read_examples(f"{URL}/bad.csv")
    with pytest.raises(UsageError, match="leads to 0 files"):
        read_examples(f"{URL}/none.csv")


def test_a_store_that_is_away_is_told(far: Store, proxy: Any, tmp_path: Path) -> None:
    proxy.mode = "refuse"
    with pytest.raises(StorageError, match="cannot be reached"):
        prepare(graph_file(tmp_path / "g", f"{URL}/edges"), tmp_path / "out")

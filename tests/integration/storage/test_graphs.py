"""A prepared graph goes by way of a store from where it is prepared to where it is trained, whole or not at all."""

import json
import os
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import obstore
import pytest
from click.testing import Result
from typer.testing import CliRunner

from bundle import graph_place
from bundle.errors import RunError, RunIncomplete, StorageError
from bundle.prepared import load_prepared
from bundle.run import open_run
from cli.main import app
from graph import stored
from graph.prepare import prepare
from graph.stored import prepare_into_store
from storage import graphs
from storage.graphs import fetch_graph, read_stored, send_graph
from storage.store import Store
from tests.integration.storage.conftest import URL
from tests.support.engines import write_inputs
from tests.support.fault_proxy import FaultProxy

TRAIN = ("--set", "dim=8", "--set", "epochs=1", "--set", "threads=1", "--set", "backend=torch")


def twhin(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def contents(directory: Path) -> dict[str, bytes]:
    """What a directory holds, but for what training has no use for."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != "source.json")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A graph.toml with strings, numbers, weights, times, attributes and a split."""
    return write_inputs(tmp_path / "inputs")


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files."""
    path = tmp_path / "scratch"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


def test_what_is_prepared_in_one_place_is_trained_in_another(
    store: Store, graph: Path, scratch: Path, tmp_path: Path
) -> None:
    here = prepare(graph, tmp_path / "here")
    answer = json.loads(twhin("prepare", graph, "--out", URL, "--json").stdout)
    assert (answer["graph"], answer["digest"]) == (URL, here.digest)
    assert not list(scratch.iterdir())
    twhin("train", f"{URL}/", "--run", tmp_path / "run", *TRAIN)
    assert contents(tmp_path / "run" / "graph") == contents(here.path)
    assert open_run(tmp_path / "run").graph.digest == here.digest


def test_what_is_there_is_neither_made_nor_fetched_again(
    store: Store, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_into_store(graph, store)
    fetch_graph(store, tmp_path / "out")
    before = [each.modified_ns for each in store.listed()], (tmp_path / "out").stat().st_ino
    monkeypatch.setattr(stored, "prepare", None)
    assert prepare_into_store(graph, store).digest == load_prepared(tmp_path / "out").digest
    fetch_graph(store, tmp_path / "out", may_replace=False)
    assert before == ([each.modified_ns for each in store.listed()], (tmp_path / "out").stat().st_ino)


def test_a_graph_in_a_store_is_never_replaced(store: Store, graph: Path, tmp_path: Path) -> None:
    """Told before minutes of preparing; and at the end, to the slower of two who prepare at once."""
    first = prepare_into_store(graph, store)
    (graph.parent / "follows" / "0.csv").write_text("src,dst,w\n5,7,1\n")
    with pytest.raises(RunError, match="never replaced"):
        prepare_into_store(graph, store)
    other = prepare(graph, tmp_path / "other")
    before = store.read("graph.json")
    with pytest.raises(RunError, match="never replaced"):
        send_graph(store, other.path)
    assert store.read("graph.json") == before
    found = read_stored(store)
    assert found is not None
    assert found.digest == first.digest != other.digest


def test_two_graphs_that_are_sent_at_once_do_not_mix(
    store: Store, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other begins when all of ours is there but its record; it is told so, and ours stays whole."""
    ours = prepare(graph, tmp_path / "ours")
    (graph.parent / "follows" / "0.csv").write_text("src,dst,w\n5,7,1\n")
    other = prepare(graph, tmp_path / "other")
    create = Store.create

    def create_after_the_other(self: Store, name: str, data: bytes) -> None:
        if name == "graph.json":
            monkeypatch.setattr(Store, "create", create)
            with pytest.raises(RunError, match="on its way"):
                send_graph(store, other.path)
        create(self, name, data)

    monkeypatch.setattr(Store, "create", create_after_the_other)
    send_graph(store, ours.path)
    fetch_graph(store, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(ours.path)
    source = store.read("source.json")
    assert source is not None
    assert source.data == (ours.path / "source.json").read_bytes()


def test_a_copy_of_the_same_files_is_the_same_graph(store: Store, graph: Path) -> None:
    first = prepare_into_store(graph, store)
    file = graph.parent / "follows" / "0.csv"
    os.utime(file, ns=(1, 1))
    assert prepare_into_store(graph, store).digest == first.digest
    head, _, edges = file.read_text().partition("\n")
    file.write_text(f"{head}\n{'1' if edges[0] != '1' else '2'}{edges[1:]}")  # another id, of the same length
    with pytest.raises(RunError, match="never replaced"):
        prepare_into_store(graph, store)


def test_who_waited_for_another_fetch_fetches_nothing(
    store: Store, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other ends between our look and our lock."""
    prepare_into_store(graph, store)
    out = tmp_path / "out"

    def after_the_other(directory: Path) -> None:
        monkeypatch.setattr(graphs, "require_replaceable", graph_place.require_replaceable)
        fetch_graph(store, directory)

    monkeypatch.setattr(graphs, "require_replaceable", after_the_other)
    placed, places = graph_place.placed, list[Path]()

    def counted(directory: Path) -> AbstractContextManager[Path]:
        places.append(directory)
        return placed(directory)

    monkeypatch.setattr(graphs, "placed", counted)
    fetch_graph(store, out)
    assert places == [out]


def test_two_who_send_the_same_graph_are_both_right(store: Store, graph: Path, tmp_path: Path) -> None:
    here = prepare(graph, tmp_path / "here")
    assert send_graph(store, here.path) > 0
    assert send_graph(store, here.path) == 0


def test_a_sending_that_was_cut_off_shows_no_graph_and_goes_on(
    store: Store, far: Store, proxy: FaultProxy, graph: Path, tmp_path: Path
) -> None:
    here = prepare(graph, tmp_path / "here")
    sent = list(here.path.rglob("*.npy"))[0].relative_to(here.path)
    obstore.put(obstore.store.from_url(URL), str(sent), b"of another attempt")
    proxy.mode = "refuse"
    with pytest.raises(StorageError):
        send_graph(far, here.path)
    with pytest.raises(RunIncomplete, match=r"graph\.json is missing\. Make one with"):
        fetch_graph(store, tmp_path / "out")
    proxy.mode = "pass"
    send_graph(far, here.path)
    fetch_graph(store, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(here.path)


def test_what_is_altered_or_missing_is_named_and_nothing_is_left(
    store: Store, raw: Any, graph: Path, tmp_path: Path
) -> None:
    prepare_into_store(graph, store)
    name = "edges/000.dst.npy"
    content = bytearray(bytes(obstore.get(raw, name).bytes()))
    faults = {"altered": (content[:-1] + bytes([content[-1] ^ 1]), "differs"), "short": (content[:-4], "differs")}
    for data, words in faults.values():
        obstore.put(raw, name, bytes(data))
        with pytest.raises(RunError, match=f"{name} {words} from its digest"):
            fetch_graph(store, tmp_path / "out")
    obstore.delete(raw, name)
    with pytest.raises(RunIncomplete, match=f"{name} is missing"):
        fetch_graph(store, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["inputs"]


def test_a_network_that_fails_leaves_nothing(
    store: Store, far: Store, proxy: FaultProxy, graph: Path, tmp_path: Path
) -> None:
    prepare_into_store(graph, store)
    record = store.read("graph.json")
    assert record is not None
    proxy.mode = "reset"
    with pytest.raises(StorageError):
        fetch_graph(far, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["inputs"]


def test_names_that_lead_out_are_refused(store: Store, raw: Any, graph: Path, tmp_path: Path) -> None:
    prepare_into_store(graph, store)
    record = json.loads(bytes(obstore.get(raw, "graph.json").bytes()))
    digest = record["files"]["edges/000.dst.npy"]
    for name in ("edges/../../x.npy", "/etc/x.npy", "edges/.x.npy", "run.json", "edges/a/b/c.npy"):
        obstore.put(raw, "graph.json", json.dumps({**record, "files": {name: digest}}).encode())
        with pytest.raises(RunError, match=r"graph\.json cannot be read"):
            fetch_graph(store, tmp_path / "out")


def test_the_graph_of_a_finished_run_stays(store: Store, graph: Path, tmp_path: Path) -> None:
    prepare_into_store(graph, store)
    (graph.parent / "follows" / "0.csv").write_text("src,dst,w\n5,7,1\n")
    run = tmp_path / "run"
    twhin("train", graph, "--run", run, *TRAIN)
    with pytest.raises(RunError, match="a finished run stands on it"):
        twhin("train", URL, "--run", run, *TRAIN)

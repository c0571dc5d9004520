"""The directory of a prepared graph: reuse, replacement, what is refused."""

import fcntl
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle.disk import locked
from bundle.errors import DiskFull, EdgeFileError, RunError, RunIncomplete, TwhinError
from bundle.graph_record import GraphRecord
from bundle.prepared import load_prepared
from graph.prepare import prepare, write_here

MakeGraph = Callable[..., Path]


def test_unchanged_input_is_not_read_again(tmp_path: Path, follows: MakeGraph) -> None:
    graph_toml = follows("src,dst\n1,2\n")
    first = prepare(graph_toml, tmp_path / "out")
    written = (tmp_path / "out" / "graph.json").stat().st_mtime_ns
    assert prepare(graph_toml, tmp_path / "out").digest == first.digest
    assert (tmp_path / "out" / "graph.json").stat().st_mtime_ns == written


def test_the_name_of_an_edge_file_need_not_be_text(tmp_path: Path, follows: MakeGraph) -> None:
    graph_toml = follows("src,dst\n1,2\n")
    (tmp_path / "edges").mkdir()
    (tmp_path / "follows.csv").rename(tmp_path / "edges" / os.fsdecode(b"\xff.csv"))
    graph_toml.write_text(graph_toml.read_text().replace('"follows.csv"', '"edges"'))
    first = prepare(graph_toml, tmp_path / "out")
    written = (tmp_path / "out" / "graph.json").stat().st_mtime_ns
    assert prepare(graph_toml, tmp_path / "out").digest == first.digest
    assert (tmp_path / "out" / "graph.json").stat().st_mtime_ns == written


def test_what_another_process_made_meanwhile_is_not_made_again(
    tmp_path: Path, follows: MakeGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends between our first look and our lock."""
    graph_toml, out, take = follows("src,dst\n1,2\n"), tmp_path / "out", locked
    written: list[int] = []

    def late(path: Path, busy: TwhinError, *, remove: bool = False) -> AbstractContextManager[None]:
        monkeypatch.setattr("graph.prepare.locked", take)
        prepare(graph_toml, out)
        written.append((out / "graph.json").stat().st_mtime_ns)
        return take(path, busy, remove=remove)

    monkeypatch.setattr("graph.prepare.locked", late)
    prepare(graph_toml, out)
    assert written == [(out / "graph.json").stat().st_mtime_ns]


def test_changed_input_replaces_the_graph(tmp_path: Path, follows: MakeGraph) -> None:
    graph_toml = follows("src,dst\n1,2\n")
    first = prepare(graph_toml, tmp_path / "out")
    (tmp_path / "follows.csv").write_text("src,dst\n1,3\n")
    os.utime(tmp_path / "follows.csv", ns=(1, 1))
    second = prepare(graph_toml, tmp_path / "out")
    assert second.entity("user").ids.externals(np.arange(2)) == ["1", "3"]
    assert first.digest != second.digest
    graph_toml.write_text(graph_toml.read_text().replace('target = "user"', 'target = "user"\nsymmetric = true'))
    assert prepare(graph_toml, tmp_path / "out").digest != second.digest


def test_equal_input_has_an_equal_digest_wherever_and_whenever(tmp_path: Path, follows: MakeGraph) -> None:
    graph_toml = follows("src,dst\n1,2\n2,3\n")
    first = prepare(graph_toml, tmp_path / "out")
    os.utime(tmp_path / "follows.csv", ns=(1, 1))
    assert prepare(graph_toml, tmp_path / "out").digest == first.digest
    assert prepare(graph_toml, tmp_path / "elsewhere").digest == first.digest


def test_bad_new_input_leaves_the_old_graph(tmp_path: Path, follows: MakeGraph) -> None:
    graph_toml = follows("src,dst\n1,2\n")
    first = prepare(graph_toml, tmp_path / "out")
    (tmp_path / "follows.csv").write_text("src,dst\n1,oops\n")
    with pytest.raises(Exception, match="oops"):
        prepare(graph_toml, tmp_path / "out")
    assert load_prepared(tmp_path / "out").digest == first.digest
    assert not (tmp_path / "out.twhin-partial").exists()


def test_a_directory_with_something_else_is_left_alone(tmp_path: Path, follows: MakeGraph) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="is not empty and holds no prepared graph"):
        prepare(follows("src,dst\n1,2\n"), tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize("theirs", ["graph.json", "edges/mine.csv", "notes.txt"])
def test_what_is_no_part_of_a_graph_does_not_go_with_it(tmp_path: Path, follows: MakeGraph, theirs: str) -> None:
    """A graph.json may be anybody's, and somebody may keep a file beside ours."""
    out = tmp_path / "out"
    if theirs != "graph.json":
        prepare(follows("src,dst\n1,2\n"), out)
    out.mkdir(exist_ok=True)
    (out / theirs).write_text('{"nodes": []}')
    with pytest.raises(RunError, match="holds no prepared graph|is no part of the prepared graph"):
        prepare(follows("src,dst\n1,2\n2,3\n"), out)
    assert (out / theirs).read_text() == '{"nodes": []}'


def test_neighbours_of_the_directory_are_left_alone(tmp_path: Path, follows: MakeGraph) -> None:
    for name in ("out.lock", "out.old", "out.partial"):
        (tmp_path / name).write_text("precious")
    for edges in ("1,2\n", "1,2\n2,3\n"):
        prepare(follows("src,dst\n" + edges), tmp_path / "out")
    assert {(tmp_path / name).read_text() for name in ("out.lock", "out.old", "out.partial")} == {"precious"}


def test_the_working_directory_is_refused(tmp_path: Path, follows: MakeGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    graph_toml = follows("src,dst\n1,2\n")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    with pytest.raises(RunError, match="working directory cannot be replaced"):
        prepare(graph_toml, Path())


def test_a_link_to_a_directory_stays_one(tmp_path: Path, follows: MakeGraph) -> None:
    (tmp_path / "large").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "large")
    for edges in ("1,2\n", "1,2\n2,3\n"):
        prepare(follows("src,dst\n" + edges), tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "large" / "graph.json").exists()


def test_a_file_that_is_written_while_it_is_read_is_refused(tmp_path: Path, follows: MakeGraph) -> None:
    """Its edges may be of neither state; the graph from before stays."""
    graph_toml, edges = follows("src,dst\n1,2\n"), tmp_path / "follows.csv"
    first = prepare(graph_toml, tmp_path / "out")

    def grown(*arguments: Any) -> GraphRecord:
        record = write_here(*arguments)
        with edges.open("a") as file:
            file.write("3,4\n")
        return record

    def gone(*arguments: Any) -> GraphRecord:
        record = write_here(*arguments)
        edges.unlink()
        return record

    edges.write_text("src,dst\n1,3\n2,3\n")
    for engine, said in ((grown, "was changed while it was read"), (gone, "was removed while it was read")):
        with pytest.raises(EdgeFileError, match=rf"follows\.csv {said}"):
            prepare(graph_toml, tmp_path / "out", engine=engine)
        assert load_prepared(tmp_path / "out").digest == first.digest


def test_a_full_disk_is_told(tmp_path: Path, follows: MakeGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    graph_toml = follows("src,dst\n" + "".join(f"{i},{i + 1}\n" for i in range(20_000)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(DiskFull, match="The disk is full: .*Free some space"):
            prepare(graph_toml, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.twhin-partial").exists()


def test_a_graph_that_is_missing_or_damaged_is_refused(tmp_path: Path, follows: MakeGraph) -> None:
    out = tmp_path / "out"
    with pytest.raises(RunIncomplete, match=r"graph\.json is missing"):
        load_prepared(out)
    prepare(follows("src,dst\n1,2\n2,3\n"), out)
    np.save(out / "edges" / "000.src.npy", np.zeros(1, dtype=np.int32))
    with pytest.raises(RunError, match=r"000\.src\.npy is int32 \(1,\), expected int32 \(2,\)"):
        load_prepared(out)
    (out / "edges" / "000.src.npy").unlink()
    with pytest.raises(RunError, match=r"000\.src\.npy is missing"):
        load_prepared(out)
    record = json.loads((out / "graph.json").read_text())
    (out / "graph.json").write_text(json.dumps(record | {"hash": "md5"}))
    with pytest.raises(RunError, match="names the hash md5, expected xxh64:42"):
        load_prepared(out)
    (out / "graph.json").write_text(json.dumps(record | {"format_version": 3}))
    with pytest.raises(RunError, match="has format 3, this program reads 1 and 2"):
        load_prepared(out)
    (out / "graph.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        load_prepared(out)


def test_the_files_are_those_of_the_contract(tmp_path: Path, follows: MakeGraph) -> None:
    rows = "".join(f"{i},{i + 1},{i}\n" for i in range(40))
    extra = 'weight = "w"\n[split]\nby = "random"\nfraction = 0.1'
    prepare(follows("src,dst,w\n" + rows, kind="string", extra=extra), tmp_path / "out")
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert found == [
        *("edges/000.cell.npy", "edges/000.cell_start.npy", "edges/000.dst.npy", "edges/000.dst_place.npy"),
        *("edges/000.src.npy", "edges/000.src_place.npy", "edges/000.weight.npy", "graph.json"),
        *("ids/user.offsets.npy", "ids/user.utf8.npy", "shards/user.npy", "source.json"),
        *("test/000.dst.npy", "test/000.src.npy"),
        *("valid/000.dst.npy", "valid/000.src.npy"),
    ]
    assert np.load(tmp_path / "out/edges/000.src.npy", allow_pickle=False).dtype == np.int32


def test_two_do_not_prepare_one_graph_at_a_time(tmp_path: Path, follows: MakeGraph) -> None:
    graph_toml, out = follows("src,dst\n1,2\n2,3\n"), tmp_path / "out"
    lock = tmp_path / "out.twhin-lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="Another process prepares"):
            prepare(graph_toml, out)
    prepare(graph_toml, out)
    assert not lock.exists()


def test_a_graph_that_a_run_stands_on_is_not_replaced(tmp_path: Path, follows: MakeGraph) -> None:
    graph_toml, out = follows("src,dst\n1,2\n2,3\n"), tmp_path / "out"
    digest = prepare(graph_toml, out).digest
    assert prepare(graph_toml, out, may_replace=False).digest == digest
    follows("src,dst\n1,2\n2,3\n3,4\n")
    with pytest.raises(RunError, match="a finished run stands on that"):
        prepare(graph_toml, out, may_replace=False)
    assert load_prepared(out).digest == digest


def test_a_graph_of_an_earlier_release_opens_and_has_the_same_digest(tmp_path: Path, follows: MakeGraph) -> None:
    rows = "".join(f"{i},{i + 1},{i}\n" for i in range(40))
    out = tmp_path / "out"
    graph = prepare(follows("src,dst,t\n" + rows, extra='time = "t"\n[split]\nby = "time"'), out)
    assert graph.digest == "7655f1a5b2d6fcf86f501ddc2d00fe8372d56084454171b64b66eeb8d5f8e29e"
    record = json.loads((out / "graph.json").read_text())
    for relation in record["relations"]:
        del relation["held_out_trained"], relation["held_out_unseen"]
    (out / "graph.json").write_text(json.dumps(record))
    earlier = load_prepared(out)
    assert earlier.relations[0].held_out_unseen is None
    assert earlier.warnings() == ()

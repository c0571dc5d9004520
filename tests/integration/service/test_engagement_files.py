"""What users did while a service ran becomes edge files of the next training, from either store."""

import json
import socket
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
import redis
from typer.testing import CliRunner

from bundle.errors import StateError
from cli.main import app
from export.engagements import file_name
from graph.prepare import prepare
from service.settings import Settings
from service.state import dump
from service.state.dump import stored_events
from tests.integration.service.conftest import Start
from tests.support.fault_proxy import FaultProxy
from tests.support.redis_cluster import RedisClusterServers
from tests.support.servers import RedisServer, replica_of
from tests.support.service_bundle import tag_ids, user_ids

USERS, TAGS = user_ids(), tag_ids()
EVENTS = [
    {"id": "a", "user": USERS[1], "target": USERS[2], "at": 1_700_000_000},
    {"id": "b", "user": USERS[1], "target": USERS[3], "at": 1_700_000_001},
    {"id": "c", "user": USERS[1], "target": USERS[3], "at": 1_700_000_009, "action": "remove"},
    {"id": "d", "user": USERS[1], "target": USERS[4], "at": 1_700_000_002, "action": "block"},
    {"id": "a", "user": USERS[5], "target": "a/b", "relation": "uses", "at": 1_700_000_003.5},
    {"id": "e", "user": USERS[1], "target": USERS[2], "at": 1_700_000_004},
    {"id": "f", "user": "17", "target": "18", "at": 1_700_000_005},
]
EDGES = {(USERS[1], USERS[2], 1_700_000_004), ("17", "18", 1_700_000_005)}


def post(client: httpx.Client) -> None:
    assert client.post("/v1/engagements", json={"events": EVENTS}).json()["stored"] == len(EVENTS)


def exported(bundles: Path, out: Path, *arguments: str, **environment: str) -> str:
    command = ["data", "export-engagements", "--bundles", str(bundles), "--out", str(out), *arguments]
    done = CliRunner().invoke(app, command, env=environment, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def check(out: Path) -> None:
    follows = pq.read_table(out / "follows.parquet").to_pylist()
    assert {(str(row["src"]), str(row["dst"]), row["time"]) for row in follows} == EDGES
    assert pq.read_table(out / "uses.parquet").to_pylist() == [
        {"src": int(USERS[5]), "dst": "a/b", "time": 1_700_000_003}
    ]
    events = pq.read_table(out / "events.parquet").to_pylist()
    assert sorted((row["user"], row["id"]) for row in events) == sorted((one["user"], one["id"]) for one in EVENTS)


def test_the_embedded_store_is_written_as_edge_files_that_a_training_reads(
    start: Start, bundles: Path, tmp_path: Path
) -> None:
    post(start())
    told = exported(bundles, tmp_path / "out")
    assert "7 events" in told
    assert "1 removed and 1 blocked" in told
    check(tmp_path / "out")
    (tmp_path / "graph.toml").write_text(
        '[entities.user]\nid = "int64"\n[entities.hashtag]\nid = "string"\n'
        '[[relations]]\nname = "follows"\nsource = "user"\ntarget = "user"\n'
        'files = ["out/follows.parquet"]\ntime = "time"\n'
        '[[relations]]\nname = "uses"\nsource = "user"\ntarget = "hashtag"\nfiles = ["out/uses.parquet"]\n'
    )
    graph = prepare(tmp_path / "graph.toml", tmp_path / "prepared")
    assert [len(relation.train.src) for relation in graph.relations] == [2, 1]


def test_a_shared_store_is_written_alike(
    start: Start, bundles: Path, tmp_path: Path, redis_server: RedisServer
) -> None:
    post(start(redis_url=redis_server.url, redis_prefix="a[b]*", redis_write_timeout_ms=5000))
    environment = {"TWHIN_REDIS_URL": redis_server.url, "TWHIN_REDIS_PREFIX": "a[b]*"}
    exported(bundles, tmp_path / "out", **environment)
    check(tmp_path / "out")
    assert list(stored_events(Settings(bundles=bundles, redis_url=redis_server.url, redis_prefix="other"))) == []


def test_an_export_during_which_another_redis_takes_over_is_none(
    bundles: Path, redis_server: RedisServer, tmp_path: Path
) -> None:
    event = {"id": "a", "user_type": "user", "action": "add", "relation": "follows", "target_type": "user"}
    with closing(redis.Redis(port=redis_server.port)) as client:
        for user in map(str, range(1500)):
            stored = {**event, "user": user, "target": "1", "at": 1.0, "received": 1.0}
            client.hset(f"twhin:events:user:{user}", "a", json.dumps(stored))
    with replica_of(redis_server, tmp_path / "other") as other, closing(FaultProxy(redis_server.port)) as proxy:
        settings = Settings(bundles=bundles, redis_url=f"redis://127.0.0.1:{proxy.port}/0")
        assert len(list(stored_events(settings))) == 1500
        events = stored_events(settings)
        next(events)
        other.command("REPLICAOF", "NO", "ONE")
        proxy.target_port = other.port
        redis_server.kill()
        with pytest.raises(StateError, match="Another Redis took the place of the first meanwhile"):
            list(events)


def test_a_busy_redis_is_not_taken_for_another_one(bundles: Path, redis_server: RedisServer) -> None:
    event = {"id": "a", "user_type": "user", "user": "1", "action": "add", "relation": "follows", "target_type": "user"}
    stored = json.dumps({**event, "target": "2", "at": 1.0, "received": 1.0})
    redis_server.command("HSET", "twhin:events:user:1", "a", stored)
    events = stored_events(Settings(bundles=bundles, redis_url=redis_server.url))
    next(events)
    with redis_server.busy(), pytest.raises(StateError, match="a script of another program keeps it busy"):
        next(events)


def test_a_cluster_is_written_alike_unless_a_slot_is_on_its_way_or_a_node_is_away(
    start: Start, bundles: Path, tmp_path: Path
) -> None:
    (tmp_path / "cluster").mkdir()
    servers = RedisClusterServers(tmp_path / "cluster")
    try:
        url = servers.url.replace("://127", "://127.0.0.1:9,127")  # a node that is gone is passed over
        post(start(redis_url=url, redis_prefix="a[b]*", redis_write_timeout_ms=5000))
        exported(bundles, tmp_path / "out", TWHIN_REDIS_URL=url, TWHIN_REDIS_PREFIX="a[b]*")
        check(tmp_path / "out")
        of = partial(Settings, bundles=bundles, redis_prefix="a[b]*")
        settings = of(redis_url=url)
        first, second = servers.primaries[:2]
        events = stored_events(settings)
        some = next(events)
        began = servers.own_lines()
        # Nodes hear of each other meanwhile, which moves no slot.
        servers.wait_until(lambda: all(now != then for now, then in zip(servers.own_lines(), began, strict=True)))
        assert len([some, *events]) == len(EVENTS)
        first.command("CLUSTER", "SETSLOT", "7", "MIGRATING", second.command("CLUSTER", "MYID"))
        with pytest.raises(StateError, match="moved slots meanwhile"):
            list(stored_events(settings))
        first.command("CLUSTER", "SETSLOT", "7", "STABLE")
        (tmp_path / "alone").mkdir()
        alone = RedisClusterServers(tmp_path / "alone", primaries=1)
        try:
            alone.nodes[0].command("CLUSTER", "RESET")  # and knows no slots
            url = f"{alone.url},127.0.0.1:{first.port}"
            assert len(list(stored_events(of(redis_url=url)))) == len(EVENTS)
            with pytest.raises(StateError, match="cannot be read: it has no slots"):
                list(stored_events(of(redis_url=alone.url)))
        finally:
            alone.close()
        assert len(list(stored_events(settings))) == len(EVENTS)
        servers.primaries[2].kill()
        with pytest.raises(StateError, match="cannot be read"):
            list(stored_events(settings))
    finally:
        servers.close()


def test_nodes_of_a_cluster_that_do_not_answer_or_refuse_are_passed_over(
    start: Start, bundles: Path, tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cluster").mkdir()
    servers = RedisClusterServers(tmp_path / "cluster", primaries=1)
    try:
        post(start(redis_url=servers.url, redis_write_timeout_ms=5000))
        with closing(socket.create_server(("127.0.0.1", 0))) as silent:
            others = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{redis_server.port}"
            url = servers.url.replace("://", f"://{others},")
            monkeypatch.setattr(dump, "REPLY_SECONDS", 2.0)
            assert len(list(stored_events(Settings(bundles=bundles, redis_url=url)))) == len(EVENTS)
            silent.setblocking(False)
            silent.accept()[0].close()
            with pytest.raises(BlockingIOError):  # half a minute of silence is enough, and not asked for again
                silent.accept()
    finally:
        servers.close()


def test_why_a_redis_cannot_be_read_is_told(bundles: Path, redis_server: RedisServer, tmp_path: Path) -> None:
    def told(url: str = redis_server.url) -> str:
        with pytest.raises(StateError, match="cannot be read") as error:
            list(stored_events(Settings(bundles=bundles, redis_url=url)))
        return str(error.value)

    assert "no database of the number" in told(redis_server.url.replace("/0", "/99"))
    assert "it is no Redis Cluster" in told(redis_server.url.replace("redis:", "redis+cluster:"))
    tls = redis_server.url.replace("redis:", "rediss:")
    assert "names for TLS cannot be read" in told(f"{tls}?ssl_ca_certs={tmp_path}/gone.pem")
    redis_server.command("HSET", "twhin:events:user:1", "e", "no event")
    assert "something else under a user's key" in told()
    redis_server.command("CONFIG", "SET", "requirepass", "secret")
    assert "asks for a password" in told()


def test_a_store_that_is_not_there_or_is_none_is_told(bundles: Path, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="is not there"):
        list(stored_events(Settings(bundles=bundles)))
    (tmp_path / "no.db").write_text("no database" * 1000)
    with pytest.raises(StateError, match="cannot be read"):
        list(stored_events(Settings(bundles=bundles, state=tmp_path / "no.db")))
    with pytest.raises(StateError, match="cannot be read"):
        list(stored_events(Settings(bundles=bundles, redis_url="redis://:secret@127.0.0.1:9/0")))
    with pytest.raises(StateError, match="node of the Redis Cluster .* cannot be read"):
        list(stored_events(Settings(bundles=bundles, redis_url="redis+cluster://127.0.0.1:9")))


def test_a_relation_s_name_is_a_file_s_whatever_signs_it_has() -> None:
    long = ["r" * 200, "r" * 201, "listened to: é", "listened to: ü"]  # alike to where a name is cut, or but for a sign
    names = ["follows", "events", "a/b", "a_b", "../x", "ü", *long]
    files = [file_name(name) for name in names]
    assert len({*files, "events"}) == len(names) + 1
    assert all("/" not in name and not name.startswith(".") and len(name) < 200 for name in files)

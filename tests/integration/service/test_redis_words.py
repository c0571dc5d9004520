"""What Redis says and what is made of it: told once in the log, in /readyz with a reason, and never with a secret or an
id; a slow but sound Redis is enough; what is erased is in no file of it.
"""

import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from bundle.errors import StateError
from service.metrics import Metrics
from service.settings import Limits
from service.state import redis as redis_store
from service.state.redis import RedisStore
from service.state.redis_address import redis_address
from tests.support.certificate import write_certificate
from tests.support.fault_proxy import FaultProxy
from tests.support.files import holds
from tests.support.forbidden import forbid_connections
from tests.support.servers import RedisServer, free_port
from tests.support.service_bundle import user_ids

USERS = user_ids()
SECRET = "p4ss-of-nobody"
Start = Callable[..., httpx.Client]


@contextmanager
def _answering(*replies: bytes) -> Iterator[int]:
    """A server that answers every command with the next of `replies`, the last one again and again; gives its port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve(connection: socket.socket) -> None:
            left = list(replies)
            with closing(connection):
                while asked := connection.recv(1 << 16):
                    for _ in range(asked.count(b"\r\n$4\r\nEVAL\r\n") or 1):
                        connection.sendall(left.pop(0) if len(left) > 1 else left[0])

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


def _post(client: httpx.Client, user: str = USERS[5], target: str = USERS[9]) -> httpx.Response:
    return client.post("/v1/engagements", content=json.dumps({"events": [{"user": user, "target": target}]}))


def _degraded(client: httpx.Client) -> list[str]:
    answer = client.post("/recommend", content=json.dumps({"user": USERS[5], "k": 5, "strategy": "centroids"}))
    assert answer.status_code == 200
    return answer.json()["degraded"]  # type: ignore[no-any-return]


def _reason(client: httpx.Client) -> str:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["degraded"] == ["engagements_unavailable"]
    return answer.json()["reasons"]["engagements_unavailable"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"-MOVED 866 10.0.0.7:7001\r\n", "Redis Cluster"),
        (b"-CLUSTERDOWN Hash slot not served\r\n", "Redis Cluster"),
        (b"-NOAUTH Authentication required.\r\n", "asks for a password"),
        (b"-NOPERM this user has no permissions to run the 'eval' command\r\n", "does not allow"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
        (b"-READONLY You can't write against a read only replica.\r\n", "replica"),
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", "memory"),
        (b"-MISCONF Redis is configured to save RDB snapshots\r\n", "disk"),
        (b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n", "busy"),
        (b"-NOREPLICAS Not enough good replicas to write.\r\n", "fewer replicas"),
        (b"-DENIED Redis is running in protected mode because protected mode is enabled\r\n", "protected-mode"),
        (b"-ERR DB index is out of range\r\n", "no database of the number"),
        (b"-ERR max number of clients + cluster connections reached\r\n", "as many clients"),
        (b"-ERR unknown command 'EVAL'\r\n", "a Sentinel, or a command that was renamed"),
        (b"-ERR Unknown Redis command called from script script: 63472eef, on @user_script:12.\r\n", "renamed"),
        (b"-ERR The user executing the script can't run this command or subcommand\r\n", "does not allow"),
        (b"-ERR ACL failure in script: User u has no permissions to run the 'hset' command\r\n", "does not allow"),
        (b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", "something else"),
        (b"+OK\r\n", "no Redis"),
        (b":1\r\n", "no Redis"),
        (b"*0\r\n", "no Redis"),
        (b"*1\r\n$-1\r\n", "no Redis"),
        (b"*1\r\n*0\r\n", "no Redis"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no Redis"),
    ],
)
def test_no_refusal_and_no_nonsense_counts_as_an_answer(
    start: Start, caplog: pytest.LogCaptureFixture, reply: bytes, reason: str
) -> None:
    caplog.set_level(logging.INFO, "twhin")
    with _answering(reply) as port:
        client = start(redis_url=f"redis://127.0.0.1:{port}/0", redis_retry_seconds=30, redis_timeout_ms=2000)
        for _ in range(3):
            assert _degraded(client) == ["engagements_unavailable"]
            posted = _post(client)
            assert (posted.status_code, posted.json()["code"], posted.headers["retry-after"]) == (
                503, "state_unavailable", "1",
            )  # fmt: skip
            assert client.delete(f"/v1/users/{USERS[5]}/engagements").status_code == 503
        assert reason in _reason(client)
        assert client.get("/v1/info").json()["state"]["reason"] == _reason(client)
    told = [record for record in caplog.records if record.name == "twhin.state"]
    assert 1 <= len(told) <= 2, "once for reads and once for writes"
    assert not any(record.exc_info for record in caplog.records)


def test_a_command_that_redis_repeats_is_not_logged(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    repeated = f"-ERR unknown command 'EVAL', with args beginning with: 'twhin:events:user:{USERS[5]}'\r\n".encode()
    with _answering(repeated) as port:
        client = start(redis_url=f"redis://127.0.0.1:{port}/0", redis_timeout_ms=2000)
        assert _degraded(client) == ["engagements_unavailable"]
        assert "does not know a command that the service needs" in _reason(client)
    told = [record for record in caplog.records if record.name == "twhin.state"]
    assert told
    assert f"events:user:{USERS[5]}" not in str([vars(record) for record in told])


@pytest.mark.parametrize("given", ["wrong", ""])
def test_a_wrong_password_is_said_and_not_shown(
    start: Start, redis_server: RedisServer, caplog: pytest.LogCaptureFixture, given: str
) -> None:
    redis_server.command("CONFIG", "SET", "requirepass", SECRET)
    url = f"redis://:{given}{SECRET[:4]}@127.0.0.1:{redis_server.port}/0" if given else redis_server.url
    client = start(redis_url=url, redis_retry_seconds=0.2, redis_timeout_ms=2000)
    assert _degraded(client) == ["engagements_unavailable"]
    assert "password" in _reason(client)
    assert given + SECRET[:4] not in caplog.text + client.get("/v1/info").text


def test_what_is_found_when_it_is_tried_again_is_told(start: Start, redis_server: RedisServer) -> None:
    """It was away, and is back with a password: who reads the reason looks at the password, and not at the network."""
    with closing(FaultProxy(redis_server.port)) as proxy:
        proxy.mode = "refuse"
        client = start(redis_url=f"redis://127.0.0.1:{proxy.port}/0", redis_retry_seconds=0.1, redis_timeout_ms=2000)
        assert _degraded(client) == ["engagements_unavailable"]
        assert "cannot be reached" in _reason(client)
        redis_server.command("CONFIG", "SET", "requirepass", SECRET)
        proxy.mode = "pass"
        deadline = time.monotonic() + 10
        while "asks for a password" not in _reason(client):
            assert time.monotonic() < deadline, _reason(client)
            time.sleep(0.05)


def test_what_is_found_when_a_lost_connection_is_replaced_is_told(start: Start, redis_server: RedisServer) -> None:
    client = start(redis_url=redis_server.url, redis_retry_seconds=60, redis_timeout_ms=2000)
    assert not _degraded(client)
    with closing(redis.Redis(port=redis_server.port)) as operator:
        operator.config_set("requirepass", SECRET)
        operator.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert _degraded(client) == ["engagements_unavailable"]
    assert "asks for a password" in _reason(client)


def test_a_single_redis_that_is_asked_as_a_cluster_says_so(start: Start, redis_server: RedisServer) -> None:
    client = start(redis_url=redis_server.url.removesuffix("/0").replace("redis:", "redis+cluster:"))
    assert _post(client).status_code == 503
    assert "it is no Redis Cluster" in _reason(client)
    assert client.get("/readyz").json()["degraded"] == ["engagements_unavailable"]


def test_slots_without_a_node_and_a_map_that_may_not_be_asked_for_are_told(start: Start, tmp_path: Path) -> None:
    directory = tmp_path / "node"
    directory.mkdir()
    options = {"enabled": "yes", "port": str(free_port()), "require-full-coverage": "no"}
    node = RedisServer(directory, [word for name, value in options.items() for word in (f"--cluster-{name}", value)])
    try:
        node.command("CLUSTER", "ADDSLOTSRANGE", "0", "16000")
        node.command("ACL", "SETUSER", "default", "-cluster|slots")
        client = start(redis_url=f"redis+cluster://127.0.0.1:{node.port}", redis_retry_seconds=0.1)
        assert _post(client).status_code == 503
        assert "does not allow its user" in _reason(client)
        node.command("ACL", "SETUSER", "default", "+cluster|slots")
        _until(lambda: "slots of the Redis Cluster have no node" in _reason(client))
        node.command("CLUSTER", "ADDSLOTSRANGE", "16001", "16383")
        _until(lambda: {_post(client, user).status_code for user in USERS[:50]} == {200})
        _until(lambda: client.get("/v1/info").json()["state"]["healthy"])
    finally:
        node.kill()


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_redis_with_as_many_clients_as_it_takes_is_not_said_to_be_away(
    start: Start, redis_server: RedisServer
) -> None:
    with closing(redis.Redis(port=redis_server.port)) as only:
        only.config_set("maxclients", 1)
        client = start(redis_url=redis_server.url, redis_retry_seconds=0.1, redis_timeout_ms=2000)
        assert _degraded(client) == ["engagements_unavailable"]
        assert "as many clients as it takes" in _reason(client)
        only.config_set("maxclients", 100)
        deadline = time.monotonic() + 10
        while _degraded(client):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_trouble_ends_and_that_is_said(
    start: Start, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "twhin")
    client = start(redis_url=redis_server.url, redis_timeout_ms=2000)
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    for _ in range(3):
        assert _post(client).status_code == 503
    assert "memory" in _reason(client)
    redis_server.command("CONFIG", "SET", "maxmemory", "0")
    assert _post(client).status_code == 200
    assert client.get("/readyz").json() == {"status": "ok", "degraded": []}
    told = [record.getMessage() for record in caplog.records if record.name == "twhin.state"]
    assert told == ["engagements: write fails: it has no memory left", "engagements: write works again"]


@pytest.mark.parametrize(
    ("setting", "bad", "good", "word"),
    [("maxmemory", "1", "0", "memory"), ("min-replicas-to-write", "1", "0", "fewer replicas")],
)
def test_trouble_ends_where_those_who_were_refused_do_not_come_back(
    start: Start, redis_server: RedisServer, setting: str, bad: str, good: str, word: str
) -> None:
    client = start(redis_url=redis_server.url, redis_timeout_ms=2000, redis_write_timeout_ms=2000)
    redis_server.command("CONFIG", "SET", setting, bad)
    assert _post(client).status_code == 503
    time.sleep(2.5)
    assert word in _reason(client), "it is tried, and not there yet"
    redis_server.command("CONFIG", "SET", setting, good)
    deadline = time.monotonic() + 20
    while client.get("/readyz").json() != {"status": "ok", "degraded": []}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert redis_server.command("KEYS", "*") == ""


def test_a_redis_that_lets_go_of_what_it_has_stored_is_told(
    start: Start, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No reply says so: whoever was answered `stored` loses it when the memory is full, or when Redis ends."""
    monkeypatch.setattr(redis_store, "LOOK_SECONDS", 0.05)
    for name, value in (("maxmemory", "1gb"), ("maxmemory-policy", "allkeys-lru"), ("appendonly", "no")):
        redis_server.command("CONFIG", "SET", name, value)
    client = start(redis_url=redis_server.url, redis_timeout_ms=2000)
    assert _post(client).status_code == 200
    _until(lambda: client.get("/readyz").json()["status"] == "degraded")
    assert "lets go of engagements" in _reason(client)
    assert caplog.text.count("no append-only file") == 1
    redis_server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    _until(lambda: client.get("/readyz").json() == {"status": "ok", "degraded": []})
    assert _post(client).status_code == 200


def _refused(client: httpx.Client) -> float:
    """How often Redis has refused something."""
    told = re.search(r'twhin_redis_errors_total\{kind="refused"\} (\S+)', client.get("/metrics").text)
    assert told is not None
    return float(told[1])


@pytest.mark.parametrize("told_before", [True, False])
def test_whether_redis_keeps_what_it_takes_is_looked_at_again_after_a_busy_script(
    start: Start, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, told_before: bool
) -> None:
    monkeypatch.setattr(redis_store, "LOOK_SECONDS", 0.05)
    lets_go = [("maxmemory", "1gb"), ("maxmemory-policy", "allkeys-lru")]
    for name, value in lets_go if told_before else []:
        redis_server.command("CONFIG", "SET", name, value)
    client = start(redis_url=redis_server.url, redis_timeout_ms=2000, redis_write_timeout_ms=5000)
    assert _post(client).status_code == 200
    if told_before:
        _until(lambda: "lets go of engagements" in client.get("/readyz").text)
    refused = _refused(client)
    with redis_server.busy():
        _until(lambda: _refused(client) > refused)
    if told_before:
        redis_server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        _until(lambda: client.get("/readyz").json() == {"status": "ok", "degraded": []})
    else:
        for name, value in lets_go:
            redis_server.command("CONFIG", "SET", name, value)
        _until(lambda: "lets go of engagements" in client.get("/readyz").text)


def test_what_may_no_longer_be_looked_at_is_not_told_for_ever(
    start: Start, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it asked for again and again; once there is a write it is, since it may be allowed by then."""
    monkeypatch.setattr(redis_store, "LOOK_SECONDS", 0.05)
    for name, value in (("maxmemory", "1gb"), ("maxmemory-policy", "allkeys-lru")):
        redis_server.command("CONFIG", "SET", name, value)
    client = start(redis_url=redis_server.url, redis_timeout_ms=2000, redis_write_timeout_ms=5000)
    assert _post(client).status_code == 200
    _until(lambda: "lets go of engagements" in client.get("/readyz").text)
    redis_server.command("ACL", "SETUSER", "default", "-info")
    _until(lambda: client.get("/readyz").json() == {"status": "ok", "degraded": []})
    refused = _refused(client)
    time.sleep(0.3)
    assert _refused(client) == refused
    redis_server.command("ACL", "SETUSER", "default", "+info")
    assert _post(client).status_code == 200
    _until(lambda: "lets go of engagements" in client.get("/readyz").text)


@pytest.mark.parametrize(
    ("options", "days", "asks", "reason"),
    [
        ("", 1, "no", "nobody whom the service trusts"),
        ("ssl_ca_certs={sound}", -1, "no", "has expired"),
        ("ssl_ca_certs={sound}", 1, "yes", "asks for a certificate"),
        ("ssl_ca_certs={sound}&ssl_certfile={sound}", 1, "yes", ""),
        ("ssl_ca_certs={sound}.gone", 1, "no", "cannot be read"),
        ("ssl_ca_certs={directory}", 1, "no", "cannot be read"),
        ("ssl_ca_certs={empty}", 1, "no", "holds no certificate"),
    ],
)
def test_why_a_redis_with_tls_cannot_be_reached_is_told(
    start: Start, tmp_path: Path, options: str, days: int, asks: str, reason: str
) -> None:
    sound, empty, port, directory = tmp_path / "sound.pem", tmp_path / "empty.pem", free_port(), tmp_path / "redis"
    write_certificate(sound, days)
    empty.write_text("")
    directory.mkdir()
    files = {"cert-file": str(sound), "key-file": str(sound), "ca-cert-file": str(sound), "auth-clients": asks}
    words = [word for name, value in files.items() for word in (f"--tls-{name}", value)]
    server = RedisServer(directory, ["--tls-port", str(port), *words])
    try:
        url = f"rediss://127.0.0.1:{port}/0?{options.format(sound=sound, empty=empty, directory=directory)}"
        client = start(redis_url=url, redis_timeout_ms=2000)
        assert _post(client).status_code == (503 if reason else 200)
        if reason:  # now and then the system cuts the connection before what was said on it is read
            _until(lambda: _post(client).status_code == 503 and reason in _reason(client))
    finally:
        server.kill()


def test_words_of_tls_and_of_the_url_are_none_of_redis(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`DENIED` in an alert is no protected mode, and `BUSY` in a path no script; nor is an address in the log."""
    with _answering(bytes.fromhex("15 0301 0002 0231")) as port:  # the alert `access_denied`
        client = start(redis_url=f"rediss://127.0.0.1:{port}/0", redis_timeout_ms=2000)
        _until(lambda: _post(client).status_code == 503 and "does not agree on TLS" in _reason(client))
    client = start(redis_url=f"unix://{tmp_path}/BUSY/redis.sock")
    assert _post(client).status_code == 503
    assert "cannot be reached" in _reason(client)
    told = str([vars(record) for record in caplog.records if record.name == "twhin.state"])
    assert "TLSV1_ALERT_ACCESS_DENIED" in told
    assert str(port) not in told
    assert "BUSY" not in told


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_connection_that_the_system_does_not_allow_is_told(bundles: Path, tmp_path: Path, scheme: str) -> None:
    sound = write_certificate(tmp_path / "sound.pem")
    options = f"?ssl_ca_certs={sound}" if scheme == "rediss" else ""
    done = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", "data", "export-engagements"]
        + ["--bundles", str(bundles), "--out", str(tmp_path / "out")],
        env={**os.environ, "TWHIN_REDIS_URL": f"{scheme}://127.0.0.1:{free_port()}/0{options}"},
        preexec_fn=forbid_connections,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "cannot be read: the system does not allow the connection" in " ".join(done.stderr.split())


def test_another_hosts_certificate_is_told(start: Start, tmp_path: Path) -> None:
    certificate, port, directory = write_certificate(tmp_path / "sound.pem"), free_port(), tmp_path / "redis"
    directory.mkdir()
    words = ["--tls-cert-file", str(certificate), "--tls-key-file", str(certificate), "--tls-auth-clients", "no"]
    server = RedisServer(directory, ["--tls-port", str(port), *words, "--tls-ca-cert-file", str(certificate)])
    try:
        client = start(redis_url=f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}", redis_timeout_ms=2000)
        assert _post(client).status_code == 503
        assert "another host's" in _reason(client)
    finally:
        server.kill()


def test_thirty_milliseconds_a_reply_are_enough(start: Start, redis_server: RedisServer) -> None:
    """A password and a database number: the first use of a connection takes three replies. Writes have their default
    budget, reads more than that: a busy machine alone may take the 20 ms that are left of theirs.
    """
    redis_server.command("CONFIG", "SET", "requirepass", SECRET)
    with closing(FaultProxy(redis_server.port)) as proxy:
        proxy.delay_seconds = 0.03
        proxy.mode = "delay"
        client = start(
            redis_url=f"redis://:{SECRET}@127.0.0.1:{proxy.port}/3", redis_timeout_ms=1000, redis_retry_seconds=0.2
        )
        for number in range(20):
            assert _post(client, target=USERS[20 + number]).status_code == 200
            assert _degraded(client) == []
        assert any(_asked_for_together(client, USERS[:64], seconds=1.5) for _ in range(10)), (
            "one by one they take 1.9 s"
        )
        assert client.delete(f"/v1/users/{USERS[5]}/engagements").json()["removed"] == 20


def _asked_for_together(client: httpx.Client, users: list[str], seconds: float) -> bool:
    """Whether a batch has everybody's engagements within that time; where not, the store gets a moment to recover."""
    started = time.monotonic()
    batch = client.post("/recommend:batch", content=json.dumps({"users": users, "k": 5}))
    taken = time.monotonic() - started
    assert batch.json()["ok"] == len(users)
    if "engagements_unavailable" not in batch.text and taken < seconds:
        return True
    time.sleep(0.5)
    return False


def test_an_erasure_leaves_no_byte_in_redis_files(start: Start, redis_server: RedisServer, tmp_path: Path) -> None:
    client = start(redis_url=redis_server.url, redis_timeout_ms=2000)
    gone, stays = USERS[301], USERS[302]
    marked = [{"id": f"mark-{gone}-{number}", "user": gone, "target": USERS[number]} for number in range(50)]
    others = [
        {"id": f"names-{number}", "user": USERS[number], "target": target}
        for number in range(40)
        for target in (gone, stays)
    ]
    others = [{**event, "id": f"{event['id']}-{event['target']}"} for event in others]
    for events in (marked, others):
        assert client.post("/v1/engagements", content=json.dumps({"events": events})).json()["invalid"] == 0
    assert client.delete(f"/v1/users/{gone}/engagements").json()["removed"] == 50
    deadline = time.monotonic() + 15
    while holds(tmp_path / "redis", f"mark-{gone}-".encode(), f'"{gone}"'.encode()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert (
        holds(tmp_path / "redis", f'"{stays}"'.encode())
        or int(redis_server.command("HLEN", f"twhin:events:user:{USERS[1]}")) == 1
    )


def test_a_redis_that_may_not_rewrite_its_file_says_so_and_erases(
    start: Start, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.command("ACL", "SETUSER", "default", "-bgrewriteaof")
    client = start(redis_url=redis_server.url, redis_timeout_ms=2000)
    assert _post(client).status_code == 200
    assert client.delete(f"/v1/users/{USERS[5]}/engagements").json()["removed"] == 1
    deadline = time.monotonic() + 10
    while "append-only file" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert client.get("/readyz").json() == {"status": "ok", "degraded": []}


def test_what_is_erased_leaves_redis_file_though_a_script_kept_it_busy(
    start: Start, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A rewriting that began before the erasure has what was erased: the next one is asked for until Redis takes it."""
    monkeypatch.setattr(redis_store, "REWRITE_AGAIN_SECONDS", 0.05)
    client = start(redis_url=redis_server.url, redis_timeout_ms=2000, redis_write_timeout_ms=5000)
    for user in (USERS[301], USERS[302]):
        assert _post(client, user).status_code == 200
    redis_server.command("CONFIG", "SET", "rdbcompression", "no")
    redis_server.command("CONFIG", "SET", "rdb-key-save-delay", "500000")  # so that it takes two seconds and more
    redis_server.command("BGREWRITEAOF")
    redis_server.command("CONFIG", "SET", "rdb-key-save-delay", "0")
    assert client.delete(f"/v1/users/{USERS[301]}/engagements").json()["removed"] == 1
    refused = _refused(client)
    with redis_server.busy():
        _until(lambda: _refused(client) > refused)
    _until(lambda: not holds(tmp_path / "redis", f'"{USERS[301]}"'.encode()))
    assert holds(tmp_path / "redis", f'"{USERS[302]}"'.encode())


async def test_nothing_is_gone_through_where_redis_is_too_busy_to_say_which_it_is(redis_server: RedisServer) -> None:
    scans = list[str]()

    async def scan() -> None:
        scans.append("begun")

    store = RedisStore(
        redis_address(redis_server.url), prefix="t", timeout=5.0, write_timeout=5.0, connections=1, retry_seconds=0.1,
        events_per_user_max=100, metrics=Metrics().redis,
    )  # fmt: skip
    try:
        with redis_server.busy(), pytest.raises(StateError):
            await store._at_one_server(scan)
        assert not scans
        await store._at_one_server(scan)
        assert scans
    finally:
        await store.close()


def test_an_erasure_that_is_not_allowed_is_told_though_writes_go_on(start: Start, redis_server: RedisServer) -> None:
    redis_server.command("ACL", "SETUSER", "default", "-scan")
    client = start(redis_url=redis_server.url, redis_timeout_ms=2000)
    assert _post(client).status_code == 200
    assert client.delete(f"/v1/users/{USERS[5]}/engagements").status_code == 503
    assert _post(client).status_code == 200
    assert "does not allow its user" in _reason(client)


def test_the_permissions_that_the_runbook_names_are_enough(
    start: Start, bundles: Path, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    arms = ", ".join(f'{{name = "{name}", strategy = "auto", share = 0.5}}' for name in "ab")
    (bundles / "experiments.toml").write_text(f'[[experiments]]\nname = "e"\narms = [{arms}]\n')
    page = (Path(__file__).resolve().parents[3] / "docs" / "runbook.md").read_text(encoding="utf-8")
    named = re.search(r"its user needs `([^`]+)`", page)
    assert named is not None
    redis_server.command("ACL", "SETUSER", "least", "on", f">{SECRET}", *named[1].split())
    client = start(redis_url=f"redis://least:{SECRET}@127.0.0.1:{redis_server.port}/2", redis_timeout_ms=2000)
    events = [{"user": USERS[5], "target": target} for target in USERS[100:200]]
    assert client.post("/v1/engagements", content=json.dumps({"events": events})).json()["stored"] == 100
    assert "engagements_unavailable" not in _degraded(client)
    assert client.delete(f"/v1/users/{USERS[5]}/engagements").json()["removed"] == 100
    shown = {"request_id": "r-1", "experiment": "e", "arm": "a", "impressions": ["1"]}
    assert client.post("/v1/feedback", content=json.dumps({"events": [shown]})).json()["impressions"] == 1
    assert client.get("/v1/experiments").json()["experiments"][0]["arms"][0]["impressions"] == 1
    time.sleep(0.5)
    assert client.get("/readyz").json() == {"status": "ok", "degraded": []}
    assert not [record for record in caplog.records if record.name == "twhin.state"]


def test_users_with_many_events_are_added_up_once(start: Start, redis_server: RedisServer) -> None:
    client = start(redis_url=redis_server.url, redis_timeout_ms=2000, limits=Limits(timeout_ms=20_000))
    events = [{"user": USERS[5], "target": target, "at": 1} for target in USERS[100:350]]
    assert client.post("/v1/engagements", content=json.dumps({"events": events})).json()["stored"] == 250

    def ids() -> set[str]:
        answer = client.post("/recommend", content=json.dumps({"user": USERS[5], "k": 400})).json()
        return {candidate["id"] for candidate in answer["candidates"]}

    assert not ids() & set(USERS[100:350])
    back = [{"user": USERS[5], "target": target, "action": "remove"} for target in USERS[100:102]]
    client.post("/v1/engagements", content=json.dumps({"events": back}))
    assert ids() & set(USERS[100:350]) == set(USERS[100:102])
    other = start(redis_url=redis_server.url, redis_timeout_ms=2000)
    block = {"user": USERS[5], "target": USERS[101], "action": "block"}
    other.post("/v1/engagements", content=json.dumps({"events": [block]}))
    assert ids() & set(USERS[100:350]) == {USERS[100]}

"""A process that has no file left to open: what needs one is told to come again, and all goes on when there are."""

import contextlib
import http.client
import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from service.listener import TAKEN_IN_A_TURN
from tests.support.servers import ServiceProcess
from tests.support.service_bundle import user_ids

Begin = Callable[..., ServiceProcess]
USERS = user_ids()
PLACES = {"version": "v2", "type": "user", "id": USERS[3], "user": USERS[3], "attribute": "attribute"}
BODY = {"user": USERS[3], "users": USERS[:2], "type": "user", "id": USERS[3]}


def body_of(operation: dict[str, Any]) -> Any:
    """The example of the document, or what most routes take."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    examples = [one["value"] for one in content.get("examples", {}).values()]
    return next((one for one in (content.get("example"), *examples) if one is not None), BODY)


@pytest.mark.parametrize("left", [0, 1])
def test_what_finds_no_file_to_open_is_told_to_come_again(begin: Begin, left: int) -> None:
    service = begin(TWHIN_ADMIN_KEYS="admin", TWHIN_WATCH_SECONDS="1000")
    process = psutil.Process(service.process.pid)
    seen: dict[str, httpx.Response] = {}
    with httpx.Client(base_url=service.url, timeout=30, headers={"x-api-key": "admin"}) as client:
        document = client.get("/openapi.json").json()
        most = process.rlimit(psutil.RLIMIT_NOFILE)[1]
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + left, most))
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                body = body_of(operation) if method == "post" else None
                for version in ({}, {"version": "v2"}):
                    named = {**body, **version} if isinstance(body, dict) else body
                    seen[f"{method} {path} {version}"] = client.request(
                        method, path.format(**PLACES), json=named, params=version if method == "get" else None
                    )
        process.rlimit(psutil.RLIMIT_NOFILE, (most, most))
        assert client.get("/v1/entities/user", params={"version": "v2"}).status_code == 200
    codes = {what: answer.json().get("code") for what, answer in seen.items() if answer.status_code >= 500}
    assert set(codes.values()) == {"overloaded"}, codes
    assert len(codes) > (10 if left == 0 else 0)
    assert all(seen[what].headers["retry-after"] == "1" for what in codes)
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    told = [line["reason"] for line in lines if line["message"] == "nothing left"]
    assert len(told) == len(codes)
    assert all("Too many open files" in reason for reason in told)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("files", [12, 40])
def test_a_process_that_may_open_hardly_any_file_says_so_in_one_line(bundles: Path, files: int, workers: str) -> None:
    serve = [sys.executable, "-c", "from cli.main import main; main()", "serve", "--bundles", str(bundles)]
    done = subprocess.run(
        [*serve, "--port", "0", "--workers", workers],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)),
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("twhin: ")
    assert "Raise the limit of open files" in line


ASKING = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
POSTING = b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{"


def asked(service: ServiceProcess) -> socket.socket:
    """A connection on which the service was asked whether it lives."""
    client = socket.create_connection(("127.0.0.1", service.port), timeout=10)
    client.sendall(ASKING)
    return client


def answer(client: socket.socket) -> int:
    """The status of the next answer, which is read to its end."""
    answered = http.client.HTTPResponse(client)
    answered.begin()
    answered.read()
    return answered.status


def closed(client: socket.socket) -> bool:
    """Whether the service has closed the connection; what it has sent stays."""
    client.setblocking(False)
    try:
        return not client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        client.settimeout(10)


def test_who_comes_to_a_worker_without_files_is_taken_by_another_or_waits(begin: Begin) -> None:
    service = begin("--workers", "2", files="96", TWHIN_ADMIN_KEYS="admin")
    workers = [psutil.Process(pid) for pid in service.worker_pids()]
    deadline = time.monotonic() + 30
    while service.log.read_text().count('"a worker serves"') < len(workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    room = sum(96 - 16 - worker.num_fds() for worker in workers)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(asked(service)) for _ in range(room)]
        assert [client.recv(12) for client in clients] == [b"HTTP/1.1 200"] * room
        clients[0].recv(4096)
        clients[0].sendall(b"POST /admin/v1/versions/v2/activate HTTP/1.1\r\nHost: localhost\r\n")
        waiting = [stack.enter_context(asked(service)) for _ in range(96)]
        time.sleep(0.2)
        # There are files for everything else.
        clients[0].sendall(b"X-Api-Key: admin\r\nContent-Length: 0\r\n\r\n")
        assert clients[0].recv(12) == b"HTTP/1.1 200"
        assert all(worker.num_fds() < 96 for worker in workers)
        for client in clients:
            client.close()
        answers = []
        for client in waiting:
            answers.append(client.recv(12))
            client.close()
        assert answers == [b"HTTP/1.1 200"] * 96
    lines = [line for line in service.log.read_text().splitlines() if "files for" in line]
    assert 0 < len(lines) <= 2


def test_who_comes_when_all_files_are_idle_connections_takes_the_place_of_the_one_that_is_idle_longest(
    begin: Begin,
) -> None:
    service = begin(files="96", TWHIN_TIMEOUT_MS="60000")
    room = 96 - 16 - psutil.Process(service.process.pid).num_fds()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(asked(service)) for _ in range(room)]
        assert [answer(client) for client in clients] == [200] * room
        *others, head, body, behind, untaken = clients
        head.sendall(ASKING[:20])
        body.sendall(POSTING)
        behind.sendall(ASKING + ASKING[:-2])
        assert answer(behind) == 200
        untaken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        untaken.sendall(ASKING.replace(b"/livez", b"/openapi.json") * 100)
        longest = others[: room // 3]
        time.sleep(0.5)
        for client in others[len(longest) :]:
            client.sendall(ASKING)
            assert answer(client) == 200
        time.sleep(1.5)  # all of them are idle by now, and could go
        newcomers = [stack.enter_context(asked(service)) for _ in range(TAKEN_IN_A_TURN + len(longest) // 2)]
        began = time.monotonic()
        assert [answer(client) for client in newcomers] == [200] * len(newcomers)
        assert time.monotonic() - began < 10
        assert sum(closed(client) for client in longest) >= len(longest) // 2
        assert not any(closed(client) for client in others[len(longest) :])
        # What had begun goes on.
        head.sendall(ASKING[20:])
        behind.sendall(ASKING[-2:])
        body.sendall(b"}")
        assert [answer(client) for client in (head, behind, body)] == [200, 200, 422]
        assert not closed(untaken)

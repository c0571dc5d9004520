"""What clients really send: real clients in their own languages, streams of requests framed and cut in every way, heads
and bodies that never end from a thousand connections. Every request gets its own answer, and no other.
"""

import asyncio
import contextlib
import hashlib
import json
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import psutil
import requests

from bundle.versions import publish
from faults.outcome import Outcome
from tests.support.servers import ServiceProcess
from tests.support.service_bundle import user_ids, write_toy_bundle

USERS = user_ids()
EVENT = {"id": "own", "user": USERS[7], "target": USERS[9]}
PLANTED_BODY = json.dumps({"events": [{"id": "planted", "user": USERS[8], "target": USERS[9]}]}).encode()
PLANTED = (
    b"POST /v1/engagements HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(PLANTED_BODY), PLANTED_BODY)
)
HEADERS = {"content-type": "application/json", "x-request-id": "campaign"}
CLIENTS = Path(__file__).with_name("clients")
SLOW = 1000
# Heads and bodies have ten seconds, each; then all should be closed.
DRIPPING_SECONDS = 20.0
Line = tuple[str, str, str]
Answer = tuple[int, str]


def run(scratch: Path, seed: int, long: bool) -> Iterator[Outcome]:
    """Real clients, then `seed`'s streams (ten times as many with `long`), then the slow ones."""
    write_toy_bundle(scratch / "bundles", "v1")
    publish(scratch / "bundles", "v1")
    service = ServiceProcess(scratch / "bundles", TWHIN_DRAIN_SECONDS="0").wait_until_ready()
    try:
        yield from _real_clients(service.url, scratch)
        yield _streams(service, random.Random(seed), 4000 if long else 400)
        yield _conflicts(service, random.Random(seed), 4000 if long else 400)
        yield _slow_ones(service)
    finally:
        service.stop()


def _lines() -> list[Line]:
    """What every client sends, in this order."""
    batch = {"users": USERS[:64], "k": 100, "strategy": "mixture"}
    asked: list[tuple[str, str, object]] = [
        ("POST", "/recommend", {"user": USERS[5], "k": 3}),
        ("GET", f"/recommend/{USERS[5]}?k=5&exclude={USERS[13]}&exclude={USERS[21]}", None),
        ("POST", "/recommend:batch", batch),
        ("POST", "/v1/embeddings", {"type": "user", "ids": (USERS * 3)[:1000]}),
        ("POST", "/v1/engagements", {"events": [EVENT]}),
        ("GET", f"/v1/users/{USERS[7]}/interests", None),
        ("DELETE", f"/v1/users/{USERS[7]}/engagements", None),
        ("POST", "/recommend", {"user": USERS[5], "nonsense": PLANTED.decode()}),
        ("POST", "/nowhere", {"nonsense": PLANTED.decode()}),
        ("GET", "/livez", None),
    ]
    return [(method, path, "" if body is None else json.dumps(body)) for method, path, body in asked] * 3


def _real_clients(url: str, scratch: Path) -> Iterator[Outcome]:
    lines = _lines()
    file = scratch / "requests.tsv"
    file.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    with httpx.Client(base_url=url, headers=HEADERS, timeout=20) as client:
        expected = [_digest(client.request(method, path, content=body)) for method, path, body in lines]
    java, node = shutil.which("java"), shutil.which("node")
    clients: dict[str, Callable[[str], list[Answer]] | None] = {
        "httpx": lambda framing: _httpx(url, lines, framing),
        "requests": lambda framing: _requests(url, lines, framing),
        "curl --http2": (lambda framing: _curl(url, lines, framing)) if shutil.which("curl") else None,
        "Java's HttpClient": (
            (lambda framing: _printed([java, str(CLIENTS / "Client.java"), url, str(file), framing])) if java else None
        ),
        "node's fetch": (
            (lambda framing: _printed([node, str(CLIENTS / "client.mjs"), url, str(file), framing])) if node else None
        ),
    }
    for name, ask in clients.items():
        promise = f"{name} gets right answers, with bodies of known length and in chunks"
        if ask is None:
            yield Outcome(promise, "not tried: it is not on this machine", True)
            continue
        answers = ask("length") + ask("chunked")
        right = sum(one == other for one, other in zip(answers, expected * 2, strict=False))
        yield Outcome(promise, f"{right} of {2 * len(expected)} right", right == len(answers) == 2 * len(expected))
    left = httpx.delete(f"{url}/v1/users/{USERS[8]}/engagements").json()["removed"]
    yield Outcome("no request is made of another's body (clients)", f"{left} planted events stored", left == 0)


def _digest(answer: httpx.Response | requests.Response) -> Answer:
    return answer.status_code, hashlib.sha256(answer.content).hexdigest()


def _pieces(body: str) -> Iterator[bytes]:
    text = body.encode()
    yield from (text[at : at + 1000] for at in range(0, len(text), 1000))


def _httpx(url: str, lines: Sequence[Line], framing: str) -> list[Answer]:
    with httpx.Client(base_url=url, headers=HEADERS, timeout=20) as client:
        return [
            _digest(client.request(method, path, content=_pieces(body) if body and framing == "chunked" else body))
            for method, path, body in lines
        ]


def _requests(url: str, lines: Sequence[Line], framing: str) -> list[Answer]:
    with requests.Session() as session:
        session.headers.update(HEADERS)
        return [
            _digest(session.request(method, url + path, data=_pieces(body) if body and framing == "chunked" else body))
            for method, path, body in lines
        ]


def _curl(url: str, lines: Sequence[Line], framing: str) -> list[Answer]:
    answers = []
    for method, path, body in lines:
        command = ["curl", "-sS", "--http2", "-X", method, "-w", "\n%{http_code}", url + path]
        for name, value in HEADERS.items():
            command += ["-H", f"{name}: {value}"]
        if body:
            command += ["--data-binary", "@-", *(["-H", "transfer-encoding: chunked"] if framing == "chunked" else [])]
        done = subprocess.run(command, input=body.encode(), capture_output=True, timeout=30, check=True)
        content, _, status = done.stdout.rpartition(b"\n")
        answers.append((int(status), hashlib.sha256(content).hexdigest()))
    return answers


def _printed(command: list[str]) -> list[Answer]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    words = [line.split() for line in done.stdout.splitlines()]
    return [(int(status), digest) for status, digest in words]


OFFERS = [
    b"",
    b"",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAA\r\nSec-WebSocket-Version: 13\r\n",
    b"Upgrade: h2c\r\nConnection: keep-alive, upgrade\r\n",
    b"Connection: keep-alive\r\nUpgrade: TLS/1.2\r\n",
]
TARGETS = [(b"POST", b"/recommend"), (b"POST", b"/nowhere"), (b"GET", b"/livez"), (b"GET", b"/docs")]
TARGETS += [(b"DELETE", b"/v1/users/1/engagements"), (b"OPTIONS", b"/recommend"), (b"GET", b"/recommend/1?k=2")]


def _request(rng: random.Random) -> tuple[bytes, set[int]]:
    """One request with any body, framing and offer, and the statuses that may answer it."""
    method, path = rng.choice(TARGETS)
    right = json.dumps({"user": rng.choice(USERS), "k": 2}).encode()
    body = rng.choice([b"", right, right + b" " * rng.choice([10, 20_000]), PLANTED, PLANTED * 30])
    head = b"%b %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%b" % (
        method,
        path,
        rng.choice(OFFERS),
    )
    if body and rng.random() < 0.5:
        cuts = sorted({0, len(body), *(rng.randrange(len(body)) for _ in range(rng.randrange(6)))})
        parts = [body[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
        chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(part), rng.choice([b"", b";a=b"]), part) for part in parts)
        trailers = rng.choice([b"", b"", b"X-Api-Key: k\r\nX-Request-Timeout-Ms: soon\r\n"])
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + trailers + b"\r\n", _statuses(
            path, body
        )
    length = b"Content-Length: %d\r\n" % len(body) if body or rng.random() < 0.5 else b""
    return head + length + b"\r\n" + body, _statuses(path, body)


def _statuses(path: bytes, body: bytes) -> set[int]:
    if path == b"/recommend":
        return {204, 200} if body.startswith(b"{") else {204, 400}
    return {404} if path == b"/nowhere" else {200}


def _streams(service: ServiceProcess, rng: random.Random, n_streams: int) -> Outcome:
    """Pipelined requests on one connection, cut into packets anywhere: as many answers, in order, as requests."""
    asked = right = 0
    for _ in range(n_streams):
        stream = [_request(rng) for _ in range(rng.randrange(1, 6))]
        sent = b"".join(request for request, _ in stream)
        cuts = sorted({0, len(sent), *(rng.randrange(len(sent)) for _ in range(rng.choice([0, 1, 5, 20])))})
        statuses = _exchange(service.port, [sent[a:b] for a, b in zip(cuts, cuts[1:], strict=False)], len(stream))
        asked += len(stream)
        right += sum(status in wanted for status, (_, wanted) in zip(statuses, stream, strict=False))
    planted = _planted(service)
    figure = f"{right} of {asked} answers right in {n_streams} streams, {planted} planted events stored"
    return Outcome("each request of a stream gets its own answer", figure, right == asked and planted == 0)


def _exchange(port: int, packets: Sequence[bytes], n_answers: int) -> list[int]:
    """The statuses that come back, until there are `n_answers` or the connection ends."""
    statuses: list[int] = []
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, connection.makefile("rb") as reader:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            for packet in packets:
                connection.sendall(packet)
                if len(packets) > 1:
                    time.sleep(0.001)
        with contextlib.suppress(OSError):
            while len(statuses) < n_answers and (line := reader.readline()):
                statuses.append(int(line.split()[1]))
                length = 0
                while (header := reader.readline().strip().lower()) != b"":
                    length = int(header[15:]) if header.startswith(b"content-length:") else length
                reader.read(length)
    return statuses


CONFLICTS = [
    b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n",
    b"Content-Length: %d\r\nContent-Length: 0\r\n",
    b"Content-Length: %d, %d\r\n",
    b"Content-Length: %d \r\n\tx\r\n",
    b"Content-Length:\r\nContent-Length: %d\r\n",
    b"Content-Length: +%d\r\n",
    b"Content_Length: %d\r\nContent-Length : %d\r\n",
    b"Transfer-Encoding: chunked, identity\r\nX: %d\r\n",
    b"Transfer-Encoding: \x0bchunked\r\nX: %d\r\n",
    b"Transfer-Encoding: chunked\nX: %d\r\n",
]


def _conflicts(service: ServiceProcess, rng: random.Random, n_tries: int) -> Outcome:
    """Framing that two readers could read in two ways: one refusal, then the connection ends."""
    refused = 0
    for _ in range(n_tries):
        method, path = rng.choice(TARGETS)
        conflict = rng.choice(CONFLICTS)
        framing = conflict % ((len(PLANTED),) * conflict.count(b"%d"))
        head = b"%b %b HTTP/1.1\r\nHost: localhost\r\n%b%b\r\n" % (method, path, rng.choice(OFFERS), framing)
        refused += _exchange(service.port, [head + PLANTED], 3) == [400]
    planted = _planted(service)
    figure = f"{refused} of {n_tries} refused, {planted} planted events stored"
    return Outcome("framing that is ambiguous is refused, once", figure, refused == n_tries and planted == 0)


def _planted(service: ServiceProcess) -> int:
    stored: int = httpx.delete(f"{service.url}/v1/users/{USERS[8]}/engagements").json()["removed"]
    return stored


def _slow_ones(service: ServiceProcess) -> Outcome:
    """A thousand connections that drip heads and bodies, beside one client that asks as before and after."""
    process = psutil.Process(service.process.pid)
    alone, alone_cpu = _latencies(service.url, 4, process)
    # In a process of its own: a thousand writes take this one's event loop as long as the service's.
    command = [sys.executable, "-m", "faults.http", "drip", str(service.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as dripping:
        assert dripping.stdout is not None
        dripping.stdout.readline()  # all are connected
        beside, beside_cpu = _latencies(service.url, 8, process)
        closed = int(dripping.stdout.readline())
    again, again_cpu = _latencies(service.url, 4, process)
    p99 = [float(np.percentile(one, 99)) if one else float("inf") for one in (alone, beside, again)]
    cpu = ", ".join(f"{each:.1f}" for each in (alone_cpu, beside_cpu, again_cpu))
    figure = (
        f"p99 {p99[0]:.1f} ms alone, {p99[1]:.1f} ms beside {SLOW} of them, {p99[2]:.1f} ms alone again; "
        f"{cpu} ms of CPU an answer; {closed} of {SLOW} closed by the service"
    )
    held = p99[1] < 3 * max(p99[0], p99[2]) + 10 and closed == SLOW and len(beside) > 0
    return Outcome("slow heads and bodies take nothing from others", figure, held)


def _latencies(url: str, seconds: float, process: psutil.Process) -> tuple[list[float], float]:
    """Milliseconds of each answer, none at all where one was no 200; and those of the service's CPU for one."""
    taken: list[float] = []
    before = sum(process.cpu_times()[:2])
    with httpx.Client(base_url=url, headers=HEADERS, timeout=20) as client:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            started = time.perf_counter()
            answer = client.post("/recommend", json={"user": USERS[5], "k": 10})
            taken.append((time.perf_counter() - started) * 1000)
            if answer.status_code != 200:
                return [], 0.0
            time.sleep(0.01)
    return taken, 1000 * (sum(process.cpu_times()[:2]) - before) / len(taken)


async def _drip_all(port: int) -> None:
    """In a process of its own: say when all are connected, and in the end how many the service has closed."""
    stopped, connected = asyncio.Event(), asyncio.Semaphore(0)
    dripping = [asyncio.create_task(_drip(port, number, stopped, connected)) for number in range(SLOW)]
    for _ in range(SLOW):
        await connected.acquire()
    print("connected", flush=True)
    await asyncio.wait(dripping, timeout=DRIPPING_SECONDS)
    stopped.set()
    print(sum(await asyncio.gather(*dripping)), flush=True)


async def _drip(port: int, number: int, stopped: asyncio.Event, connected: asyncio.Semaphore) -> bool:
    """One slow connection; whether the service closed it."""
    head = b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connected.release()
    with contextlib.suppress(ConnectionError):
        writer.write(head if number % 2 else head + b"Content-Length: 1000\r\nX-Request-Timeout-Ms: 10000\r\n\r\n{")
        while not stopped.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    while await reader.read(4096):
                        pass
                    break
            writer.write(b"x")
    writer.close()
    return not stopped.is_set()


if __name__ == "__main__" and sys.argv[1:2] == ["drip"]:
    asyncio.run(_drip_all(int(sys.argv[2])))

"""What a call of the client costs: its CPU beside a raw httpx request's, in one run and in turns; and vectors a second.

CPU time is this process's own, user and system; the service runs in another one.

    python -m benchmarks.client --bundles .demo/bundles
"""

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serve import SERVICE, running
from bundle.reader import open_bundle
from bundle.versions import current_path
from twhin_client import AsyncClient, Client

K, CALLS, ROUNDS = 20, 200, 9
OCTETS = {"accept": "application/octet-stream"}


def cpu_us(call: Callable[[str], Any], users: list[str]) -> float:
    """CPU microseconds of one call, the mean over `users`."""
    gc.collect()
    began = time.process_time()
    for user in users:
        call(user)
    return 1e6 * (time.process_time() - began) / len(users)


async def cpu_us_awaited(call: Callable[[str], Awaitable[Any]], users: list[str]) -> float:
    """The same of a call that is awaited."""
    gc.collect()
    began = time.process_time()
    for user in users:
        await call(user)
    return 1e6 * (time.process_time() - began) / len(users)


def blocking(url: str, users: list[str], ids: list[str]) -> dict[str, list[float]]:
    """Rounds of raw requests and of the client's, in turns."""
    with httpx.Client() as raw, Client(url) as client:
        calls: dict[str, Callable[[str], Any]] = {
            "recommend, httpx and .json()": lambda user: raw.post(
                f"{url}/v1/recommend", json={"user": user, "k": K}
            ).json(),
            "recommend, Client": lambda user: client.recommend(user, k=K),
            f"{len(ids)} vectors, httpx and .content": lambda user: (
                raw.post(f"{url}/v1/embeddings", json={"type": "user", "ids": ids}, headers=OCTETS).content
            ),
            f"{len(ids)} vectors, Client": lambda user: client.embeddings("user", ids),
        }
        measured: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(ROUNDS + 1):
            for name, call in calls.items():
                figure = cpu_us(call, users)
                measured[name] += [figure] if number else []  # the first round warms up
    return measured


async def awaited(url: str, users: list[str], ids: list[str]) -> dict[str, list[float]]:
    """The same, awaited."""
    async with httpx.AsyncClient() as raw, AsyncClient(url) as client:

        async def ask(user: str) -> Any:
            return (await raw.post(f"{url}/v1/recommend", json={"user": user, "k": K})).json()

        async def look_up(user: str) -> bytes:
            body = {"type": "user", "ids": ids}
            return (await raw.post(f"{url}/v1/embeddings", json=body, headers=OCTETS)).content

        calls: dict[str, Callable[[str], Awaitable[Any]]] = {
            "recommend, httpx.AsyncClient and .json()": ask,
            "recommend, AsyncClient": lambda user: client.recommend(user, k=K),
            f"{len(ids)} vectors, httpx.AsyncClient and .content": look_up,
            f"{len(ids)} vectors, AsyncClient": lambda user: client.embeddings("user", ids),
        }
        measured: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(ROUNDS + 1):
            for name, call in calls.items():
                figure = await cpu_us_awaited(call, users)
                measured[name] += [figure] if number else []
    return measured


def streamed(url: str, users: list[str]) -> float:
    """Users a CPU second of `recommend_many`."""
    with Client(url) as client:
        began = time.process_time()
        n = sum(1 for _ in client.recommend_many(users * 5, k=K))
        return n / (time.process_time() - began)


def report(bundles: Path) -> None:
    """Measure, and print a table."""
    ids = open_bundle(current_path(bundles)).space().table("user").ids
    users = [ids.external(row * len(ids) // CALLS) for row in range(CALLS)]
    with running(SERVICE, "/readyz", bundles) as server:
        url = f"http://127.0.0.1:{server.port}"
        measured = {**blocking(url, users, users[:100]), **asyncio.run(awaited(url, users, users[:100]))}
        many = streamed(url, users)
    print("| call | CPU µs | beside raw httpx |\n|---|---|---|")
    names = list(measured)
    for raw, ours in zip(names[::2], names[1::2], strict=True):
        added = statistics.median(b - a for a, b in zip(measured[raw], measured[ours], strict=True))
        print(f"| {raw} | {statistics.median(measured[raw]):.0f} | |")
        print(f"| {ours} | {statistics.median(measured[ours]):.0f} | {added:+.0f} µs |")
    print(f"\nrecommend_many: {many:,.0f} users a CPU second of the client, k = {K}")


def main() -> None:
    """Parse the arguments and report."""
    parser = argparse.ArgumentParser(description="What a call of the client costs.")
    parser.add_argument("--bundles", type=Path, required=True, help="directory of versions; CURRENT is served")
    report(parser.parse_args().bundles)


if __name__ == "__main__":
    main()

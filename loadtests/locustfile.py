"""Locust users, one class for each path, and one that mixes them as a ranking service does.

    TWHIN_LOAD_BUNDLES=.demo/bundles locust -f loadtests/locustfile.py --host http://127.0.0.1:8000

Headless, with thresholds in the exit code: `--headless -u 50 -r 10 -t 60s`, and in the environment TWHIN_LOAD_P99_MS
and TWHIN_LOAD_FAIL_SHARE.
Locust is a closed loop: for claims about latency use `loadtests.run`.
"""

import json
import os
from pathlib import Path

import numpy as np
from locust import FastHttpUser, constant_throughput, events, tag, task

from loadtests.traffic import Population, population

HEADERS = {"content-type": "application/json"}
OCTETS = {**HEADERS, "accept": "application/octet-stream"}
P99_MS = float(os.environ.get("TWHIN_LOAD_P99_MS", "200"))
FAIL_SHARE = float(os.environ.get("TWHIN_LOAD_FAIL_SHARE", "0"))


class Base(FastHttpUser):
    """Ten requests a second each, about Zipf-distributed users."""

    abstract = True
    wait_time = constant_throughput(10)
    people: Population

    def on_start(self) -> None:
        self.people = population(Path(os.environ.get("TWHIN_LOAD_BUNDLES", ".demo/bundles")))
        self.rng = np.random.default_rng(abs(hash(self)) % 2**32)

    def post(self, path: str, body: dict[str, object], headers: dict[str, str] = HEADERS) -> None:
        """One POST, counted under its path."""
        self.client.post(path, data=json.dumps(body), headers=headers, name=path)

    def users(self, n: int) -> list[str]:
        """`n` users' ids."""
        return self.people.some(self.rng, n)


class Recommend(Base):
    """/recommend in its forms."""

    @tag("recommend")
    @task(8)
    def recommend(self) -> None:
        self.post("/recommend", {"user": self.users(1)[0], "k": 50})

    @task(1)
    def by_path(self) -> None:
        self.client.get(f"/recommend/{self.users(1)[0]}?k=50", name="/recommend/{user}")

    @task(1)
    def batch(self) -> None:
        self.post("/recommend:batch", {"users": self.users(16), "k": 20})

    @task(1)
    def cold(self) -> None:
        self.post("/recommend", {"engagements": [{"target": target} for target in self.users(5)], "k": 50})


class Lookups(Base):
    """Embeddings, features, neighbours, scores."""

    @tag("embeddings")
    @task(4)
    def embeddings(self) -> None:
        self.post("/v1/embeddings", {"type": self.people.user_type, "ids": self.users(100)}, OCTETS)

    @task(4)
    def features(self) -> None:
        self.post("/v1/features", {"type": self.people.user_type, "ids": self.users(100)}, OCTETS)

    @task(1)
    def one(self) -> None:
        path = f"/v1/embeddings/{self.people.user_type}/{self.users(1)[0]}"
        self.client.get(path, name="/v1/embeddings/{type}/{id}")

    @task(1)
    def similar(self) -> None:
        self.post("/v1/similar", {"type": self.people.user_type, "id": self.users(1)[0], "k": 50})

    @task(1)
    def score(self) -> None:
        source, *targets = self.users(51)
        self.post("/v1/score", {"pairs": [{"source": source, "target": target} for target in targets]})

    @task(1)
    def codebook(self) -> None:
        path = f"/v1/codebooks/{self.people.user_type}"
        with self.client.get(path, name="/v1/codebooks/{type}", catch_response=True) as response:
            if response.status_code in (200, 404):  # a version may be built without compression
                response.success()


class Engage(Base):
    """Engagements, and the interests they shift."""

    @task(3)
    def follow(self) -> None:
        user, target = self.users(2)
        self.post("/v1/engagements", {"events": [{"user": user, "target": target}]})

    @task(1)
    def interests(self) -> None:
        self.client.get(f"/v1/users/{self.users(1)[0]}/interests", name="/v1/users/{id}/interests")


@events.quitting.add_listener
def judge(environment, **_) -> None:  # type: ignore[no-untyped-def]
    """Exit 1 above the thresholds."""
    total = environment.stats.total
    slow = (total.get_response_time_percentile(0.99) or 0) > P99_MS
    environment.process_exit_code = 1 if slow or total.fail_ratio > FAIL_SHARE else 0

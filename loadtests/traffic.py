"""The requests a load test sends: Zipf-distributed users, the paths in the mixture that a ranking service causes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.http_load import request_bytes
from bundle.reader import open_bundle
from bundle.space import Space
from bundle.versions import current_path

ZIPF = 1.1
OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Shot:
    """One request: what it is counted as, its bytes, and the user it is for."""

    name: str
    request: bytes
    user: str


@dataclass(frozen=True, slots=True)
class Population:
    """The ids that requests are about: users of the published version, the popular ones asked for most."""

    users: list[str]
    user_type: str
    weights: "np.ndarray[tuple[int], np.dtype[np.float64]]"

    def some(self, rng: np.random.Generator, n: int) -> list[str]:
        """`n` users, with repetition."""
        return [self.users[position] for position in rng.choice(len(self.users), size=n, p=self.weights)]


def population(bundles: Path, n_users: int = 5000) -> Population:
    """A sample of the published version's users, with Zipf weights."""
    return population_of(open_bundle(current_path(bundles)).space(), n_users)


def population_of(space: Space, n_users: int) -> Population:
    """A sample of a space's users, with Zipf weights."""
    table = space.table(space.entry.default.user_type)
    rng = np.random.default_rng(1)
    rows = rng.permutation(len(table))[:n_users]
    weights = 1.0 / np.arange(1, len(rows) + 1) ** ZIPF
    return Population(table.ids.externals(rows), table.name, weights / weights.sum())


def mixed(people: Population, rng: np.random.Generator, k: int = 50) -> Iterator[Shot]:
    """Requests without end: mostly candidates, then features and embeddings, a few engagements."""
    while True:
        users = people.some(rng, 101)
        yield from (_recommend(user, k) for user in users[:12])
        yield _vectors("features", "/v1/features", people.user_type, users[1:101])
        yield _vectors("embeddings", "/v1/embeddings", people.user_type, users[1:101])
        yield _post("similar", "/v1/similar", users[0], {"type": people.user_type, "id": users[0], "k": k})
        yield _post("score", "/v1/score", users[0], {"pairs": [{"source": users[0], "target": u} for u in users[1:51]]})
        yield _post("engagements", "/v1/engagements", users[0], {"events": [{"user": users[0], "target": users[1]}]})
        yield Shot("interests", request_bytes("GET", f"/v1/users/{users[0]}/interests"), users[0])


def _recommend(user: str, k: int) -> Shot:
    return _post("recommend", "/recommend", user, {"user": user, "k": k})


def _post(name: str, path: str, user: str, body: dict[str, object]) -> Shot:
    return Shot(name, request_bytes("POST", path, json.dumps(body).encode()), user)


def _vectors(name: str, path: str, entity_type: str, ids: list[str]) -> Shot:
    body = json.dumps({"type": entity_type, "ids": ids}).encode()
    return Shot(name, request_bytes("POST", path, body, OCTETS), ids[0])

"""A running service as the evaluation asks it: rows in, rows out, over HTTP."""

import http.client
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
from jaxtyping import Int32, Int64

from bundle.csr import Csr
from bundle.errors import UsageError
from bundle.ids import IdTable
from bundle.manifest import Strategy
from bundle.prepared import PreparedGraph
from evaluation.follow import Offer, RelationOffer
from recommend.protocol import Lists, Users

Found = TypeVar("Found")
TIMEOUT_S = 30.0
# Engagements or followers in one request: the service's own limit.
MOST_NAMED = 1000


class HttpRecommender:
    """A `RowRecommender` that asks POST /recommend for one user after another, on one connection.

    `graph` translates between rows and the service's ids, so it must be the one that the version served was built
    from (see `offer`); a candidate that it does not know is an error.
    """

    def __init__(self, url: str, graph: PreparedGraph) -> None:
        """Raises UsageError for what is no http URL."""
        try:
            parts = urlsplit(url)
            if parts.scheme != "http" or parts.hostname is None:
                raise ValueError
            self._connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT_S)
        except (ValueError, http.client.InvalidURL) as error:
            raise UsageError(f"{url!a:.80} is no http URL, such as http://127.0.0.1:8000.") from error
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._where = f"{host}:{self._connection.port}"
        self._graph = graph

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def offer(self) -> Offer:
        """What the service offers in its version's first space. The next question connects anew."""
        offer = self._call("GET", "/v1/info", None, _offer_in)
        self.close()  # whoever finds another graph there asks nothing more
        return offer

    def for_users(self, users: Users, strategy: Strategy | str, k: int, *, relation: str) -> Lists:
        """See `RowRecommender`. Raises UsageError for a strategy that is given itself: a service knows names."""
        ids = self._graph.entity(self._graph.relation(relation).source).ids
        return [self._ask({"user": external}, strategy, k, relation) for external in ids.externals(users)]

    def for_newcomers(
        self, engagements: Csr, followers: Csr, strategy: Strategy | str, k: int, *, relation: str
    ) -> Lists:
        """See `RowRecommender`. The service is told nothing of them but their engagements and followers."""
        ids = self._candidates(relation)  # followers are of the same type as candidates, where there are any
        lists = []
        for i in range(len(engagements)):
            engaged = [{"target": target, "relation": relation} for target in _named(ids, engagements.row(i))]
            told = {"engagements": engaged, "followers": _named(ids, followers.row(i))}
            lists.append(self._ask(told, strategy, k, relation))
        return lists

    def _candidates(self, relation: str) -> IdTable:
        return self._graph.entity(self._graph.relation(relation).target).ids

    def _ask(
        self, whom: Mapping[str, object], strategy: Strategy | str, k: int, relation: str
    ) -> Int64[npt.NDArray[np.int64], " _"]:
        if isinstance(strategy, Strategy):
            raise UsageError("A service answers by the name of a strategy. Name one of its own.")
        # Of `auto` itself, whatever is being tried on users now.
        body = {**whom, "k": k, "strategy": strategy, "relation": relation, "experiments": False}
        rows = self._candidates(relation).rows(self._call("POST", "/recommend", body, _candidates_in))
        if (rows < 0).any():
            raise UsageError(
                "The service knows entities that the run does not: name the run its version was built from."
            )
        return rows

    def _call(self, method: str, path: str, body: object, read: Callable[[Any], Found]) -> Found:
        """What `read` finds in the answer. Raises UsageError where there is none, or one that is not twhin's."""
        text = None if body is None else json.dumps(body)
        try:
            try:
                status, content = self._exchange(method, path, text)
            except ConnectionError:  # between two strategies the service closes a connection that idles
                self.close()
                status, content = self._exchange(method, path, text)
        except http.client.HTTPException as error:
            raise UsageError(
                f"What answers {path} at {self._where} is no twhin, or broke off: {str(error):.80}. Correct --url, or "
                "look into the service's log."
            ) from error
        except (OSError, UnicodeError) as error:  # the latter of a name that no host can have
            raise UsageError(
                f"The service at {self._where} does not answer: {error}. Start it, or correct --url."
            ) from error
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"What answers {path} at {self._where} with {status} is no twhin: the answer is no JSON. Correct --url."
            ) from error
        if status != 200:
            detail = answer.get("detail") if isinstance(answer, dict) else None
            raise UsageError(f"The service refused {path} with {status}: {detail or 'it does not say why'}.")
        try:
            return read(answer)
        except (AttributeError, LookupError, StopIteration, TypeError) as error:
            raise UsageError(
                f"What answers {path} at {self._where} is no twhin of this release. Correct --url."
            ) from error

    def _exchange(self, method: str, path: str, text: str | None) -> tuple[int, bytes]:
        self._connection.request(method, path, text, {"content-type": "application/json"})
        response = self._connection.getresponse()
        return response.status, response.read()


def _offer_in(info: Any) -> Offer:
    space = next(iter(info["spaces"].values()))
    return Offer(
        version=str(info["version"]),
        graph_digest=str(info["lineage"]["graph_digest"]),
        relation=str(space["default"]["relation"]),
        relations={
            str(relation["name"]): RelationOffer(
                tuple(relation["strategies"]), str(relation["auto"]), relation["auto_newcomer"]
            )
            for relation in space["relations"]
        },
    )


def _candidates_in(answer: Any) -> list[str]:
    return [str(candidate["id"]) for candidate in answer["candidates"]]


def _named(ids: IdTable, rows: Int32[npt.NDArray[np.int32], " n"]) -> list[str]:
    """The ids of as many rows as one request may name."""
    return ids.externals(rows[:MOST_NAMED].astype(np.int64))

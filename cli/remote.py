"""A running service as the evaluation asks it: rows in, rows out, over HTTP."""

import http.client
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from bundle.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from bundle.csr import Csr
    from bundle.ids import IdTable

TIMEOUT_S = 30.0
MOST_NAMED = 1000  # engagements or followers in one request: the service's own limit


class RecommendOverHttp:
    """Asks POST /recommend for one user after another, on one connection.

    `users` and `candidates` translate between the rows of the run and the service's ids, so the run and the
    version served must come from the same graph; a candidate the run does not know is an error.
    """

    def __init__(self, url: str, relation: str, users: "IdTable", candidates: "IdTable") -> None:
        """Raises UsageError for what is no http URL."""
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise UsageError(f"{url!a:.80} is no http URL, such as http://127.0.0.1:8000.")
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT_S)
        self._relation = relation
        self._users = users
        self._candidates = candidates

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def strategies(self) -> tuple[list[str], str]:
        """The names of the strategies that the service offers, and which one is its default."""
        spaces: Any = self._call("GET", "/v1/info", None)["spaces"]
        space = next(iter(spaces.values()))
        return list(space["strategies"]), str(space["auto"])

    def graph_digest(self) -> str:
        """The digest of the graph that the served version was built from. The next question connects anew."""
        lineage: Any = self._call("GET", "/v1/info", None)["lineage"]
        self.close()  # whoever finds another graph there asks nothing more
        return str(lineage["graph_digest"])

    def __call__(self, users: "npt.NDArray[np.int64]", strategy: str, k: int) -> "list[npt.NDArray[np.int64]]":
        return [self._ask({"user": external}, strategy, k) for external in self._users.externals(users)]

    def newcomers(self, engagements: "Csr", followers: "Csr", strategy: str, k: int) -> "list[npt.NDArray[np.int64]]":
        """Candidates for people whom the service is told nothing of but their engagements and followers."""
        everybody = zip(_rows(engagements), _rows(followers), strict=True)
        return [self._ask(self._newcomer(*one), strategy, k) for one in everybody]

    def _newcomer(self, engaged: "npt.NDArray[np.int32]", followers: "npt.NDArray[np.int32]") -> dict[str, object]:
        targets = [{"target": target, "relation": self._relation} for target in self._ids(engaged)]
        return {"engagements": targets, "followers": self._ids(followers)}

    def _ids(self, rows: "npt.NDArray[np.int32]") -> list[str]:
        """Their ids; only the candidate type is ever asked for: followers are of the same."""
        return self._candidates.externals(rows[:MOST_NAMED].astype(np.int64))

    def _ask(self, whom: Mapping[str, object], strategy: str, k: int) -> "npt.NDArray[np.int64]":
        answer = self._call("POST", "/recommend", {**whom, "k": k, "strategy": strategy, "relation": self._relation})
        candidates = answer["candidates"]
        if not isinstance(candidates, list):
            raise UsageError("The service's answer has no list of candidates. Is it another release?")
        rows = self._candidates.rows([candidate["id"] for candidate in candidates])
        if (rows < 0).any():
            raise UsageError(
                "The service knows entities that the run does not: name the run its version was built from."
            )
        return rows

    def _call(self, method: str, path: str, body: object) -> dict[str, object]:
        text = None if body is None else json.dumps(body)
        try:
            try:
                status, answer = self._exchange(method, path, text)
            except ConnectionError:  # between two strategies the service closes a connection that idles
                self.close()
                status, answer = self._exchange(method, path, text)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UsageError(f"The service at {self._connection.host} does not answer: {error}.") from error
        if status != 200:
            raise UsageError(f"The service refused {path} with {status}: {answer.get('detail')}.")
        return answer

    def _exchange(self, method: str, path: str, text: str | None) -> tuple[int, dict[str, object]]:
        self._connection.request(method, path, text, {"content-type": "application/json"})
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())


def _rows(csr: "Csr") -> "list[npt.NDArray[np.int32]]":
    return [csr.row(i) for i in range(len(csr))]

"""Recall measured under load: the service's candidates against an exact search of the same version."""

import json
from pathlib import Path

from bundle.reader import open_bundle
from index.search.open import exact_searchers
from loadtests.traffic import Shot
from recommend.recommender import Recommender
from recommend.types import RecommendRequest


class RecallJudge:
    """Keeps a sample of the answers to /recommend while the load runs, and judges it afterwards."""

    def __init__(self, every: int = 10, most: int = 300) -> None:
        self._every = every
        self._most = most
        self._number = 0
        self._sample: list[tuple[str, dict[str, object]]] = []
        self._engaged: set[str] = set()

    def seen(self, shot: Shot, body: bytes) -> None:
        """Look at one answer."""
        if shot.name == "engagements":
            self._engaged.add(shot.user)
        if shot.name == "recommend":
            self._number += 1
            if self._number % self._every == 0 and len(self._sample) < self._most:
                self._sample.append((shot.user, json.loads(body)))

    def recall(self, bundles: Path) -> float:
        """The mean share of the exact answer that the service gave. Users with live engagements are passed over."""
        shares = []
        exact: dict[str, Recommender] = {}
        for user, answer in self._sample:
            if user in self._engaged:
                continue
            version = str(answer["version"])
            if version not in exact:
                exact[version] = _exact(bundles / version)
            ids = [candidate["id"] for candidate in answer["candidates"]]  # type: ignore[attr-defined]
            best = exact[version].recommend(RecommendRequest(user=user, k=len(ids))).ids()
            shares.append(len(set(ids) & set(best)) / len(best))
        return sum(shares) / max(1, len(shares))


def _exact(path: Path) -> Recommender:
    bundle = open_bundle(path)
    return Recommender(bundle, exact_searchers(bundle))

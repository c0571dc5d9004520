"""One version, ready to serve: opened, verified, warmed with real queries, compared with exact search."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import engine
from bundle.errors import BundleInvalid, RecallTooLow
from bundle.manifest import Manifest
from bundle.space import Bundle, Space
from bundle.verify import refusing, verify_bundle
from bundle.versions import open_version
from index.search.among import among
from index.search.exact import ExactSearcher
from index.search.open import open_searchers
from index.search.probe import probe_bundle
from index.search.protocol import Searcher
from recommend.compiled import Question
from recommend.plan import Plan
from recommend.recommender import Recommender
from recommend.types import AUTO, RecommendRequest, Slate
from service.encoded_lists import encode_candidate, pieces_of_candidate
from service.settings import Settings

SELF_TEST_K = 20
QUERIES_BY_STRATEGY = 4
SELF_TEST_SEED = 1


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version that may serve. Requests hold one from start to end; it goes with the last of them."""

    bundle: Bundle
    recommender: Recommender
    recall: float
    seconds: float

    @property
    def version(self) -> str:
        return self.bundle.version

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest


def load(
    bundles: Path, version: str, settings: Settings, *, thorough: bool, advance: Callable[[int], None] = lambda _: None
) -> Loaded:
    """Open `version` and see that it answers.

    `thorough` reads every byte, compares digests, looks for numbers that do not agree, and lets a child process open
    the index files first. Takes seconds for a large version: call it outside the event loop. `advance` gets the bytes
    that were compared, and may raise to end it. Raises BundleError with the reason, whatever it is.
    """
    started = time.perf_counter()
    with refusing(bundles / version):
        bundle = open_version(bundles, version)
        engine.available()  # where it has to be compiled, that is not within the time that the probe's child has
        if thorough:
            verify_bundle(bundle, advance)
            probe_bundle(bundle)
        searchers = open_searchers(bundle)
        recommender = Recommender(bundle, searchers, encode_candidate, pieces_of_candidate())
        recall = _self_test(bundle, searchers, settings)
        _warm_up(recommender, settings.warm_up_queries)
    return Loaded(bundle, recommender, recall, time.perf_counter() - started)


def _self_test(bundle: Bundle, searchers: Mapping[tuple[str, str], Searcher], settings: Settings) -> float:
    """The lowest recall of any searcher on a sample of its own vectors. Raises RecallTooLow."""
    if not settings.self_test_queries:
        return 1.0
    lowest = 1.0
    for (space, entity_type), searcher in searchers.items():
        recall = _recall(bundle.spaces[space], entity_type, searcher, settings.self_test_queries)
        if recall < settings.self_test_recall:
            raise RecallTooLow(
                f"{bundle.path}: the index of {entity_type} finds {recall:.3f} of the true neighbours; the floor is "
                f"{settings.self_test_recall:.3f}. Build the version again."
            )
        lowest = min(lowest, recall)
    return lowest


def _recall(space: Space, entity_type: str, searcher: Searcher, n_queries: int) -> float:
    table = space.entities[entity_type]
    vectors = table.scored
    if not len(vectors):
        return 1.0
    rng = np.random.default_rng(SELF_TEST_SEED)
    queries = vectors[rng.integers(0, len(vectors), n_queries)].copy()
    # The popularity column meets a weight in a query, not another popularity.
    queries[:, space.entry.dim :] = 0.0
    found = searcher.search(queries, SELF_TEST_K)
    truth = among(ExactSearcher(vectors), table.candidates).search(queries, SELF_TEST_K)
    shared = [
        len(np.intersect1d(hits.rows, best.rows)) / max(1, len(best.rows))
        for hits, best in zip(found, truth, strict=True)
    ]
    return float(np.mean(shared))


def _warm_up(recommender: Recommender, n_queries: int) -> None:
    """Answer real users of every space, `n_queries` by `auto` and some by each strategy, so that the first client finds
    pages and caches warm, and a version whose files are whole but whose answers are not is refused. Raises BundleError.
    """
    rng = np.random.default_rng(SELF_TEST_SEED)
    for space in recommender.bundle.spaces.values():
        users = space.table(space.entry.default.user_type)
        if not len(users) or space.entry.default.candidate_type not in space.entry.indexes:
            continue
        each = min(n_queries, QUERIES_BY_STRATEGY)
        wanted = {AUTO: n_queries} | dict.fromkeys(space.entry.strategies, each)
        for strategy, count in wanted.items():
            for row in rng.integers(0, len(users), count).tolist():
                user = users.ids.external(row)
                request = RecommendRequest(user=user, k=SELF_TEST_K, space=space.name, strategy=strategy)
                _require_sound(recommender.bundle, recommender.recommend(request))
                for share in (None, 1.0):  # what clients will get, where the engine answers: in two calls, and in one
                    asked = recommender.ask(request, share=share)
                    if isinstance(asked, Plan | Question):
                        recommender.answers([asked])


def _require_sound(bundle: Bundle, slate: Slate) -> None:
    """Raise BundleInvalid when an answer lacks candidates although there are some, or has an impossible one."""
    candidates = slate.space.table(slate.candidate_type)
    scores = np.array(slate.picks.scores)
    if not len(slate.picks) and len(candidates) > 1:
        fault = "a known user has no candidates"
    elif not np.isfinite(scores).all():
        fault = "a candidate's score is no number"
    elif any(not 0 <= row < len(candidates) for row in slate.picks.rows):
        fault = "a candidate does not exist"
    else:
        slate.ids()
        return
    raise BundleInvalid(f"{bundle.path}: {fault} by strategy {slate.strategy!r}. Build the version again.")

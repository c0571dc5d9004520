"""A version that does not serve, opened to be asked beside the one that does: one question after the other, on a thread
of its own, away from the requests' path."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bundle.space import Bundle
from index.search.open import open_searchers
from index.search.probe import probe_bundle
from recommend.recommender import Recommender

Result = TypeVar("Result")


class Aside:
    """Keeps the recommender of the version that was asked last. Not used, it costs nothing, not even its thread."""

    def __init__(self, *, verify: bool) -> None:
        """With `verify` a child process opens a version's indexes first, as before a swap."""
        self._verify = verify
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="twhin-aside")
        self._kept: Recommender | None = None

    async def run(self, bundle: Bundle, work: Callable[[Recommender], Result]) -> Result:
        """What `work` makes of the recommender of `bundle`. Raises BundleError for an index that cannot be opened."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: work(self._recommender_of(bundle))
        )

    def _recommender_of(self, bundle: Bundle) -> Recommender:
        kept = self._kept
        if kept is None or kept.bundle is not bundle:
            if self._verify:
                probe_bundle(bundle)
            kept = self._kept = Recommender(bundle, open_searchers(bundle))
        return kept

    def close(self) -> None:
        """Let go of the thread, when it has finished what it does."""
        self._thread.shutdown(wait=True, cancel_futures=True)

"""The version that serves, the ones kept beside it for look-ups, and why a newer one was refused."""

import asyncio
import contextlib
import errno
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bundle.errors import BundleError, BundleNotFound, BundlesBusy, BundlesReadOnly, TwhinError
from bundle.layout import MANIFEST
from bundle.space import Bundle
from bundle.successor import compare
from bundle.verify import verify_bundle
from bundle.versions import (
    earlier_versions,
    list_versions,
    open_version,
    publish,
    published,
    rollback,
    version_before_current,
    version_path,
    was_published,
)
from index.search.probe import probe_bundle
from service.metrics import VersionMetrics
from service.problems import Problem, not_ready, problem_of
from service.settings import Settings
from service.versions.loaded import Loaded, load
from service.versions.tries import Tries, passes

Result = TypeVar("Result")
log = logging.getLogger("twhin.versions")
# What the system says of what may be read, and not written, a directory in the place of a file included.
READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EISDIR}


@dataclass(frozen=True, slots=True)
class Change:
    """A change of version that somebody asked for; it goes on to its end whoever waits for it. `since` is in seconds
    since 1970.
    """

    action: str
    task: asyncio.Task[str]
    since: float

    def describe(self) -> dict[str, object] | None:
        """What an answer says of it: that it is under way, or why it failed; nothing once it is done."""
        about: dict[str, object] = {"action": self.action, "since": round(self.since, 3)}
        if not self.task.done():
            return about | {"state": "working"}
        error = self.task.exception()
        if error is None:
            return None
        code = error.code if isinstance(error, TwhinError) else problem_of(error).code
        return about | {"state": "failed", "code": code, "reason": str(error)}


def _log_end(task: asyncio.Task[str]) -> None:
    """Say how a change ended, as perhaps nobody waits for it any more."""
    if task.cancelled():
        return
    error = task.exception()
    if error is None:
        log.info("version changed", extra={"version": task.result()})
    else:
        log.error("change of version failed", extra={"reason": str(error)})


class Versions:
    """Holds one reference to the serving version; swapping is replacing it. Loading happens on its own thread."""

    def __init__(
        self,
        settings: Settings,
        metrics: VersionMetrics,
        turn: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """Loading happens inside `turn()`, which lets one worker do so at a time."""
        self._settings = settings
        self._metrics = metrics
        self._turn = turn
        self._active: Loaded | None = None
        self._kept: OrderedDict[str, Bundle] = OrderedDict()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="twhin-load")
        self._changing = asyncio.Lock()
        self._closing = threading.Event()
        self._opening: dict[str, asyncio.Task[Bundle]] = {}
        self._once_published: set[str] = set()
        self._seen: tuple[str, int] | None = None
        # What arms of experiments name, and of it what is open beside the serving version: replaced, never changed.
        self._wanted: frozenset[str] = frozenset()
        self.pinned: Mapping[str, Loaded] = {}
        self._pinning = asyncio.Lock()
        self._missing: frozenset[str] = frozenset()
        self._unfit: dict[str, str] = {}
        self._tries = Tries(settings.bundles)
        self.change: Change | None = None
        self.refused: dict[str, str] = {}

    @property
    def active(self) -> Loaded | None:
        """The serving version, None before the first one is loaded."""
        return self._active

    @property
    def published(self) -> str | None:
        """What CURRENT named when it was last looked at."""
        return None if self._seen is None else self._seen[0]

    @property
    def behind(self) -> bool:
        """Whether another version serves than the published one, which was refused or of which every trace is lost."""
        return self.published in self.refused or (self.published is None and self._active is not None)

    def serving(self) -> Loaded:
        """The serving version. Raises Problem 503 while there is none."""
        if self._active is None:
            raise not_ready("no version is loaded yet")
        return self._active

    async def named(self, version: str | None, unpublished: Callable[[], bool]) -> Bundle:
        """The bundle of `version`, the serving one by default. Raises BundleNotFound when it is no longer kept, Problem
        403 when it was never published, unless the asker may have it `unpublished`.
        """
        serving = self.serving()
        if version is None or version == serving.version:
            return serving.bundle
        if version in self.pinned:  # it serves some: whoever is answered from it may look up its vectors
            return self.pinned[version].bundle
        if version not in self._once_published and not unpublished():
            await asyncio.to_thread(self._check_published, version)
        kept = self._kept.get(version)
        if kept is None or not (kept.path / MANIFEST).exists():
            return await self._opened(version)
        self._kept.move_to_end(version)
        return kept

    def _check_published(self, version: str) -> None:
        """What nobody has published has passed no gate, and may hold what is not to be seen yet."""
        if was_published(self._bundles, version):
            self._once_published.add(version)  # for good: whatever changes, it has been
        elif version in self.names():
            raise Problem("forbidden", "a version that was never published needs a key with the admin scope")

    async def _opened(self, version: str) -> Bundle:
        """Open `version` for look-ups, once for all who ask meanwhile and later, though these give up waiting: it may
        take longer than any request.
        """
        task = self._opening.get(version)
        if task is None:
            # Not on the loader's thread, which may be busy with the next version for a while.
            task = self._opening[version] = asyncio.create_task(asyncio.to_thread(self._open_kept, version))
            task.add_done_callback(partial(self._keep, version))
        return await asyncio.shield(task)

    def _keep(self, version: str, opened: asyncio.Task[Bundle]) -> None:
        self._opening.pop(version, None)
        if opened.cancelled() or opened.exception() is not None:
            return
        self._kept[version] = opened.result()
        self._kept.move_to_end(version)
        while len(self._kept) > self._settings.versions_kept:
            self._kept.popitem(last=False)

    def _open_kept(self, version: str) -> Bundle:
        try:
            bundle = open_version(self._bundles, version)
        except BundleNotFound:
            raise BundleNotFound("that version is not kept here; /v1/info lists the ones that are") from None
        if self._settings.verify:
            verify_bundle(bundle)
        return bundle

    @property
    def _bundles(self) -> Path:
        return self._settings.bundles

    async def follow(self, again: bool = False) -> None:
        """Serve what CURRENT names, unless it serves already or was refused; with `again` also what was refused.

        Raises BundleError when it is unfit: the old version serves on, at start the latest earlier one that is fit.
        Where its files change, or the machine had no more to give, it is tried again; the same end is not raised again.
        """
        async with self._changing:
            before = self._seen
            await self._look()
            version, known = self.published, None
            if version is not None and self._active is not None and version == self._active.version:
                return
            if version in self.refused and before == self._seen and not again:
                known = self.refused[version]  # to be tried again where it may end otherwise
            if self._active is not None and (version is None or (known and not await self._worth_another(version))):
                return
            try:
                if version is not None:
                    self._swap(await self._load(version, known))
            except BundleError as error:
                if str(error) != known:
                    raise
            finally:
                if self._active is None:
                    await self._fall_back()

    async def _worth_another(self, version: str) -> bool:
        return await self._in_thread(partial(self._tries.worth_another, version))

    async def _look(self) -> None:
        self._seen = await self._in_thread(partial(published, self._bundles))
        self._metrics.behind(self.behind)

    async def _fall_back(self) -> None:
        for version in await self._in_thread(partial(earlier_versions, self._bundles)):
            with contextlib.suppress(BundleError, OSError):
                self._swap(await self._load(version))
                return

    def beside(self, version: str | None, serving: Loaded) -> Loaded | None:
        """What answers where an arm names `version`: the one of that name, if it is open, else `serving`."""
        return serving if version is None or version == serving.version else self.pinned.get(version)

    def why(self, version: str | None) -> str:
        """Why a version that arms name is not open."""
        if version in self._missing:
            return "is not among the versions on disk"
        return "cannot be opened: the log says why" if version in self._unfit else "is being opened"

    async def pin(self, wanted: frozenset[str], again: bool = False) -> None:
        """Have the versions open that arms name, checked as before a swap, and no others beside the serving one.

        One that is not on disk is looked for at every call; one that could not be opened is tried again when that may
        end otherwise, or is asked for `again`. One that was removed from the disk is let go of. Whoever asks last
        counts, for those who wait too.
        """
        if not wanted and not self._wanted:
            return
        self._wanted = wanted
        async with self._pinning:
            wanted = self._wanted
            try:
                kept = frozenset(await asyncio.to_thread(lambda: list(filter(self._is_here, wanted))))
                self._missing = wanted - kept
                self._unfit = {name: why for name, why in self._unfit.items() if name in kept and not again}
                if not kept >= self.pinned.keys():
                    self.pinned = {name: loaded for name, loaded in self.pinned.items() if name in kept}
                for version in sorted(kept):
                    if version not in self._unfit or await self._worth_another(version):
                        await self._open_pinned(version)
            except Exception:  # a fault of ours: the next look may go well
                log.exception("the versions of the experiments could not be looked at")

    def _is_here(self, version: str) -> bool:
        with contextlib.suppress(BundleNotFound):
            return version_path(self._bundles, version).is_dir()
        return False

    async def _open_pinned(self, version: str) -> None:
        if version not in self._wanted or version in self.pinned:
            return
        if self._active is not None and version == self._active.version:
            return
        try:
            loaded = await self._in_thread(partial(self._load_in_turn, version, thorough=True))
        except (BundleError, OSError) as error:
            reason = str(error)
            if self._unfit.get(version) != reason:  # told once
                again = "it is tried again" if passes(error) else "it is tried again when its files change"
                told = {"version": version, "reason": reason, "then": again}
                log.error("version of an experiment refused", extra=told)
            self._unfit[version] = reason
            return
        self._unfit.pop(version, None)
        if version in self._wanted and (self._active is None or version != self._active.version):
            self.pinned = {**self.pinned, version: loaded}
            log.info("version opened for an experiment", extra={"version": version})

    def publish(self, version: str) -> Change:
        """Begin to check and publish `version`, which is served from the next look at CURRENT on; as `activate`.

        Nothing is loaded meanwhile: of several services none is ahead of the others. The gates are those of `twhin
        publish`, the comparison with the active version among them: who activates has said which one they want.
        """
        return self._begin("publish", self._publish(version))

    def activate(self, version: str) -> Change:
        """Begin to load, check and publish `version`, then to serve it. Raises BundlesBusy when a change is under way.

        The change ends with BundleError when it is unfit: nothing is published, and the old version serves on.
        """
        return self._begin("activate", self._activate(version))

    def roll_back(self) -> Change:
        """Begin to publish the version before this one and to serve it; as `activate`."""
        return self._begin("rollback", self._roll_back())

    def _begin(self, action: str, work: Coroutine[Any, Any, str]) -> Change:
        if self.change is not None and not self.change.task.done():
            work.close()
            raise BundlesBusy("Another change of version is under way.")
        self.change = Change(action, asyncio.create_task(work), time.time())
        self.change.task.add_done_callback(_log_end)
        return self.change

    async def _publish(self, version: str) -> str:
        async with self._changing:
            await self._in_thread(lambda: probe_bundle(open_version(self._bundles, version)))
            await self._publishing(partial(publish, self._bundles, version, judge=compare))
            self.refused.pop(version, None)  # to be tried again: the look below hides that CURRENT is new
            await self._look()
            return version

    async def _activate(self, version: str) -> str:
        async with self._changing:
            await self._look()
            if self._active is None or not (self._active.version == version == self.published):
                await self._in_thread(partial(version_path, self._bundles, version))  # no version: nothing was refused
                loaded = await self._load(version)
                await self._publishing(partial(publish, self._bundles, version))
                await self._look()
                self._swap(loaded)
            return version

    async def _roll_back(self) -> str:
        """Loads before it publishes, so that a version that cannot be served does not become the current one."""
        async with self._changing:
            version = await self._in_thread(partial(version_before_current, self._bundles))
            loaded = self._active
            if loaded is None or loaded.version != version:
                loaded = await self._load(version)
            await self._publishing(partial(rollback, self._bundles, version))
            await self._look()
            self._swap(loaded)
            return version

    async def _load(self, version: str, known: str | None = None) -> Loaded:
        """Raises BundleError or OSError. That it was refused for the `known` reason has been counted."""
        thorough = self._active is not None or self._settings.verify
        try:
            await self._in_thread(partial(version_path, self._bundles, version))
            loaded = await self._in_thread(partial(self._load_in_turn, version, thorough=thorough))
        except (BundleError, OSError) as error:
            self.refused[version] = str(error)
            if str(error) != known:
                self._metrics.refused()
            self._metrics.behind(self.behind)
            raise
        self.refused.pop(version, None)
        return loaded

    def _load_in_turn(self, version: str, *, thorough: bool) -> Loaded:
        # In turn: a swap does not double the memory of all workers at once.
        with self._turn(), self._tries.of(version):
            return load(self._bundles, version, self._settings, thorough=thorough, advance=self._advance)

    def _swap(self, loaded: Loaded) -> None:
        before = self._active
        # One assignment: a request that holds the old version keeps it, the next one gets the new.
        self._active = loaded
        # An arm may name the version that served till now, or the one that does now.
        if before is not None and before.version in self._wanted:
            self.pinned = {**self.pinned, before.version: before}
        if loaded.version in self.pinned:
            self.pinned = {name: one for name, one in self.pinned.items() if name != loaded.version}
        self._metrics.serving(
            loaded.version,
            loaded.manifest.metric,
            created=loaded.manifest.created.timestamp(),
            now=time.time(),
            recall=loaded.recall,
            load_seconds=loaded.seconds,
            entities={
                (space.name, entity_type): len(table)
                for space in loaded.bundle.spaces.values()
                for entity_type, table in space.entities.items()
            },
        )
        self._metrics.behind(self.behind)

    async def _publishing(self, work: Callable[[], Result]) -> Result:
        try:
            return await self._in_thread(work)
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise
            raise BundlesReadOnly(
                f"{self._bundles} cannot be written to: publish where the versions are built."
            ) from error

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._loader, work)

    def _advance(self, n_bytes: int) -> None:
        """Ends a loading that would hold up the end of the service: it reads every byte of a version."""
        if self._closing.is_set():
            raise BundleError("The service is ending.")

    def names(self) -> list[str]:
        """The versions on disk, oldest first."""
        return list_versions(self._bundles)

    def close(self) -> None:
        """Let go of the loader thread, when it has read a few more megabytes at most."""
        self._closing.set()
        self._loader.shutdown(wait=True, cancel_futures=True)

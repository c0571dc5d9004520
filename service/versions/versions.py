"""The version that serves, the ones kept beside it for look-ups, and why a newer one was refused."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TypeVar

from bundle.errors import BundleError, BundleNotFound, BundlesReadOnly
from bundle.reader import open_bundle
from bundle.space import Bundle
from bundle.versions import current_version, earlier_versions, list_versions, publish, rollback, version_path
from service.metrics import VersionMetrics
from service.problems import not_ready
from service.settings import Settings
from service.versions.loaded import Loaded, load

Result = TypeVar("Result")


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
        self._followed: str | None = None
        self.refused: dict[str, str] = {}

    @property
    def active(self) -> Loaded | None:
        """The serving version, None before the first one is loaded."""
        return self._active

    @property
    def published(self) -> str | None:
        """What CURRENT named when it was last looked at."""
        return self._followed

    @property
    def behind(self) -> bool:
        """Whether the published version was refused, so that another one serves."""
        return self._followed in self.refused

    def serving(self) -> Loaded:
        """The serving version. Raises Problem 503 while there is none."""
        if self._active is None:
            raise not_ready("no version is loaded yet")
        return self._active

    async def named(self, version: str | None) -> Bundle:
        """The bundle of `version`, the serving one by default. Raises BundleNotFound when it is no longer kept."""
        serving = self.serving()
        if version is None or version == serving.version:
            return serving.bundle
        kept = self._kept.get(version)
        if kept is None or not (kept.path / "manifest.json").exists():
            # Not on the loader's thread, which may be busy with the next version for a while.
            kept = await asyncio.to_thread(self._open_kept, version)
            self._kept[version] = kept
        self._kept.move_to_end(version)
        while len(self._kept) > self._settings.versions_kept:
            self._kept.popitem(last=False)
        return kept

    def _open_kept(self, version: str) -> Bundle:
        try:
            return open_bundle(version_path(self._bundles, version))
        except BundleNotFound:
            raise BundleNotFound("that version is not kept here; /v1/info lists the ones that are") from None

    @property
    def _bundles(self) -> Path:
        return self._settings.bundles

    async def follow(self, again: bool = False) -> None:
        """Serve what CURRENT names, unless it serves already or was refused; with `again` also what was refused.

        Raises BundleError when it is unfit: the old version serves on, at start the latest earlier one that is fit.
        """
        async with self._changing:
            version = await self._in_thread(partial(current_version, self._bundles))
            unchanged, self._followed = version == self._followed, version
            self._metrics.behind(self.behind)
            if version is None or (self._active is not None and version == self._active.version):
                return
            # A version that was refused is tried again only when CURRENT has changed, or when nothing serves.
            if again or not (unchanged and version in self.refused) or self._active is None:
                try:
                    self._swap(await self._load(version))
                except (BundleError, OSError):
                    if self._active is None:
                        await self._fall_back()
                    raise

    async def _fall_back(self) -> None:
        for version in await self._in_thread(partial(earlier_versions, self._bundles)):
            with contextlib.suppress(BundleError, OSError):
                self._swap(await self._load(version))
                return

    async def activate(self, version: str) -> Loaded:
        """Load, check and publish `version`, then serve it. Raises BundleError; the old version serves on."""
        async with self._changing:
            self.refused.pop(version, None)
            if self._active is not None and self._active.version == version == current_version(self._bundles):
                return self._active
            await self._in_thread(partial(version_path, self._bundles, version))  # no version, nothing that was refused
            loaded = await self._load(version)
            await self._publishing(partial(publish, self._bundles, version))
            self._followed = version
            self._swap(loaded)
            return loaded

    async def roll_back(self) -> Loaded:
        """Publish the version before this one and serve it. Raises BundleError."""
        async with self._changing:
            version = self._followed = await self._publishing(partial(rollback, self._bundles))
            self.refused.pop(version, None)
            if self._active is None or self._active.version != version:
                self._swap(await self._load(version))
            return self.serving()

    async def _load(self, version: str) -> Loaded:
        try:
            path = await self._in_thread(partial(version_path, self._bundles, version))
            loaded = await self._in_thread(partial(self._load_in_turn, path, thorough=self._active is not None))
        except (BundleError, OSError) as error:
            self.refused[version] = str(error)
            self._metrics.refused()
            self._metrics.behind(self.behind)
            raise
        self.refused.pop(version, None)
        return loaded

    def _load_in_turn(self, path: Path, *, thorough: bool) -> Loaded:
        with self._turn():  # a swap does not double the memory of all workers at once
            return load(path, self._settings, thorough=thorough)

    def _swap(self, loaded: Loaded) -> None:
        # One assignment: a request that holds the old version keeps it, the next one gets the new.
        self._active = loaded
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
            raise BundlesReadOnly(
                f"{self._bundles} cannot be written to: publish where the versions are built."
            ) from error

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._loader, work)

    def names(self) -> list[str]:
        """The versions on disk, oldest first."""
        return list_versions(self._bundles)

    def close(self) -> None:
        """Let go of the loader thread."""
        self._loader.shutdown(wait=True, cancel_futures=True)

"""Looking at CURRENT now and then, with jitter, and serving what it names."""

import asyncio
import logging
import random

from bundle.errors import BundleError
from service.versions.versions import Versions

log = logging.getLogger("twhin.versions")
# Of its own: whoever else has seeded or watches the common one is not disturbed.
_random = random.Random()


def about(seconds: float) -> float:
    """That long, half of it more or less: so that many who wait do not do so in step."""
    return seconds * _random.uniform(0.5, 1.5)


async def watch(versions: Versions, seconds: float) -> None:
    """Follow CURRENT for ever. A version that is unfit is logged once and the old one serves on."""
    while True:
        await asyncio.sleep(about(seconds))
        await follow_once(versions)


async def follow_once(versions: Versions, again: bool = False) -> None:
    """One look at CURRENT; whatever is wrong with it is logged and does not stop the watch."""
    before = versions.active.version if versions.active else None
    try:
        await versions.follow(again)
    except (BundleError, OSError) as error:
        if versions.active is not None:  # otherwise the service does not start, and says so itself
            log.error("version refused", extra={"reason": str(error)})
    except Exception:  # a fault of ours: the next look may go well, and without any no version would come any more
        log.exception("the look at CURRENT failed")
    after = versions.active.version if versions.active else None
    if after != before:
        log.info("version swapped", extra={"before": before, "after": after})
    if after != before and versions.behind:
        log.error("serving an earlier version", extra={"serving": after, "published": versions.published})

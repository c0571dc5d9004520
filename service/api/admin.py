"""/admin/v1: which versions there are, publishing or activating one, rolling back. Off unless an admin key is set."""

import asyncio

import orjson

from bundle.errors import BundleNotFound
from bundle.manifest import VERSION_NAME
from service.call import Call, Reply
from service.versions.versions import Change


async def versions(call: Call) -> Reply:
    """The versions on disk, the one that serves, those that were refused, with the reason; the change under way, or the
    last one if it failed."""
    return _reply(call)


async def publish(call: Call) -> Reply:
    """Check and publish a version; every service over the directory, this one too, takes it at its next look."""
    return await _when_changed(call, call.runtime.versions.publish(_named(call)))


async def activate(call: Call) -> Reply:
    """Load, check and publish a version, then serve it; on any fault the old one serves on."""
    return await _when_changed(call, call.runtime.versions.activate(_named(call)))


async def roll_back(call: Call) -> Reply:
    """Publish and serve the version that was published before this one."""
    return await _when_changed(call, call.runtime.versions.roll_back())


def _named(call: Call) -> str:
    version = call.ids["version"]
    if not VERSION_NAME.match(version):
        raise BundleNotFound("there is no version of that name")
    return version


async def _when_changed(call: Call, change: Change) -> Reply:
    """The outcome, or 202 when the request's time is over before: a change that has begun goes on to its end."""
    seconds = call.deadline - asyncio.get_running_loop().time()
    await asyncio.wait({change.task}, timeout=max(0.0, seconds))
    if not change.task.done():
        return _reply(call, 202, {"location": "/admin/v1/versions", "retry-after": "1"})
    change.task.result()
    return _reply(call)


def _reply(call: Call, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    held = call.runtime.versions
    change = None if held.change is None else held.change.describe()
    document: dict[str, object] = {
        "version": None if held.active is None else held.active.version,
        "request_id": call.request_id,
        "published": held.published,
        "versions": held.names(),
        "refused": held.refused,
    }
    if change is not None:
        document["change"] = change
    return Reply(orjson.dumps(document), status=status, headers=headers or {})

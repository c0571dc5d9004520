"""/admin/v1: which versions there are, activating one, rolling back. Off unless an admin key is configured."""

import orjson

from bundle.errors import BundleNotFound
from bundle.manifest import VERSION_NAME
from service.call import Call, Reply


async def versions(call: Call) -> Reply:
    """The versions on disk, the one that serves, and those that were refused, with the reason."""
    return _reply(call)


async def activate(call: Call) -> Reply:
    """Load, check and publish a version, then serve it; on any fault the old one serves on."""
    version = call.ids["version"]
    if not VERSION_NAME.match(version):
        raise BundleNotFound("there is no version of that name")
    await call.runtime.versions.activate(version)
    return _reply(call)


async def roll_back(call: Call) -> Reply:
    """Publish and serve the version that was published before this one."""
    await call.runtime.versions.roll_back()
    return _reply(call)


def _reply(call: Call) -> Reply:
    held = call.runtime.versions
    document = {
        "version": None if held.active is None else held.active.version,
        "request_id": call.request_id,
        "versions": held.names(),
        "refused": held.refused,
    }
    return Reply(orjson.dumps(document))

"""GET /v1/entities/{type}: the ids of a type, page by page; GET /v1/versions: which version was published when."""

import asyncio
import re

import msgspec
import numpy as np

from bundle.manifest import VERSION_NAME
from bundle.versions import list_versions, timeline
from service.call import Call, Reply
from service.problems import invalid
from service.wire.lookups import EntitiesAnswer
from service.wire.versions import PublishedVersion, VersionsAnswer

_encode = msgspec.json.Encoder().encode
_CURSOR = re.compile(r"([0-9]{1,15})\.(.*)", re.ASCII)


async def entities(call: Call) -> Reply:
    """A page of ids in their order. The cursor keeps to the version that the first page is from."""
    query = call.query()
    limit = _limit(query, call.runtime.settings.limits.lookup_max)
    row, version = _place(query)
    bundle = await call.bundle(version)
    space = bundle.space(query.get("space"))
    table = space.table(call.ids["type"])
    end = min(row + limit, len(table))
    answer = EntitiesAnswer(
        version=bundle.version,
        request_id=call.request_id,
        type=table.name,
        space=space.name,
        count=len(table),
        ids=table.ids.externals(np.arange(row, end)),
        next=f"{end}.{bundle.version}" if end < len(table) else None,
    )
    return Reply(_encode(answer))


def _limit(query: dict[str, str], most: int) -> int:
    text = query.get("limit", str(most))
    if not re.fullmatch("[0-9]{1,9}", text, re.ASCII) or not 1 <= int(text) <= most:
        raise invalid("/limit", f"a number from 1 to {most}")
    return int(text)


def _place(query: dict[str, str]) -> tuple[int, str | None]:
    """The row to begin with, and the version to look into; None is the one that serves."""
    asked, cursor = query.get("version"), query.get("cursor")
    if cursor is None:
        return 0, asked
    match = _CURSOR.fullmatch(cursor)
    if match is None or not VERSION_NAME.match(match[2]):
        raise invalid("/cursor", "the `next` of an answer is needed")
    if asked not in (None, match[2]):
        raise invalid("/version", "the cursor is of another version")
    return int(match[1]), match[2]


async def versions(call: Call) -> Reply:
    """The publications, oldest first; the last one that is served goes on."""
    serving = call.runtime.versions.serving()
    bundles = call.runtime.settings.bundles
    known = await asyncio.to_thread(lambda: (timeline(bundles), set(list_versions(bundles))))
    history = [PublishedVersion(one.version, one.at, one.version in known[1]) for one in known[0]]
    return Reply(_encode(VersionsAnswer(version=serving.version, request_id=call.request_id, history=history)))

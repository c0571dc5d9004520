"""GET /v1/search: entities by the beginning of their id or a part of their label, for boxes that suggest."""

import asyncio
from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt
from jaxtyping import Int64

from bundle.attributes import Labels
from bundle.space import EntityTable, Space
from service.call import Call, Reply
from service.problems import invalid
from service.wire.common import MAX_ID_CHARACTERS
from service.wire.map import Match, SearchAnswer

_encode = msgspec.json.Encoder().encode
PRESET = 8
MOST = 50
# Labels are read from the front: so many bytes of them at most, in pieces between which other threads have their turn.
LABEL_BYTES = 16 << 20
PIECE = 1 << 20
AT_ONCE = 1024
MOST_PLACES = 100_000


async def search(call: Call) -> Reply:
    """Entities by `q`: a few binary searches for each type, then a look through at most LABEL_BYTES of its labels."""
    query = call.query()
    loaded = call.runtime.versions.serving()
    space = loaded.bundle.space(query.get("space"))
    text, k = query.get("q", ""), _count(query.get("k"))
    if len(text) > MAX_ID_CHARACTERS:
        raise invalid("/q", f"at most {MAX_ID_CHARACTERS} characters")
    tables = [space.table(query["type"])] if "type" in query else list(space.entities.values())
    matches = await asyncio.to_thread(lambda: [one for table in tables for one in _found(space, table, text, k)])
    answer = SearchAnswer(version=loaded.version, request_id=call.request_id, space=space.name, matches=matches)
    return Reply(_encode(answer))


def _count(text: str | None) -> int:
    if text is None:
        return PRESET
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MOST):
        raise invalid("/k", f"a whole number from 1 to {MOST}")
    return int(text)


def _found(space: Space, table: EntityTable, text: str, k: int) -> list[Match]:
    rows = dict.fromkeys(_rows(table, text, k) if text else _popular(space, table, k))
    return [Match(table.name, table.ids.external(row), table.label(row)) for row in list(rows)[:k]]


def _rows(table: EntityTable, text: str, k: int) -> list[int]:
    # Texts are compared as they are written; a person who types them seldom holds the shift key.
    spellings = list(dict.fromkeys([text, text.lower(), text.upper(), text.capitalize(), text.title()]))
    rows = [row for spelling in spellings for row in table.ids.beginning_with(spelling, k)]
    for one in table.attributes.values():
        if isinstance(one, Labels):
            for spelling in spellings:
                rows += _labelled(one, spelling, k - len(rows))
    return rows


def _labelled(labels: Labels, text: str, k: int) -> list[int]:
    """The first `k` rows whose label has `text`."""
    try:
        wanted = text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate is in no label
        return []
    rows: dict[int, None] = {}
    for places in _places(labels, wanted) if k > 0 else ():
        found = np.searchsorted(labels.offsets, places, side="right") - 1
        inside = places + len(wanted) <= labels.offsets[found + 1]  # not from the end of one label into the next
        rows.update(dict.fromkeys(found[inside].tolist()))
        if len(rows) >= k:
            break
    return list(rows)[: max(k, 0)]


def _places(labels: Labels, wanted: bytes) -> Iterator[Int64[npt.NDArray[np.int64], " n"]]:
    """Where the text stands, ascending, some at a time, MOST_PLACES at most: they may all lie across two labels."""
    looked, places = 0, list[int]()
    for start in range(0, min(len(labels.utf8), LABEL_BYTES), PIECE):
        piece = labels.utf8[start : start + PIECE + len(wanted) - 1].tobytes()
        place = piece.find(wanted)
        while place >= 0 and looked < MOST_PLACES:
            places.append(start + place)
            looked += 1
            if len(places) == AT_ONCE:
                yield np.array(places, dtype=np.int64)
                places = []
            place = piece.find(wanted, place + 1)
        if places:
            yield np.array(places, dtype=np.int64)
            places = []


def _popular(space: Space, table: EntityTable, k: int) -> list[int]:
    for relation in space.relations.values():
        if relation.entry.target == table.name and len(relation.popular):
            rows: list[int] = relation.popular[:k].tolist()
            return rows
    return list(range(min(k, len(table))))

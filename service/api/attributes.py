"""GET /v1/attributes: what entities have besides edges, summed up; GET /v1/map/{type}/attribute: one of it, entity by
entity, as a byte."""

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8

from bundle.attributes import Attribute, Categories, Labels, Scalars, parts_of
from bundle.errors import EntityUnknown
from bundle.layout import SpaceLayout
from bundle.space import Bundle, Space
from service.api.caching import etag_of, packed_reply, space_asked
from service.call import OCTETS, Call, Reply
from service.problems import invalid
from service.wire import map as wire

_encode = msgspec.json.Encoder().encode
# Of a category the values that are listed, the most frequent first; a byte names one of them by its place.
LISTED = 100
# A byte for a category that is not listed, and for an entity that has no value.
OTHER, NONE = 254, 255
# Scalars are sent by rank, from 0 to the highest step, so that a few that lie far off do not take all colours.
STEPS = 253
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


async def attributes(call: Call) -> Reply:
    """The attributes of every type: how many entities have each, its frequent values or its range."""
    bundle, space = await space_asked(call)

    def document() -> bytes:
        # The request's id is no part of a document that is kept.
        types = {name: [_summary(*one) for one in table.attributes.items()] for name, table in space.entities.items()}
        return _encode(wire.AttributesAnswer(version=bundle.version, request_id="", space=space.name, types=types))

    return await packed_reply(call, f"{_etag(bundle, space)}-attributes", document)


async def attribute(call: Call) -> Reply:
    """One attribute of all entities of a type, row by row: a byte each; 404 for one that the type has not."""
    bundle, space = await space_asked(call)
    table, name = space.table(call.ids["type"]), call.query().get("name")
    if name is None:
        raise invalid("/name", "name an attribute of the type")
    chosen = table.attributes.get(name)
    if chosen is None or isinstance(chosen, Labels):
        raise EntityUnknown("this type has no attribute of that name that could be compared")
    headers = {"x-twhin-version": bundle.version, "x-twhin-shape": str(len(table))}
    number = list(table.attributes).index(name)
    return await packed_reply(call, f"{_etag(bundle, space)}-{table.name}-{number}", _packer(chosen), OCTETS, headers)


def _etag(bundle: Bundle, space: Space) -> str:
    """A name for the attributes of a space that changes when their bytes do: from the digests in the manifest."""
    layout = SpaceLayout(space.name)
    files = [
        layout.attribute(name, number, part)
        for name, table in space.entities.items()
        for number, one in enumerate(table.attributes.values())
        for part in parts_of(one.kind)
    ]
    return etag_of(bundle, space, files)


def _summary(name: str, attribute: Attribute) -> wire.AttributeSummary:
    if isinstance(attribute, Labels):
        return wire.AttributeSummary(name, "label", int((np.diff(attribute.offsets) > 0).sum()))
    if isinstance(attribute, Categories):
        order, counts = _frequent(attribute)
        values = [wire.AttributeValue(attribute.vocabulary.external(code), int(counts[code])) for code in order]
        present = int((attribute.codes.degrees() > 0).sum())
        return wire.AttributeSummary(name, "category", present, values=values, distinct=len(counts))
    given = attribute.values[attribute.has()]
    if attribute.kind == "boolean":
        true = int(given.sum())
        values = [wire.AttributeValue("false", len(given) - true), wire.AttributeValue("true", true)]
        return wire.AttributeSummary(name, "boolean", len(given), values=values, distinct=2)
    quantiles = np.quantile(given, QUANTILES, method="lower").astype(np.float64).tolist() if len(given) else []
    return wire.AttributeSummary(name, attribute.kind, len(given), quantiles=quantiles)


def _frequent(attribute: Categories) -> tuple[list[int], npt.NDArray[np.int64]]:
    """The codes of the listed values, the most frequent first, and how many entities have each value."""
    counts = np.bincount(attribute.codes.indices, minlength=len(attribute.vocabulary))
    return np.argsort(-counts, kind="stable")[:LISTED].tolist(), counts


def _packer(attribute: Scalars | Categories) -> Callable[[], bytes]:
    return lambda: (_places(attribute) if isinstance(attribute, Categories) else _ranks(attribute)).tobytes()


def _places(attribute: Categories) -> UInt8[npt.NDArray[np.uint8], " n"]:
    """For each entity the place of its most frequent category in the list of values."""
    order, counts = _frequent(attribute)
    place = np.full(len(counts), OTHER, dtype=np.uint8)
    place[order] = np.arange(len(order), dtype=np.uint8)
    codes = attribute.codes
    places = np.full(len(codes), NONE, dtype=np.uint8)
    some = codes.degrees() > 0
    if some.any():
        places[some] = np.minimum.reduceat(place[codes.indices], codes.indptr[:-1][some])
    return places


def _ranks(attribute: Scalars) -> UInt8[npt.NDArray[np.uint8], " n"]:
    """For each entity how far up its value stands among all, equal values at one step; a truth value is itself."""
    has = attribute.has()
    given = attribute.values[has]
    if attribute.kind == "boolean":
        steps = given
    else:
        edges = np.quantile(given, np.linspace(0, 1, STEPS + 1)[1:-1]) if len(given) else np.empty(0)
        low, high = (np.searchsorted(edges, given, side) for side in ("left", "right"))
        steps = (low + high + 1) // 2
    ranks = np.full(len(has), NONE, dtype=np.uint8)
    ranks[has] = steps
    return ranks

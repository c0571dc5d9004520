"""POST and GET /v1/embeddings, POST /v1/features, GET /v1/codebooks."""

import hashlib

import msgspec
import numpy as np

from bundle.errors import EntityUnknown
from bundle.ids import ABSENT
from bundle.space import Bundle, EntityTable, Space
from service.api.caching import holds
from service.api.vectors import encoded, gather, items_of, json_reply, octets_reply, wants_octets
from service.call import Call, Reply
from service.problems import Problem, invalid
from service.wire.common import Encoding, texts_of
from service.wire.lookups import EmbeddingsBody, FeaturesBody

_embeddings = msgspec.json.Decoder(EmbeddingsBody)
_features = msgspec.json.Decoder(FeaturesBody)


async def embeddings(call: Call) -> Reply:
    """The vectors of many entities of one type."""
    octets = wants_octets(call)
    body = call.json(_embeddings)
    bundle, space, table, ids = await _open(call, body)
    rows = table.ids.rows(ids)
    vectors = gather(table.embeddings, rows)
    if octets:
        return octets_reply(vectors, rows, bundle.version)
    items = items_of(ids, vectors, rows, body.encoding)
    return json_reply({**_head(call, bundle, space, table), **_counts(items), "dim": table.dim, "items": items})


async def embedding(call: Call) -> Reply:
    """The vector of one entity; 404 when the version has none."""
    query = call.query()
    bundle = await call.bundle(query.get("version"))
    space = bundle.space(query.get("space"))
    table = space.table(call.ids["type"])
    row = table.ids.row(call.ids["id"])
    if row is None:
        raise EntityUnknown("this version has no such entity")
    vector = np.asarray(table.embeddings[row])
    if wants_octets(call):
        return octets_reply(vector[None, :], np.array([row]), bundle.version)
    document = {"id": table.ids.external(row), "dim": table.dim, "vector": encoded(vector, _encoding(query))}
    return json_reply({**_head(call, bundle, space, table), **document})


async def features(call: Call) -> Reply:
    """PQ-decoded vectors, or the codes themselves, of many entities of one type."""
    octets = wants_octets(call)
    body = call.json(_features)
    bundle, space, table, ids = await _open(call, body)
    if table.quantizer is None or table.codes is None:
        raise invalid("/type", "this version has no compressed vectors of that type")
    rows = table.ids.rows(ids)
    codes = gather(table.codes, rows)
    vectors = codes if body.representation == "codes" else table.quantizer.decode(codes)
    vectors[rows == ABSENT] = 0
    codebook = etag_of(bundle, space, table)
    if octets:
        reply = octets_reply(vectors, rows, bundle.version)
        reply.headers["x-twhin-codebook"] = codebook
        return reply
    items = items_of(ids, vectors, rows, body.encoding)
    head = {"representation": body.representation, "dim": vectors.shape[1], "codebook": codebook}
    return json_reply({**_head(call, bundle, space, table), **head, **_counts(items), "items": items})


async def codebook(call: Call) -> Reply:
    """What a client needs to decode codes for itself; cacheable by its ETag."""
    query = call.query()
    bundle = await call.bundle(query.get("version"))
    space = bundle.space(query.get("space"))
    table = space.table(call.ids["type"])
    if table.quantizer is None:
        raise EntityUnknown("this version has no codebook of that type")
    etag = etag_of(bundle, space, table)
    headers = {"etag": f'"{etag}"', "cache-control": "private, max-age=60"}
    if holds(call, etag):
        return Reply(b"", status=304, headers=headers)
    books, rotation = table.quantizer.codebooks, table.quantizer.rotation
    document = {
        "etag": etag,
        "subquantizers": books.shape[0],
        "codewords": books.shape[1],
        "dim": table.quantizer.dim,
        "codebooks": encoded(np.ascontiguousarray(books).reshape(-1), "base64"),
        "rotation": None if rotation is None else encoded(np.ascontiguousarray(rotation).reshape(-1), "base64"),
    }
    return json_reply({**_head(call, bundle, space, table), **document}, headers)


def etag_of(bundle: Bundle, space: Space, table: EntityTable) -> str:
    """A name for a codebook that changes when its bytes do: from the digests in the manifest."""
    prefix = f"spaces/{space.name}/pq/{table.name}."
    parts = (f"{prefix}codebooks.npy", f"{prefix}rotation.npy")
    digests = [bundle.manifest.files[part].sha256 for part in parts if part in bundle.manifest.files]
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:32]


async def _open(call: Call, body: EmbeddingsBody | FeaturesBody) -> tuple[Bundle, Space, EntityTable, list[str]]:
    limit = call.runtime.settings.limits.lookup_max
    if len(body.ids) > limit:
        raise invalid("/ids", f"at most {limit} ids")
    bundle = await call.bundle(body.version)
    space = bundle.space(body.space)
    return bundle, space, space.table(body.type), texts_of(body.ids)


def _encoding(query: dict[str, str]) -> Encoding:
    asked = query.get("encoding", "json")
    if asked == "base64":
        return "base64"
    if asked != "json":
        raise Problem("invalid", "encoding is json or base64")
    return "json"


def _head(call: Call, bundle: Bundle, space: Space, table: EntityTable) -> dict[str, object]:
    return {"version": bundle.version, "request_id": call.request_id, "type": table.name, "space": space.name}


def _counts(items: list[dict[str, object]]) -> dict[str, object]:
    found = sum(item["status"] == "found" for item in items)
    return {"found": found, "missing": len(items) - found}

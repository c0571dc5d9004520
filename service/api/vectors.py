"""Vectors on the wire: JSON numbers, base64, or bare bytes, by what the client accepts."""

import base64
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from jaxtyping import Int64, Shaped

from bundle.ids import ABSENT
from service.call import JSON, OCTETS, Call, Reply
from service.problems import Problem
from service.wire.common import Encoding

Table = Shaped[npt.NDArray[Any], "entities columns"]
Matrix = Shaped[npt.NDArray[Any], "n columns"]
Rows = Int64[npt.NDArray[np.int64], " n"]


def wants_octets(call: Call) -> bool:
    """Whether the client would rather have bare bytes than JSON. Raises Problem 406 when it accepts neither."""
    accept = call.header(b"accept")
    if accept is None:
        return False
    json, octets = preference(accept, JSON), preference(accept, OCTETS)
    if json[0] == octets[0] == 0:
        raise Problem("not_acceptable", f"answers are {JSON} or {OCTETS}")
    return octets > json


def preference(accept: str, media: str) -> tuple[float, int]:
    """How much `accept` wants `media`: the quality of the range that names it most closely, and how closely."""
    ranges = {"*/*": 1, f"{media.partition('/')[0]}/*": 2, media: 3}
    closest = (0.0, 0)
    for part in accept.split(","):
        name, *parameters = part.lower().split(";")
        closeness = ranges.get(name.strip(), 0)
        if closeness > closest[1]:
            closest = (_quality(parameters), closeness)
    return closest


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        match = re.fullmatch(r"\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*", parameter)
        if match is not None:
            return min(1.0, float(match[1]))
    return 1.0


def gather(table: Table, rows: Rows) -> Matrix:
    """The rows of `table`; zeros for an absent one, so that every id keeps its place."""
    if len(rows) and rows.min() >= 0:
        return table[rows]
    gathered = np.zeros((len(rows), table.shape[1]), dtype=table.dtype)
    present = rows != ABSENT
    gathered[present] = table[rows[present]]
    return gathered


def octets_reply(vectors: Matrix, rows: Rows, version: str) -> Reply:
    """The vectors as little-endian bytes, one after another; an absent id is a row of zeros, listed in a header."""
    missing = np.flatnonzero(rows == ABSENT)
    headers = {
        "x-twhin-version": version,
        "x-twhin-shape": f"{vectors.shape[0]},{vectors.shape[1]}",
        "x-twhin-dtype": vectors.dtype.newbyteorder("<").str,
        "x-twhin-missing": ",".join(map(str, missing.tolist())),
        "vary": "accept",
    }
    return Reply(np.ascontiguousarray(vectors).tobytes(), OCTETS, headers=headers)


def items_of(ids: Sequence[str], vectors: Matrix, rows: Rows, encoding: Encoding) -> list[dict[str, object]]:
    """One item for each id: found with its vector, or not found."""
    values: list[Any] = list(np.ascontiguousarray(vectors))
    if encoding == "base64":
        values = [base64.b64encode(row).decode("ascii") for row in values]
    return [
        {"id": external, "status": "found", "vector": value}
        if row != ABSENT
        else {"id": external, "status": "not_found", "vector": None}
        for external, value, row in zip(ids, values, rows.tolist(), strict=True)
    ]


def encoded(vector: Shaped[npt.NDArray[Any], " columns"], encoding: Encoding) -> object:
    """One vector for a JSON document."""
    return base64.b64encode(vector.tobytes()).decode("ascii") if encoding == "base64" else vector


def json_reply(document: dict[str, object], headers: dict[str, str] | None = None) -> Reply:
    """A document with arrays in it, as JSON."""
    return Reply(
        orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), headers={"vary": "accept", **(headers or {})}
    )

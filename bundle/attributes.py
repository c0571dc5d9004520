"""Attributes of the entities of one type: categories, numbers, truth values, timestamps, a label; mapped arrays.

Row i of every array is entity i. An entity may lack any of them.

number      values float64 [n], present: a packed bitmap, ceil(n / 8) bytes, bit `i & 7` of byte `i >> 3`
boolean     values uint8 [n], 0 or 1; present
timestamp   values int64 [n], seconds since 1970; present
category    offsets, utf8: the distinct values, ascending by bytes; indptr int64 [n + 1], codes int32: those of each
            entity, ascending, each once
label       offsets int64 [n + 1], utf8: one text an entity, empty where it has none
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64, Int64, UInt8
from pydantic import Field

from bundle.arrays import AnyArray
from bundle.csr import Csr
from bundle.ids import StringIds
from bundle.records import Record

AttributeKind = Literal["category", "number", "boolean", "timestamp", "label"]
ScalarKind = Literal["number", "boolean", "timestamp"]
SCALARS: dict[str, type[np.generic]] = {"number": np.float64, "boolean": np.uint8, "timestamp": np.int64}
MAX_NAME_CHARACTERS = 256
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?)\d*(?: ?(?:Z|UTC|([+-])(\d\d):?(\d\d)))?)?", re.ASCII
)
# Maps a part of an attribute, its dtype and its shape (None: any) to the array.
Open = Callable[..., AnyArray]


class AttributeEntry(Record):
    """One attribute of an entity type; its position in the list is the number in its files' names."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARACTERS)]
    kind: AttributeKind


@dataclass(frozen=True, slots=True)
class Scalars:
    """A number, a truth value or a time for each entity that has one."""

    kind: ScalarKind
    values: Float64[npt.NDArray[np.float64], " n"] | Int64[npt.NDArray[np.int64], " n"] | UInt8[AnyArray, " n"]
    present: UInt8[npt.NDArray[np.uint8], " bytes"]

    def has(self) -> Bool[npt.NDArray[np.bool_], " n"]:
        """Which entities have a value."""
        return np.unpackbits(self.present, count=len(self.values), bitorder="little").astype(np.bool_)


@dataclass(frozen=True, slots=True)
class Categories:
    """Any number of categories for each entity: positions in `vocabulary`, whose `external` spells them."""

    vocabulary: StringIds
    codes: Csr
    kind: Literal["category"] = "category"


@dataclass(frozen=True, slots=True)
class Labels:
    """A text for each entity, to be shown."""

    offsets: Int64[npt.NDArray[np.int64], " n_plus_1"]
    utf8: UInt8[npt.NDArray[np.uint8], " total"]
    kind: Literal["label"] = "label"

    def text(self, row: int) -> str:
        """What the entity of `row` is called; empty where it has no label."""
        return self.utf8[self.offsets[row] : self.offsets[row + 1]].tobytes().decode("utf-8", errors="replace")


Attribute: TypeAlias = Scalars | Categories | Labels


def parts_of(kind: AttributeKind) -> tuple[str, ...]:
    """The parts whose arrays make an attribute of `kind`."""
    if kind in SCALARS:
        return ("values", "present")
    return ("offsets", "utf8", "indptr", "codes") if kind == "category" else ("offsets", "utf8")


def arrays_of(attribute: Attribute) -> Mapping[str, AnyArray]:
    """The arrays of an attribute by the names of their parts."""
    if isinstance(attribute, Scalars):
        return {"values": attribute.values, "present": attribute.present}
    if isinstance(attribute, Labels):
        return {"offsets": attribute.offsets, "utf8": attribute.utf8}
    vocabulary, codes = attribute.vocabulary, attribute.codes
    return {"offsets": vocabulary.offsets, "utf8": vocabulary.utf8, "indptr": codes.indptr, "codes": codes.indices}


def open_attribute(kind: AttributeKind, n: int, array: Open) -> Attribute:
    """The attribute of `n` entities from its parts' arrays; `array` refuses one of another dtype or shape."""
    if kind in SCALARS:
        values = array("values", SCALARS[kind], n)
        return Scalars(kind, values, array("present", np.uint8, (n + 7) // 8))  # type: ignore[arg-type]
    utf8 = array("utf8", np.uint8, None)
    if kind == "label":
        return Labels(array("offsets", np.int64, n + 1), utf8)
    vocabulary = StringIds(array("offsets", np.int64, None), utf8)
    return Categories(vocabulary, Csr(array("indptr", np.int64, n + 1), array("codes", np.int32, None)))


def scalar_faults(scalars: Scalars) -> Iterator[tuple[str, str]]:
    """A part of the attribute, and what is wrong in it."""
    n = len(scalars.values)
    if n % 8 and scalars.present[-1] >> (n % 8):
        yield "present", "names an entity past the last"
    if scalars.kind == "boolean" and scalars.values.max(initial=0) > 1:
        yield "values", "holds a truth value that is neither 0 nor 1"


def packed(mask: Bool[npt.NDArray[np.bool_], " n"]) -> UInt8[npt.NDArray[np.uint8], " bytes"]:
    """A mask as a packed bitmap."""
    bits: npt.NDArray[np.uint8] = np.packbits(mask, bitorder="little")
    return bits


def seconds_of(text: str) -> float | None:
    """A date, perhaps with a time of day, as seconds since 1970; without a zone one of UTC. None for other text."""
    parts = _MOMENT.fullmatch(text)
    if parts is None:
        return None
    date, time, sign, hours, minutes = parts.groups()
    try:
        moment = np.datetime64(f"{date}T{time or '00:00'}").astype("datetime64[ms]")
    except ValueError:  # the 31st of February
        return None
    east = 0 if sign is None else (3600 * int(hours) + 60 * int(minutes)) * (1 if sign == "+" else -1)
    return int(moment.astype(np.int64)) / 1000 - east


def concatenated(texts: list[bytes]) -> tuple[Int64[npt.NDArray[np.int64], " n_plus_1"], Any]:
    """Texts one after another: offsets and bytes."""
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    return offsets, np.frombuffer(b"".join(texts), dtype=np.uint8)

"""Which candidates a request allows: conditions on attributes, ids and degrees, compiled into a bitmap over rows.

Everything that one object says must hold. An entity without a value meets no comparison with it, so that `not` of one
lets it in; `exists` tells the two apart.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from jaxtyping import Bool

from bundle.attributes import Attribute, Categories, Labels, Scalars, seconds_of
from bundle.errors import FilterInvalid, QueryError
from bundle.ids import ABSENT
from bundle.space import EntityTable, Relation, Space
from index.search.eligible import Bitmap, both, pack

MAX_CONDITIONS = 256
MAX_DEPTH = 16
MAX_VALUES = 10_000
# Of what there is, what a refusal names.
LISTED = 20
# Of all bitmaps that are kept together; one of a million entities has 125 kB.
KEPT_BYTES = 64 << 20

Value = str | int | float | bool
Moment = Annotated[str | int | float, msgspec.Meta(description="seconds since 1970, or a date as 2026-01-31")]
Mask = Bool[npt.NDArray[np.bool_], " n"]
RANGES: dict[str, Callable[[Any, Any], Any]] = {
    "gt": np.greater,
    "gte": np.greater_equal,
    "lt": np.less,
    "lte": np.less_equal,
}
COMPARISONS = ("is", "in", *RANGES, "exists")


class Filter(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    omit_defaults=True,
    rename={"is_": "is", "in_": "in", "not_": "not"},
):
    """A condition on candidates; all that it says must hold.

    `all`, `any` and `not` combine conditions. `attribute` names what `is`, `in`, `gt`, `gte`, `lt`, `lte` and `exists`
    compare: of several categories one is enough. `ids` are the only ones allowed. `newer_than` compares the time
    attribute (`attribute` where there are several), `min_in_degree` the edges of `relation`, by default the one asked
    for.
    """

    all: tuple["Filter", ...] | None = None
    any: tuple["Filter", ...] | None = None
    not_: "Filter | None" = None
    attribute: str | None = None
    is_: Value | None = None
    in_: tuple[Value, ...] | None = None
    gt: Moment | None = None
    gte: Moment | None = None
    lt: Moment | None = None
    lte: Moment | None = None
    exists: bool | None = None
    ids: tuple[str | int, ...] | None = None
    newer_than: Moment | None = None
    min_in_degree: Annotated[int, msgspec.Meta(ge=0)] | None = None
    relation: str | None = None


def compile_filter(space: Space, relation: Relation | None, table: EntityTable, condition: Filter) -> Bitmap:
    """The bitmap of the candidates of `table` that meet `condition`; `relation` is the one whose edges are counted.

    Raises FilterInvalid naming the place: an attribute that is not there, a value of a wrong type, more than is taken,
    a category that nobody has where the filter keeps nobody.
    """
    _check_size(condition)
    compiler = _Compiler(space, relation, table)
    mask = compiler.mask(condition, "/filter")
    if compiler.unknown is not None and not mask.any():
        raise compiler.unknown
    return both(pack(mask), table.candidates)


def _check_size(condition: Filter) -> None:
    waiting, conditions, values = [(condition, 1)], 0, 0
    while waiting:
        one, depth = waiting.pop()
        conditions += 1
        values += len(one.in_ or ()) + len(one.ids or ())
        if depth > MAX_DEPTH or conditions > MAX_CONDITIONS or values > MAX_VALUES:
            raise FilterInvalid(
                "/filter", f"at most {MAX_CONDITIONS} conditions, {MAX_DEPTH} deep, with {MAX_VALUES} values and ids"
            )
        inner = (*(one.all or ()), *(one.any or ()), *([one.not_] if one.not_ is not None else []))
        waiting += [(each, depth + 1) for each in inner]


class _Compiler:
    def __init__(self, space: Space, relation: Relation | None, table: EntityTable) -> None:
        self._space = space
        self._relation = relation
        self._table = table
        # What is wrong with the first category asked for that nobody has, outside of any `not`, should nobody be kept.
        self.unknown: FilterInvalid | None = None

    def mask(self, condition: Filter, at: str) -> Mask:
        """Who meets `condition`, which stands at the JSON pointer `at`."""
        parts = list(self._parts(condition, at))
        if not parts:
            raise FilterInvalid(at, "the condition says nothing")
        kept = parts[0]
        for part in parts[1:]:
            kept = kept & part
        return kept

    def _parts(self, condition: Filter, at: str) -> Iterator[Mask]:
        n = len(self._table)
        if condition.all is not None:
            kept = np.ones(n, dtype=np.bool_)
            for i, one in enumerate(condition.all):
                kept &= self.mask(one, f"{at}/all/{i}")
            yield kept
        if condition.any is not None:
            kept = np.zeros(n, dtype=np.bool_)
            for i, one in enumerate(condition.any):
                kept |= self.mask(one, f"{at}/any/{i}")
            yield kept
        if condition.not_ is not None:
            yield ~self.mask(condition.not_, f"{at}/not")
        if condition.ids is not None:
            rows = self._table.ids.rows([str(one) for one in condition.ids])
            kept = np.zeros(n, dtype=np.bool_)
            kept[rows[rows != ABSENT]] = True
            yield kept
        if condition.newer_than is not None:
            yield self._newer(condition, at)
        if condition.min_in_degree is not None:
            yield self._in_degrees(condition, at) >= condition.min_in_degree
        elif condition.relation is not None:
            raise FilterInvalid(f"{at}/relation", "goes with min_in_degree")
        yield from self._comparisons(condition, at)

    def _comparisons(self, condition: Filter, at: str) -> Iterator[Mask]:
        values = (condition.is_, condition.in_, condition.gt, condition.gte, condition.lt, condition.lte)
        given: dict[str, Any] = {
            name: value for name, value in zip(COMPARISONS, values, strict=False) if value is not None
        }
        if condition.attribute is None:
            if given or condition.exists is not None:
                raise FilterInvalid(f"{at}/attribute", "name the attribute to compare")
            return
        attribute = self._attribute(condition.attribute, at)
        if condition.exists is not None:
            yield _exists(attribute) == condition.exists
        elif not given and condition.newer_than is None:
            raise FilterInvalid(f"{at}/attribute", f"give one of {', '.join(COMPARISONS)} with it")
        for name, value in given.items():
            yield _compared(attribute, name, value, f"{at}/{name}")
            if isinstance(attribute, Categories) and self.unknown is None and "/not" not in at:
                self.unknown = _unknown(attribute, value if name == "in" else (value,), f"{at}/{name}")

    def _attribute(self, name: str, at: str) -> Attribute:
        try:
            return self._table.attributes[name]
        except KeyError:
            raise FilterInvalid(f"{at}/attribute", f"no such attribute; {self._known()}") from None

    def _known(self) -> str:
        names = list(self._table.attributes)[:LISTED]
        return f"candidates of this type have: {', '.join(names)}" if names else "candidates of this type have none"

    def _newer(self, condition: Filter, at: str) -> Mask:
        if condition.attribute is not None:
            attribute = self._attribute(condition.attribute, at)
        else:
            times = [one for one in self._table.attributes.values() if one.kind == "timestamp"]
            if len(times) != 1:
                raise FilterInvalid(f"{at}/newer_than", f"name one attribute that is a timestamp; {self._known()}")
            attribute = times[0]
        if attribute.kind != "timestamp":
            raise FilterInvalid(f"{at}/attribute", f"a timestamp is needed; this is a {attribute.kind}")
        return _compared(attribute, "gt", condition.newer_than, f"{at}/newer_than")

    def _in_degrees(self, condition: Filter, at: str) -> npt.NDArray[np.int64]:
        relation = self._relation
        if condition.relation is not None:
            try:
                relation = self._space.relation(condition.relation)
            except QueryError as error:
                raise FilterInvalid(f"{at}/relation", str(error)) from None
        if relation is None or relation.entry.target != self._table.name:
            raise FilterInvalid(f"{at}/relation", "name a relation that leads to candidates of this type")
        return relation.sources.degrees()


def _exists(attribute: Attribute) -> Mask:
    if isinstance(attribute, Scalars):
        return attribute.has()
    return np.diff(attribute.codes.indptr if isinstance(attribute, Categories) else attribute.offsets) > 0


def _compared(attribute: Attribute, name: str, value: Any, at: str) -> Mask:
    if isinstance(attribute, Labels):
        raise FilterInvalid(at, "a label is shown and not compared")
    if isinstance(attribute, Categories):
        if name in RANGES:
            raise FilterInvalid(at, "a category has no order; compare it with is or in")
        return _in_categories(attribute, value if name == "in" else (value,), at)
    convert = {"number": _number, "boolean": _truth, "timestamp": _moment}[attribute.kind]
    if name in RANGES:
        if attribute.kind == "boolean":
            raise FilterInvalid(at, "a truth value has no order; compare it with is")
        kept = RANGES[name](attribute.values, convert(value, at))
    else:
        wanted = [convert(one, f"{at}/{i}") for i, one in enumerate(value)] if name == "in" else [convert(value, at)]
        # What is no whole number equals no whole number, and would be cut to one.
        fitting = [one for one in wanted if attribute.kind == "number" or one == int(one)]
        kept = np.isin(attribute.values, np.array(fitting, dtype=attribute.values.dtype))
    found: Mask = kept & attribute.has()
    return found


def _in_categories(attribute: Categories, values: tuple[Any, ...], at: str) -> Mask:
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise FilterInvalid(f"{at}/{i}" if at.endswith("/in") else at, "a category is compared with text")
    positions = attribute.vocabulary.rows(values)
    wanted = np.zeros(len(attribute.vocabulary), dtype=np.bool_)
    wanted[positions[positions != ABSENT]] = True
    kept = np.zeros(len(attribute.codes), dtype=np.bool_)
    hits = np.flatnonzero(wanted[attribute.codes.indices])
    kept[np.searchsorted(attribute.codes.indptr, hits, side="right") - 1] = True
    return kept


def _unknown(attribute: Categories, values: tuple[Any, ...], at: str) -> FilterInvalid | None:
    """The complaint about the first of `values` that is no category of anybody."""
    absent = np.flatnonzero(attribute.vocabulary.rows(values) == ABSENT)
    if not len(absent):
        return None
    place = f"{at}/{absent[0]}" if at.endswith("/in") else at
    return FilterInvalid(place, f"nobody is kept, and no candidate has that category; there are: {_listed(attribute)}")


def _listed(attribute: Categories) -> str:
    n = len(attribute.vocabulary)
    names = attribute.vocabulary.externals(np.arange(min(n, LISTED)))
    return (", ".join(names) or "none") + (f" and {n - LISTED} more: /v1/attributes has them" if n > LISTED else "")


def _number(value: Any, at: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FilterInvalid(at, "a number is compared with a number")
    try:
        return float(value)
    except OverflowError:
        raise FilterInvalid(at, "the number is larger than 64 bits can hold") from None


def _truth(value: Any, at: str) -> int:
    if not isinstance(value, bool):
        raise FilterInvalid(at, "a truth value is compared with true or false")
    return int(value)


def _moment(value: Any, at: str) -> int | float:
    """Seconds since 1970."""
    if isinstance(value, bool):
        raise FilterInvalid(at, "a time is compared with seconds since 1970 or a date")
    if not isinstance(value, str):
        if not -(2**62) < value < 2**62:
            raise FilterInvalid(at, "a time is compared with seconds since 1970 that 64 bits hold")
        return float(value) if isinstance(value, float) else int(value)
    seconds = seconds_of(value)
    if seconds is None:
        raise FilterInvalid(at, "a time is compared with seconds since 1970, or a date as 2026-01-31")
    return seconds


class FilterCache:
    """The bitmaps of the filters last asked for, of one version; safe to share between threads."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._bitmaps: OrderedDict[tuple[str, str, str, bytes], Bitmap] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._bitmaps)

    def kept(self, space: Space, relation: Relation | None, table: EntityTable, condition: Filter) -> Bitmap | None:
        """The bitmap where it is at hand, so that it takes no time."""
        return self._kept(_key(space, relation, table, condition))

    def bitmap(self, space: Space, relation: Relation | None, table: EntityTable, condition: Filter) -> Bitmap:
        """See `compile_filter`. The same array for the same filter, while it is kept."""
        key = _key(space, relation, table, condition)
        kept = self._kept(key)
        if kept is not None:
            return kept
        bitmap = compile_filter(space, relation, table, condition)
        with self._lock:
            if key not in self._bitmaps:
                self._bitmaps[key] = bitmap
                self._bytes += bitmap.nbytes + len(key[3])
            while self._bytes > self._kept_bytes and len(self._bitmaps) > 1:
                (*_, text), oldest = self._bitmaps.popitem(last=False)
                self._bytes -= oldest.nbytes + len(text)
        return bitmap

    def _kept(self, key: tuple[str, str, str, bytes]) -> Bitmap | None:
        with self._lock:
            if key in self._bitmaps:
                self._bitmaps.move_to_end(key)
            return self._bitmaps.get(key)


def _key(space: Space, relation: Relation | None, table: EntityTable, condition: Filter) -> tuple[str, str, str, bytes]:
    _check_size(condition)  # or one that is too deep could not be written
    # By its text: 1, 1.0 and true are equal to Python, and not to an attribute.
    text = msgspec.json.encode(condition)
    return space.name, table.name, "" if relation is None else relation.entry.name, text

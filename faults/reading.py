"""Reading: generated edge files of every sort, read by the program and by plain Python: equal, or one clear refusal.

The oracle for text is Python's csv module, for Parquet pyarrow's scalar values, for JSON lines Python's json module;
from there on ids, weights and times are worked out value by value, without the program's own code. Most files are
small, and the sizes of blocks with them, so that every record of some file meets a block's end; a few are as large as
the program's own blocks.
"""

import bz2
import contextlib
import csv
import datetime
import decimal
import gzip
import io
import json
import math
import random
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bundle.errors import EdgeFileError
from bundle.ids import IdKind
from bundle.progress import SilentStage
from faults.outcome import Outcome
from graph import jsonlines, parquet, text
from graph.edge_reader import EdgeReader
from graph.files import open_edge_file
from graph.schema import RelationSpec

FILES, LONG_FILES = 10_000, 100_000
BOUNDARIES, LONG_BOUNDARIES = 12, 1_000
Row = tuple[Any, ...]
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


class Refused(Exception):
    """The oracle's word for a value or a record that may not be read."""


@dataclass(frozen=True)
class Case:
    """A file, how it is to be read, and what plain Python makes of it: rows, or None where that is a refusal."""

    name: str
    content: bytes
    source: IdKind
    target: IdKind
    weight: bool
    time: bool
    columns: tuple[str, ...] | None
    expected: list[Row] | None
    may_refuse: bool = False  # Python reads it, but for a zero byte, or a quote that swallows the rest of the file


def run(scratch: Path, seed: int, long: bool) -> Iterator[Outcome]:
    """10,000 small files in equal parts, then files around the ends of the program's own blocks."""
    files, boundaries = (LONG_FILES, LONG_BOUNDARIES) if long else (FILES, BOUNDARIES)
    for sort, make in CASES.items():
        yield outcome(
            f"{sort} files are read as Python reads them, or refused in one line",
            scratch,
            make,
            seed,
            files // len(CASES),
        )
    yield outcome(
        "so are CSV files with quoted line breaks at the ends of 1 MiB blocks",
        scratch,
        large_case,
        seed,
        boundaries,
        small=False,
    )


def outcome(
    promise: str, scratch: Path, make: Callable[[random.Random], Case], seed: int, count: int, *, small: bool = True
) -> Outcome:
    """Try `count` cases, each with a seed of its own; the first that differs is told with its seed."""
    seen: Counter[str] = Counter()
    first = ""
    for number in range(count):
        rng = random.Random(f"{seed}-{number}")
        case = make(rng)
        with block_sizes(rng) if small else contextlib.nullcontext():
            verdict = judge(case, scratch)
        seen[verdict.partition(":")[0]] += 1
        if verdict.startswith("WRONG") and not first:
            first = f"; first: case {number} ({case.name}) {verdict}"
    figure = ", ".join(f"{number:,} {verdict}" for verdict, number in sorted(seen.items()))
    return Outcome(promise, f"{count:,} files: {figure}{first}", not seen["WRONG"])


@contextlib.contextmanager
def block_sizes(rng: random.Random) -> Iterator[None]:
    """Read in small blocks, so that a small file has many."""
    before = text.BLOCK_BYTES, jsonlines.BLOCK_BYTES, parquet.BATCH_ROWS
    text.BLOCK_BYTES = rng.choice((512, 700, 1024, 1 << 20))
    jsonlines.BLOCK_BYTES = rng.choice((100, 1000, 1 << 20))
    parquet.BATCH_ROWS = rng.choice((1, 3, 1 << 18))
    try:
        yield
    finally:
        text.BLOCK_BYTES, jsonlines.BLOCK_BYTES, parquet.BATCH_ROWS = before


def judge(case: Case, scratch: Path) -> str:
    """Read the file and say how that went; anything but an EdgeFileError of one line is wrong."""
    path = scratch / case.name
    path.write_bytes(case.content)
    try:
        rows = read(case, path)
    except EdgeFileError as error:
        message = str(error)
        if "\n" in message or not message.startswith(str(path)) or len(message) > 600:
            return f"WRONG: refused in other words than one clear line: {message!r:.600}"
        if case.expected is None or case.may_refuse:
            return "refused"
        return f"WRONG: refused though it is sound: {message}"
    except Exception as error:  # any other error is a traceback on somebody's terminal
        return f"WRONG: {type(error).__name__}: {error}"
    finally:
        path.unlink()
    if case.expected is None:
        return "WRONG: read though a value is none"
    if rows != case.expected:
        at = next((i for i, (a, b) in enumerate(zip(rows, case.expected, strict=False)) if a != b), len(rows))
        pair = f"{rows[at : at + 1]} for {case.expected[at : at + 1]}"
        return f"WRONG: {len(rows)} rows for {len(case.expected)}; row {at}: {pair}"
    return "equal"


def read(case: Case, path: Path) -> list[Row]:
    """The edges as the program reads them: src, dst and, where wanted, weight and time."""
    spec = RelationSpec(
        name="r",
        source="a",
        target="b",
        files=(case.name,),
        weight="weight" if case.weight else None,
        time="time" if case.time else None,
    )
    rows: list[Row] = []
    reader = EdgeReader(spec, case.source, case.target)
    for batch in reader.file_batches(open_edge_file(path, case.columns), SilentStage()):
        ids = [one.tolist() if isinstance(one, np.ndarray) else one.to_pylist() for one in (batch.src, batch.dst)]
        weight = None if batch.weight is None else batch.weight.astype(np.float32)
        others = [one.tolist() for one in (weight, batch.time) if one is not None]
        rows += zip(*ids, *others, strict=True)
    return rows


# What the values mean, one by one.


def id_of(value: Any, kind: IdKind) -> Any:
    """An id as it stands in a file: text as bytes, an integer, a decimal, a UUID."""
    if value is None or isinstance(value, float | bool | list | dict):
        raise Refused
    if isinstance(value, Decimal):
        if value != value.to_integral_value():
            raise Refused
        value = int(value)
    if kind == "int64":
        spelling = value if isinstance(value, bytes) else str(value).encode()
        if not re.fullmatch(rb"0|[1-9][0-9]*", spelling) or int(spelling) > 2**63 - 1:
            raise Refused
        return int(spelling)
    spelling = value if isinstance(value, bytes) else str(value).encode()
    if not 1 <= len(spelling) <= 256:
        raise Refused
    try:
        spelling.decode()
    except UnicodeDecodeError as error:
        raise Refused from error
    return spelling


def weight_of(value: Any) -> float:
    """A weight: a finite number, not negative, that 32 bits can hold and are enough to compare."""
    if isinstance(value, bool):
        raise Refused
    try:
        number = float(value.decode() if isinstance(value, bytes) else value)
    except (ValueError, TypeError, OverflowError) as error:
        raise Refused from error
    with np.errstate(over="ignore"):
        stored = float(np.float32(number))
    if not number >= 0 or not math.isfinite(stored) or (number > 0 and stored == 0):
        raise Refused
    return stored


def time_of(value: Any) -> int:
    """A time: a whole number of 64 bits, or a date, perhaps with a time of day, as Unix seconds."""
    if isinstance(value, bytes):
        value = text_time(value.decode(errors="replace"))
    if isinstance(value, datetime.datetime):
        return math.floor((value - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds())
    if isinstance(value, datetime.date):
        return (value - datetime.date(1970, 1, 1)).days * 86_400
    if value is None or isinstance(value, bool) or not math.isfinite(value) or value != int(value):
        raise Refused
    if not -(2**63) <= value < 2**63:
        raise Refused
    return int(value)


def text_time(value: str) -> Any:
    """What a time in text says."""
    try:
        if re.match(r"\d{4}-", value):
            moment = datetime.datetime.fromisoformat(value.replace(" UTC", "Z"))
            return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
        return Decimal(value)
    except (ValueError, decimal.InvalidOperation) as error:
        raise Refused from error


def meaning(case_of: "Shape", records: Sequence[dict[str, Any]]) -> list[Row] | None:
    """The rows of the records, None where one of them is refused."""
    rows: list[Row] = []
    try:
        for record in records:
            row: Row = (id_of(record["src"], case_of.source), id_of(record["dst"], case_of.target))
            if case_of.weight:
                row += (weight_of(record["weight"]),)
            if case_of.time:
                row += (time_of(record["time"]),)
            rows.append(row)
    except Refused:
        return None
    return rows


@dataclass(frozen=True)
class Shape:
    """What a file is to hold."""

    source: IdKind
    target: IdKind
    weight: bool
    time: bool
    names: tuple[str, ...]

    @staticmethod
    def drawn(rng: random.Random) -> "Shape":
        """Kinds of ids, perhaps a weight and a time, up to three columns that nobody reads, in any order."""
        kinds: tuple[IdKind, ...] = ("int64", "string")
        weight, time = rng.random() < 0.4, rng.random() < 0.4
        names = ["src", "dst", *["weight"] * weight, *["time"] * time, *[f"more {i}" for i in range(rng.randrange(3))]]
        rng.shuffle(names)
        return Shape(rng.choice(kinds), rng.choice(kinds), weight, time, tuple(names))


# Text.

SIGNS = ("a", "b", "7", " ", "é", "😀", "'", "-", "NA", "null", "a longer piece of text")
WEIGHTS = ("0", "1", "2.5", "1e3", "3.4e38", "0.1", "1e-45", "00.5")
BAD_WEIGHTS = ("", "x", "nan", "-1", "inf", "1e39", "1e-46", "0x10")
TIMES = (
    *("0", "-5", "1700000000", "9223372036854775807", "1.7e9", "1700000000.0", "2026-01-31", "1969-12-31T23:59:58"),
    *("2026-01-31T12:00:01.5+02:00", "2026-01-31 12:00:01.123456Z", "2026-01-31 12:00:01 UTC", "0001-01-01"),
)
BAD_TIMES = ("", "x", "0x1f", "1.5", "9223372036854775808", "2026-02-30", "2026-01-31T25:00", "31.01.2026")
BAD_IDS = {"int64": ("", "x", "-1", "007", "1.0", "1e3", " 1", "9223372036854775808"), "string": ("", "x" * 257)}


def text_field(rng: random.Random, shape: Shape, name: str, special: tuple[str, ...], bad: bool) -> str:
    """What a field says, before it is quoted; `special` are the signs that must be."""
    if name == "weight":
        return rng.choice(BAD_WEIGHTS if bad else WEIGHTS)
    if name == "time":
        return rng.choice(BAD_TIMES if bad else TIMES)
    kind = {"src": shape.source, "dst": shape.target}.get(name)
    if kind is not None and bad:
        return rng.choice(BAD_IDS[kind])
    if kind == "int64":
        return str(rng.choice((rng.randrange(10), rng.randrange(10**6), rng.randrange(2**63))))
    return "".join(rng.choice((*SIGNS, *special)) for _ in range(rng.randrange(1 if kind else 0, 9)))


def delimited_case(rng: random.Random, sort: str) -> Case:
    """A CSV or TSV file with whatever the two may hold, now and then with a fault."""
    shape = Shape.drawn(rng)
    quotes = sort == "csv"
    delimiter = rng.choice(",,,,;\t|") if quotes else "\t"
    special = (delimiter, '"', "\n", "\r", "\r\n") if quotes else ('"', ",")
    end = rng.choice(("\n", "\n", "\r\n", "\r"))
    fault = rng.choice(("value", "ragged", "open quote", "bytes", "zero byte")) if rng.random() < 0.25 else ""
    count = rng.choice((0, 1, 2, 20, 60))
    header = rng.random() < 0.8
    lines = [[quoted(name, delimiter, rng, quotes) for name in shape.names]] if header else []
    for number in range(count):
        bad = fault == "value" and number == count // 2
        fields = [text_field(rng, shape, name, special, bad) for name in shape.names]
        lines.append([quoted(field, delimiter, rng, quotes) for field in fields])
    if fault == "ragged" and count:
        lines[-1] = lines[-1][:-1] if rng.random() < 0.5 else [*lines[-1], "more"]
    if fault == "open quote" and quotes and count:
        lines[-1][-1] = '"' + lines[-1][-1].strip('"').replace('"', "")
    blank = [""] * 3 if rng.random() < 0.2 else [""]
    body = "".join(delimiter.join(line) + end * len(rng.choice((blank, [""]))) for line in lines)
    data = (body.removesuffix(end) if rng.random() < 0.3 else body).encode()
    if fault == "bytes" and count:
        data = data.replace(b"a", b"\xff").replace(b"7", b"\xed\xa0\x80", 1)
    if fault == "zero byte" and count:
        data = data.replace(rng.choice((b"a", b"7")), b"\0")
    columns, plain_text = None if header else shape.names, data
    expected = expected_of_text(data, shape, delimiter, quotes, columns)
    if fault != "bytes" and rng.random() < 0.1:
        data = data.decode().encode("utf-16")
    elif rng.random() < 0.2:
        data = b"\xef\xbb\xbf" + data
    ending = rng.choice(("", "", *COMPRESSIONS))
    name = f"edges.{sort}{ending}"
    return Case(
        *(name, COMPRESSIONS[ending](data), shape.source, shape.target, shape.weight, shape.time, columns),
        expected,
        may_refuse=fault == "open quote" or b"\0" in plain_text,
    )


def quoted(field: str, delimiter: str, rng: random.Random, quotes: bool) -> str:
    """The field, quoted where it must be and now and then where it need not."""
    must = any(sign in field for sign in (delimiter, "\n", "\r")) or field.startswith('"') or field == ""
    if quotes and (must or rng.random() < 0.3):
        return '"' + field.replace('"', '""') + '"'
    return field


def expected_of_text(
    data: bytes, shape: Shape, delimiter: str, quotes: bool, columns: tuple[str, ...] | None
) -> list[Row] | None:
    """What Python's csv module and the meaning of the values make of it."""
    lines = io.StringIO(data.decode(errors="surrogateescape"), newline="")
    reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE)
    records = [record for record in reader if record]
    names = list(columns) if columns else (records.pop(0) if records else [])
    if any(len(record) != len(names) for record in records):
        return None
    values = [[field.encode(errors="surrogateescape") for field in record] for record in records]
    return meaning(shape, [dict(zip(names, record, strict=True)) for record in values])


def large_case(rng: random.Random) -> Case:
    """A CSV file in which a field of many line breaks lies across the end of a block of 1 MiB."""
    shape = Shape("string", "string", False, False, ("src", "dst", "more"))
    blocks, end = rng.randrange(1, 3), rng.choice(("\n", "\r\n"))
    lines = [f"src,dst,more{end}"]
    length, number = 0, 0
    nasty = (
        f'"a{end}b, ""c""{end}{end}","{end}d",""{end}' + f'u,p,"Went there.{end}Well, Bob, fine{end}Good, cheap"{end}'
    )
    until = blocks * (1 << 20) - len(nasty) + rng.randrange(-4, len(nasty) + 4)
    while length < until - 40:
        lines.append(f'u{number},p{number % 500},"x{end}y"{end}')
        length += len(lines[-1])
        number += 1
    lines.append(f"u,p,{'z' * (until - length - len(lines[0]))}{end}")
    data = "".join([*lines, nasty, f"last,row,{end}"]).encode()
    return Case(
        "edges.csv", data, "string", "string", False, False, None, expected_of_text(data, shape, ",", True, None)
    )


# Parquet. A type is a name of Arrow's and what draws a value of it; the oracle sees what pyarrow gives back.

Draw = Callable[[random.Random, bool], Any]


def integers(low: int, high: int) -> Draw:
    """Integers up to below `high`, as far as they are ids; a bad one is the lowest, or too high."""
    top = min(high, 2**63)
    return lambda rng, bad: rng.choice((low, high - 1)) if bad else rng.choice((rng.randrange(top), 9, top - 1))


def decimals(digits: int, scale: int) -> Draw:
    """Whole decimals; a bad one has a fraction."""
    return lambda rng, bad: Decimal(rng.randrange(10**digits)) + (Decimal(1).scaleb(-scale) if bad and scale else 0)


def words(rng: random.Random, bad: bool) -> str:
    """Text that is an id, perhaps of digits."""
    sound = rng.choice((str(rng.randrange(10**6)), "".join(rng.choice(SIGNS) for _ in range(rng.randrange(1, 6)))))
    return rng.choice(("", "x" * 257)) if bad else sound


def seconds(unit: int) -> Draw:
    """Counts of a unit since 1970 and before it."""
    return lambda rng, bad: rng.randrange(-(10**9) * unit, 4 * 10**9 * unit)


INTEGERS: list[tuple[Any, Draw]] = [
    *((kind, integers(-(2 ** (bits - 1)), 2 ** (bits - 1))) for kind, bits in ((pa.int8(), 8), (pa.int16(), 16))),
    *((kind, integers(-(2 ** (bits - 1)), 2 ** (bits - 1))) for kind, bits in ((pa.int32(), 32), (pa.int64(), 64))),
    *((kind, integers(0, 2**bits)) for kind, bits in ((pa.uint8(), 8), (pa.uint32(), 32), (pa.uint64(), 64))),
]
DECIMALS: list[tuple[Any, Draw]] = [
    *((pa.decimal128(38, 0), decimals(20, 0)), (pa.decimal128(38, 10), decimals(18, 10))),
    *(
        (pa.decimal256(60, 3), decimals(18, 3)),
        (pa.decimal64(18, 2), decimals(15, 2)),
        (pa.decimal32(9, 0), decimals(9, 0)),
    ),
]
TEXT_TYPES = (
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.binary_view(),
    pa.dictionary(pa.int32(), pa.string()),
)
IDS = [
    *(*INTEGERS, *DECIMALS, *((kind, words) for kind in TEXT_TYPES)),
    *((kind, lambda rng, bad: rng.randbytes(16)) for kind in (pa.binary(16), pa.uuid())),
    (pa.float64(), lambda rng, bad: 1.0),
]
WEIGHT_COLUMNS = [
    *(*INTEGERS, *DECIMALS),
    *(
        (kind, lambda rng, bad: rng.choice((math.nan, -1.0, math.inf) if bad else (0.0, 0.5, 3.0)))
        for kind in (pa.float64(), pa.float32(), pa.float16())
    ),
    (pa.string(), lambda rng, bad: rng.choice(BAD_WEIGHTS if bad else WEIGHTS)),
]
TIME_COLUMNS = [
    *(*INTEGERS, *DECIMALS),
    (pa.float64(), lambda rng, bad: rng.choice((0.5, math.nan, 1e300) if bad else (0.0, -7.0, 1e18))),
    (pa.string(), lambda rng, bad: rng.choice(BAD_TIMES if bad else TIMES)),
    *((pa.timestamp(unit, zone), seconds(scale)) for unit, scale in UNITS.items() for zone in (None, "Europe/Berlin")),
    (pa.date32(), lambda rng, bad: rng.randrange(-700_000, 2_900_000)),
    (pa.date64(), lambda rng, bad: 86_400_000 * rng.randrange(-700_000, 2_900_000)),
]


def parquet_case(rng: random.Random) -> Case:
    """A Parquet file of any types, now and then with a null or another fault."""
    shape = Shape.drawn(rng)
    count = rng.choice((0, 1, 7, 40))
    arrays: dict[str, Any] = {}
    values: dict[str, list[Any]] = {}
    for name in shape.names:
        kinds = {"weight": WEIGHT_COLUMNS, "time": TIME_COLUMNS}.get(name, IDS)
        if "int64" in (name == "src" and shape.source, name == "dst" and shape.target) and rng.random() < 0.9:
            kinds = [*INTEGERS, *DECIMALS]  # most other types hold no integer ids
        kind, draw = rng.choice(kinds)
        fault = rng.choice(("value", "null")) if rng.random() < 0.15 else ""
        drawn = [draw(rng, fault == "value" and i == count // 2) for i in range(count)]
        if fault == "null" and count:
            drawn[count // 2] = None
        counted = pa.types.is_temporal(kind)  # moments are made of counts, and the oracle keeps to these
        arrays[name] = (
            (pa.array(drawn, pa.int32() if kind == pa.date32() else pa.int64()) if counted else pa.array(drawn)).cast(
                kind
            )
            if counted
            else array_of(drawn, kind)
        )
        values[name] = (
            [moment(value, kind) for value in drawn]
            if counted
            else [plain(value, kind) for value in arrays[name].to_pylist()]
        )
    sink = io.BytesIO()
    codec = rng.choice(("none", "snappy", "zstd", "gzip"))
    pq.write_table(pa.table(arrays), sink, compression=codec, row_group_size=rng.choice((1, 3, 1000)))
    records = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return Case(
        *(f"edges{rng.choice(('.parquet', '.pq'))}", sink.getvalue(), shape.source, shape.target, shape.weight),
        *(shape.time, None, meaning(shape, records)),
    )


def array_of(values: list[Any], kind: Any) -> Any:
    """An array of a type, of which pyarrow makes some only out of others."""
    if kind == pa.float16():
        return pa.array([None if value is None else np.float16(value) for value in values], kind)
    return pa.array(values).cast(kind) if kind in (pa.binary(), pa.binary_view()) and values else pa.array(values, kind)


def moment(value: int | None, kind: Any) -> int | None:
    """The Unix second of a count."""
    if value is None:
        return None
    if kind == pa.date32():
        return value * 86_400
    return value // (1000 if kind == pa.date64() else UNITS[kind.unit])


def plain(value: Any, kind: Any) -> Any:
    """What pyarrow gives back, with text as bytes; sixteen bytes are a UUID."""
    if isinstance(value, bytes) and kind == pa.binary(16):
        value = uuid.UUID(bytes=value)
    if isinstance(value, str | uuid.UUID):
        return str(value).encode()
    return value


# JSON lines.


def json_case(rng: random.Random) -> Case:
    """A file of JSON lines, now and then with a value, a line or a byte that is none."""
    shape = Shape.drawn(rng)
    fault = rng.choice(("value", "line", "bytes")) if rng.random() < 0.25 else ""
    count = rng.choice((1, 2, 20, 60))
    records, lines = [], []
    for number in range(count):
        record = {name: json_value(rng, shape, name) for name in shape.names}
        if fault == "value" and number == count // 2:
            record[rng.choice(("src", "dst"))] = rng.choice((None, True, [], {}, 0.5, "x" * 257, -1, 10**30))
        records.append(record)
        lines.append(json.dumps(record, ensure_ascii=rng.random() < 0.5))
    if fault == "line":
        lines[-1] = rng.choice(
            (lines[-1][:-1], f"[{lines[-1]}]", lines[-1] * 2, "null", lines[-1].replace("{", "{\n", 1))
        )
    end = rng.choice(("\n", "\r\n", "\n\n", " \n"))
    data = (end.join(lines) + (end if rng.random() < 0.7 else "")).encode()
    if fault == "bytes":
        data = data.replace(b"}", b', "strange": "\xff"}', 1)
    given = [{name: plain(value, None) for name, value in record.items()} for record in records]
    ending = rng.choice(("", *COMPRESSIONS))
    return Case(
        *(f"edges{rng.choice(('.jsonl', '.ndjson'))}{ending}", COMPRESSIONS[ending](data), shape.source, shape.target),
        *(shape.weight, shape.time, None, None if fault in ("line", "bytes") else meaning(shape, given)),
        may_refuse=fault == "bytes",
    )


def json_value(rng: random.Random, shape: Shape, name: str) -> Any:
    """A sound value of a key; a column of weights has numbers alone."""
    if name == "weight":
        return rng.choice((0, 1, 0.5, 1e30))
    if name == "time":
        return rng.choice((*TIMES, -5, 1_700_000_000))
    kind = {"src": shape.source, "dst": shape.target}.get(name)
    number = rng.choice((rng.randrange(10), rng.randrange(2**63)))
    if kind == "int64" or (kind is not None and rng.random() < 0.3):
        return rng.choice((number, str(number)))
    return words(rng, False)


CASES: dict[str, Callable[[random.Random], Case]] = {
    "CSV": lambda rng: delimited_case(rng, "csv"),
    "TSV": lambda rng: delimited_case(rng, "tsv"),
    "Parquet": parquet_case,
    "JSON lines": json_case,
}

"""What an operation is, and the two halves of every call: a request made of arguments, an answer made of bytes.

Nothing here waits or connects: the client that blocks and the one that is awaited share it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec
import numpy as np

from twhin_client.errors import (
    AccessRefused,
    AnswerUnreadable,
    Conflict,
    NotFound,
    Problem,
    RequestRefused,
    ServiceFailed,
    Unavailable,
    Unprocessable,
)
from twhin_client.problems import BY_CODE
from twhin_client.types import Violation
from twhin_client.vectors import Vectors

__all__ = ["Operation", "Plain", "Request", "Vectors", "answer_of", "problem_of", "request_of"]

Plain = Mapping[str, Any]
JSON_TYPE, OCTETS_TYPE = "application/json", "application/octet-stream"


class Operation:
    """One operation of the API. `asks`: it changes nothing, so it may be asked twice at once; `repeats`: it may be sent
    again where it is not known whether it arrived.
    """

    __slots__ = ("answer", "asks", "decoder", "head", "method", "name", "raw", "repeats", "text", "vectors", "tail")

    def __init__(
        self,
        name: str,
        method: str,
        path: str,
        answer: type[msgspec.Struct] | None,
        *,
        asks: bool,
        repeats: bool,
        vectors: bool = False,
        raw: bool = False,
        text: bool = False,
    ) -> None:
        self.name = name
        self.method = method
        self.head, *rest = [part.rpartition("}")[2] if part else "" for part in path.split("{")]
        self.tail = rest
        self.answer = answer
        self.asks = asks
        self.repeats = repeats
        self.vectors = vectors
        self.raw = raw
        self.text = text
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(answer or dict[str, Any])

    def path(self, ids: Iterable[str | int]) -> str:
        """The path with `ids` in their places, whatever signs they hold."""
        if not self.tail:
            return self.head
        return self.head + "".join(f"{_segment(str(one))}{tail}" for one, tail in zip(ids, self.tail, strict=True))


def _segment(text: str) -> str:
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if quoted.strip(".") == "" else quoted  # `..` would lead elsewhere


class Request(NamedTuple):
    """What is sent: `path` with its query, `content` or None."""

    operation: Operation
    path: str
    content: bytes | None


def _plain(value: Any) -> Any:
    """What msgspec does not write by itself: NumPy's arrays and numbers, any iterable."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


def request_of(operation: Operation, ids: Iterable[str | int], query: Plain | None, body: Any) -> Request:
    """The request of one call; what is None is not sent."""
    path = operation.path(ids)
    if query is not None:
        pairs = [(name, _spelt(value)) for name, value in query.items() if value is not None]
        if pairs:
            path += "?" + urlencode(pairs, doseq=True)
    return Request(operation, path, None if body is None else _encode(body))


def _spelt(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str | int) else [str(one) for one in value]


def answer_of(request: Request, status: int, headers: Mapping[str, str], content: bytes, ids: Any = ()) -> Any:
    """The answer that `content` is. Raises Problem for one that is an error, AnswerUnreadable for what is neither."""
    operation = request.operation
    if status >= 400:
        raise problem_of(status, headers, content)
    if operation.raw:
        return content
    if operation.text:
        return content.decode("utf-8", errors="replace")
    if operation.vectors:
        return Vectors.of_octets(ids, headers, content)
    try:
        return operation.decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AnswerUnreadable(f"the answer to {operation.name} is none of this API: {error}") from error


class _Document(msgspec.Struct):
    code: str = ""
    detail: str = ""
    title: str = ""
    request_id: str | None = None
    errors: list[dict[str, Any]] = []


_decode_problem = msgspec.json.Decoder(_Document).decode


def problem_of(status: int, headers: Mapping[str, str], content: bytes) -> Problem:
    """The exception of an answer that is an error, also of one that a proxy has made."""
    try:
        document = _decode_problem(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        document = _Document()
    code = document.code or f"http_{status}"
    return BY_CODE.get(code, _of_status(status))(
        document.detail or document.title or f"the service answered {status}",
        status=status,
        code=code,
        request_id=document.request_id or headers.get("x-request-id"),
        errors=[
            Violation(pointer=str(one.get("pointer", "")), message=str(one.get("message", "")))
            for one in document.errors
        ],
        retry_after=_seconds(headers.get("retry-after")),
    )


_BY_STATUS: Mapping[int, type[Problem]] = {
    401: AccessRefused,
    403: AccessRefused,
    404: NotFound,
    409: Conflict,
    422: Unprocessable,
    503: Unavailable,
}


def _of_status(status: int) -> type[Problem]:
    """The class above all codes of a status: for codes of a newer service."""
    return _BY_STATUS.get(status, RequestRefused if status < 500 else ServiceFailed)


def _seconds(text: str | None) -> float | None:
    """`Retry-After` in seconds; a date, which the service never sends, is passed over."""
    return float(text) if text is not None and text.isdecimal() else None

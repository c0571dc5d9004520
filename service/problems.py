"""Errors on the wire: RFC 9457 problem documents with a stable code. They never repeat what was sent."""

import errno
from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from bundle.errors import (
    BundleError,
    BundleNotFound,
    BundlesBusy,
    BundlesReadOnly,
    FilterInvalid,
    GateRefused,
    StateError,
    TwhinError,
)

CONTENT_TYPE = "application/problem+json"

# The HTTP status of every code, in one place.
STATUS: Mapping[str, int] = {
    "malformed": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "origin_refused": 403,
    "entity_not_found": 404,
    "version_not_found": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "not_acceptable": 406,
    "version_refused": 409,
    "bundles_busy": 409,
    "bundles_read_only": 409,
    "gate_refused": 409,
    "bundle_incomplete": 409,
    "bundle_altered": 409,
    "bundle_invalid": 409,
    "bundle_format_unsupported": 409,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "host_unknown": 421,
    "invalid": 422,
    "query_invalid": 422,
    "filter_invalid": 422,
    "head_too_large": 431,
    "internal": 500,
    "overloaded": 503,
    "not_ready": 503,
    "files_unavailable": 503,
    "state_unavailable": 503,
    "deadline_exceeded": 504,
}

TITLES: Mapping[int, str] = {
    400: "The request is malformed",
    401: "A key is needed",
    403: "This is not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "No such representation",
    409: "The state does not allow this",
    413: "The body is too large",
    415: "Unsupported media type",
    421: "Not a name of this service",
    422: "The request cannot be answered",
    431: "The head of the request is too large",
    500: "An error on our side",
    503: "Not now",
    504: "The deadline passed",
}


# What is told of an error of the versions: the first that fits.
_OF_VERSIONS: Mapping[type[BundleError], str] = {
    BundleNotFound: "that version is not kept here; /v1/info lists the ones that are",
    GateRefused: "a measurement of that version is below its floor; /admin/v1/versions and the log say which",
    BundlesBusy: "another change of version is under way; ask again when it is over",
    BundlesReadOnly: "the service may not write to its versions; publish where they are built",
    BundleError: "that version cannot be served; /v1/info and the log say why",
}
# What the system says where it has no file, thread or memory left: soon it may.
_NONE_LEFT = {errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Violation(msgspec.Struct, frozen=True):
    """One thing wrong with a request: a JSON pointer to it and what was expected there."""

    pointer: str
    message: str


class ProblemDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457, with a stable `code` and the `request_id` that the logs have too."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    errors: tuple[Violation, ...] = ()


class Problem(Exception):
    """An answer that is an error. `detail` must hold nothing that the client sent."""

    def __init__(
        self, code: str, detail: str, errors: tuple[Violation, ...] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})

    @property
    def status(self) -> int:
        return STATUS.get(self.code, 500)

    def body(self, request_id: str) -> bytes:
        """The problem document as JSON."""
        return msgspec.json.encode(
            ProblemDocument(
                type=f"urn:twhin:problem:{self.code}",
                title=TITLES.get(self.status, "Error"),
                status=self.status,
                code=self.code,
                detail=self.detail,
                request_id=request_id,
                errors=self.errors,
            )
        )


def invalid(pointer: str, message: str) -> Problem:
    """A request that is well-formed but cannot be answered, because of the value at `pointer`."""
    return Problem("invalid", message, (Violation(pointer, message),))


def overloaded(detail: str) -> Problem:
    """More work than the service takes on; the client may try again."""
    return Problem("overloaded", detail, headers={"retry-after": "1"})


def too_large(limit: int) -> Problem:
    """A body of more than `limit` bytes; what is left of it is not read."""
    return Problem("body_too_large", f"the body may have {limit} bytes at most", headers={"connection": "close"})


def not_ready(detail: str) -> Problem:
    """Nothing to serve yet."""
    return Problem("not_ready", detail, headers={"retry-after": "2"})


def problem_of(error: BaseException) -> Problem:
    """The problem document of an error: a problem already, of the parts below, or any other, which is internal. What a
    bundle error says is for the operator.
    """
    if isinstance(error, Problem):
        return error
    if is_exhaustion(error):
        return overloaded("the service has no files, threads or memory left; its log says which")
    if is_refused_file(error):
        return Problem(
            "files_unavailable",
            "the system refuses a file to the service; its log says which",
            headers={"retry-after": "1"},
        )
    if not isinstance(error, TwhinError):
        return Problem("internal", "unexpected")
    if isinstance(error, BundleError):
        return Problem(error.code, next(told for kind, told in _OF_VERSIONS.items() if isinstance(error, kind)))
    if isinstance(error, FilterInvalid):
        return Problem(error.code, str(error), (Violation(error.pointer, str(error)),))
    if isinstance(error, StateError):
        return Problem(error.code, str(error), headers={"retry-after": "1"})
    return Problem(error.code if error.code in STATUS else "internal", str(error))


def is_refused_file(error: BaseException) -> bool:
    """Whether the system refused a file, by name, which is no fault of ours: that of a permission, or of a file system
    that went away.
    """
    return isinstance(error, OSError) and error.filename is not None


def is_exhaustion(error: BaseException | None) -> bool:
    """Whether the system had nothing left that the work needed, which is no fault of the work: `error` says so, or what
    it came from.
    """
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _NONE_LEFT):
            return True
        if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
            return True
        error = error.__cause__
    return False


def problem_of_status(status: int) -> Problem:
    """The problem document of a status that the framework decided on."""
    code = {404: "not_found", 405: "method_not_allowed", 406: "not_acceptable", 413: "body_too_large"}.get(status)
    return Problem(code or "internal", "no such path" if status == 404 else TITLES.get(status, "error"))


def problem_of_decoding(error: Exception, body: type, at: str = "") -> Problem:
    """What is wrong with a body that msgspec refused as a `body`, without a word of the body itself; `at` is where in a
    request it stands.
    """
    if not isinstance(error, msgspec.ValidationError):
        return Problem("malformed", f"{at or 'the body'} must be one JSON document in UTF-8")
    text, _, path = str(error).rstrip("`").partition(" - at `")
    if text.startswith("Object contains unknown field"):
        text = f"an unknown field; there are: {', '.join(_fields_at(path, body))}"
    elif text.startswith("Invalid"):
        text = "not one of the values allowed here"
    return invalid(at + _pointer(path), text)


def _fields_at(path: str, body: type) -> list[str]:
    """The fields of what `path` leads to in a `body`, as `$.pairs[0]` or `$.filter`."""
    for name in path.split(".")[1:]:
        for field in msgspec.structs.fields(body):
            if field.encode_name == name.partition("[")[0]:
                body = _struct_in(field.type) or body
    return [field.encode_name for field in msgspec.structs.fields(body)]


def _struct_in(annotation: Any) -> type[msgspec.Struct] | None:
    """The type of the objects in an annotation, such as `list[…]` or `… | None`; None of those that refer to their own
    type by its name.
    """
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    return next(filter(None, map(_struct_in, get_args(annotation))), None)


def _pointer(path: str) -> str:
    """msgspec's `$.a[0].b` as a JSON pointer; a client's own key, shown as `[...]`, stays a star."""
    return path.replace("[...]", "/*").replace("[", "/").replace("]", "").replace(".", "/").lstrip("$")

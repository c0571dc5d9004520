"""Every error of the client: one tree, each with a stable code.

TwhinError
├── Problem                  the service refused; `code` is its own, `status` the HTTP status
│   ├── RequestRefused       4xx: asking again changes nothing
│   │   ├── AccessRefused    401, 403
│   │   ├── NotFound         404
│   │   ├── Conflict         409
│   │   └── Unprocessable    422
│   └── ServiceFailed        5xx
│       └── Unavailable      503: the client has asked again already
├── Unreachable              nobody answered, or the connection broke
├── AnswerUnreadable         what came is no answer of this API
└── CodebookMismatch         codes and a codebook that do not belong together

`twhin_client.problems` has a class for every code under these. A code that it does not know, of a newer service, is
raised as the class of its status, with the code as it came.
"""

from collections.abc import Sequence

from twhin_client.types import Violation


class TwhinError(Exception):
    """Base of all errors raised on purpose. `code` is stable."""

    code = "error"


class Problem(TwhinError):
    """The service refused or failed. `retry_after` is in seconds; `status` is None where the client found it itself."""

    code = "problem"

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        errors: Sequence[Violation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        if code is not None:
            self.code = code
        self.detail = detail
        self.status = status
        self.request_id = request_id
        self.errors = tuple(errors)
        self.retry_after = retry_after

    def __str__(self) -> str:
        places = "; ".join(f"{one.pointer}: {one.message}" for one in self.errors)
        told = f"{self.code}: {places or self.detail}"
        return told if self.request_id is None else f"{told} (request {self.request_id})"


class RequestRefused(Problem):
    """The request cannot be answered as it is."""


class AccessRefused(RequestRefused):
    """A key is needed, or another one."""


class NotFound(RequestRefused):
    """There is no such path; under it, no such entity or version."""

    code = "not_found"


class Conflict(RequestRefused):
    """The state of the service's versions does not allow this."""


class Unprocessable(RequestRefused):
    """Well-formed, but it cannot be answered."""


class ServiceFailed(Problem):
    """The service has failed."""


class Unavailable(ServiceFailed):
    """Not now."""


class Unreachable(TwhinError):
    """No connection, or one that broke before the answer; `sent`: whether the request may have arrived."""

    code = "unreachable"

    def __init__(self, detail: str, *, sent: bool) -> None:
        super().__init__(detail)
        self.sent = sent


class AnswerUnreadable(TwhinError):
    """What answered is no twhin, or one whose answers this release of the client cannot read."""

    code = "answer_unreadable"


class CodebookMismatch(TwhinError):
    """The codes are of another codebook than the decoder."""

    code = "codebook_mismatch"

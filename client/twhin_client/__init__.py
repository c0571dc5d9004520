"""A client of the twhin service, and a reader of versions on disk."""

from twhin_client.aio import AsyncClient
from twhin_client.client import Client
from twhin_client.errors import (
    AccessRefused,
    AnswerUnreadable,
    CodebookMismatch,
    Conflict,
    NotFound,
    Problem,
    RequestRefused,
    ServiceFailed,
    TwhinError,
    Unavailable,
    Unprocessable,
    Unreachable,
)
from twhin_client.features import FeatureDecoder
from twhin_client.history import History, ServedVectors, history
from twhin_client.local import Entities, Space, Version, open
from twhin_client.shared import UserResult
from twhin_client.vectors import Vectors

__all__ = [
    "AccessRefused",
    "AnswerUnreadable",
    "AsyncClient",
    "Client",
    "CodebookMismatch",
    "Conflict",
    "Entities",
    "FeatureDecoder",
    "History",
    "NotFound",
    "Problem",
    "RequestRefused",
    "ServedVectors",
    "ServiceFailed",
    "Space",
    "TwhinError",
    "Unavailable",
    "Unprocessable",
    "Unreachable",
    "UserResult",
    "Vectors",
    "Version",
    "history",
    "open",
]

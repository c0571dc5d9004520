"""The JSON of /v1/versions."""

import msgspec

from service.wire.common import Answer


class PublishedVersion(msgspec.Struct, frozen=True):
    """`version` was published at `at`, in seconds since 1970, until the next one was. `kept`: it is still on disk."""

    version: str
    at: float
    kept: bool


class VersionsAnswer(Answer):
    """What was published when, oldest first; nothing of the time before that was written down."""

    history: list[PublishedVersion]

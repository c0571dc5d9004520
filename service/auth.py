"""API keys: who may read, write and administer. Compared in constant time, never logged."""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Literal

from pydantic import SecretStr

from service.problems import Problem
from service.settings import Settings

Scope = Literal["open", "read", "write", "admin"]
RANK = {"open": 0, "read": 1, "write": 2, "admin": 3}


class Keys:
    """The configured keys as digests. With none configured, reading and writing are open and /admin is off."""

    def __init__(self, settings: Settings) -> None:
        self._granted = [
            *_digests(settings.read_keys, "read"),
            *_digests(settings.write_keys, "write"),
            *_digests(settings.admin_keys, "admin"),
        ]
        self._admin_on = bool(settings.admin_keys)

    def check(self, key: str | None, needed: Scope) -> None:
        """Raises Problem 401 without a known `key`, 403 with one that does not reach, 404 where /admin is off."""
        if needed == "admin" and not self._admin_on:
            raise Problem("not_found", "no such path")
        if needed == "open" or not self._granted:
            return
        granted = 0 if key is None else self._rank_of(key)
        if granted == 0:
            raise Problem(
                "unauthorized",
                "send a key as `Authorization: Bearer …` or `X-Api-Key`",
                headers={"www-authenticate": "Bearer"},
            )
        if granted < RANK[needed]:
            raise Problem("forbidden", f"this needs a key with the {needed} scope")

    def reaches(self, key: str | None, needed: Scope) -> bool:
        """Whether `key` may do what needs that scope; without any keys everybody may."""
        return not self._granted or (key is not None and self._rank_of(key) >= RANK[needed])

    def _rank_of(self, key: str) -> int:
        """The best scope of `key`. Every configured key is compared, whichever matches."""
        digest = hashlib.sha256(key.encode("latin-1", "replace")).digest()
        return max([rank * hmac.compare_digest(digest, known) for known, rank in self._granted], default=0)


def _digests(keys: Sequence[SecretStr], scope: Scope) -> list[tuple[bytes, int]]:
    return [(hashlib.sha256(key.get_secret_value().encode()).digest(), RANK[scope]) for key in keys]

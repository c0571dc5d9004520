"""Which arm of an experiment a user is in, and how sure a rate is: plain arithmetic, which others can repeat.

    bucket = the first four bytes of SHA-256(salt ":" user), as a big-endian number, modulo 10,000

in UTF-8. The arms have the buckets from 0 on, in the order in which they are listed, `share` · 10,000 each; whoever is
in a bucket beyond the last arm's takes no part. docs/experimenting.md has the same in Python and SQL.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

BUCKETS = 10_000
# The normal quantile of 95% on both sides.
Z = 1.959963984540054


def bucket_of(salt: str, user: str) -> int:
    """The bucket of a user, 0 … 9,999."""
    return _bucket(_begun(salt), user)


def _begun(salt: str) -> "_Hash":
    """The part that all users' digests have in common: to go on from a copy takes half the time."""
    return sha256(_bytes_of(f"{salt}:"))


def _bucket(begun: "_Hash", user: str) -> int:
    digest = begun.copy()
    digest.update(_bytes_of(user))
    return int.from_bytes(digest.digest()[:4], "big") % BUCKETS


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of answering: a strategy of a version, for those in `buckets` of the 10,000. Without a `version` it is
    the one that serves.
    """

    name: str
    strategy: str
    buckets: int
    version: str | None = None


class Experiment:
    """Arms that share the users of one relation, or of all where `relation` is None."""

    __slots__ = ("_begun", "_ends", "arms", "name", "relation", "salt")

    def __init__(self, name: str, arms: Sequence[Arm], *, salt: str | None = None, relation: str | None = None) -> None:
        """The salt is the name unless it is given; the arms have 10,000 buckets together at most."""
        self.name = name
        self.salt = name if salt is None else salt
        self.relation = relation
        self.arms = tuple(arms)
        self._begun = _begun(self.salt)
        self._ends = list(accumulate(arm.buckets for arm in arms))

    def arm_of(self, user: str) -> Arm | None:
        """The arm that the user is in, None for whoever takes no part."""
        position = bisect_right(self._ends, _bucket(self._begun, user))
        return self.arms[position] if position < len(self.arms) else None

    def starts(self) -> list[int]:
        """The first bucket of each arm."""
        return [end - arm.buckets for arm, end in zip(self.arms, self._ends, strict=True)]


def wilson(successes: int, trials: int, z: float = Z) -> tuple[float, float] | None:
    """The score interval of a binomial rate (Wilson 1927), by default of 95%; None without trials, or where there are
    more successes than trials, which no rate explains.
    """
    if not 0 <= successes <= trials or trials == 0:
        return None
    rate, share = successes / trials, z * z / trials
    middle = (rate + share / 2) / (1 + share)
    half = z / (1 + share) * math.sqrt(rate * (1 - rate) / trials + share / (4 * trials))
    # At the ends, where a bound is the rate itself, rounding must not leave it outside.
    return max(0.0, min(rate, middle - half)), min(1.0, max(rate, middle + half))

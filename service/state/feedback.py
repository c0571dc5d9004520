"""What is stored of feedback: how many impressions and clicks each arm had, and marks of the last that were counted."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal, NamedTuple

Kind = Literal["impression", "click"]
KINDS: tuple[Kind, ...] = ("impression", "click")
# Of each experiment so many are remembered, the last ones: what is sent again after as many others counts again.
MARKS_KEPT = 200_000


class Seen(NamedTuple):
    """One candidate that was shown or clicked, of one answer. No user is named, and none can be found by its mark."""

    arm: str
    kind: Kind
    mark: int  # 63 bits


class Count(NamedTuple):
    """What an arm had."""

    impressions: int = 0
    clicks: int = 0


def mark_of(request_id: str, arm: str, kind: Kind, target: str) -> int:
    """A number that no two things have, but by a chance of one in 10^13."""
    text = f"{request_id}\0{arm}\0{kind}\0{target}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1


def counts_of(rows: Sequence[tuple[str, str, int]]) -> dict[str, Count]:
    """The counts of each arm from (arm, kind, number)."""
    counts: dict[str, Count] = {}
    for arm, kind, number in rows:
        field = "impressions" if kind == "impression" else "clicks"
        counts[arm] = counts.get(arm, Count())._replace(**{field: number})
    return counts

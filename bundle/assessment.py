"""What a build is told about the relations of its staged version, before that gets its manifest: learnt, or why not."""

from collections.abc import Mapping
from typing import NamedTuple

from bundle.manifest import Gate, Measured, Strategy


class Assessment(NamedTuple):
    """What a build learns about one relation of its staged version: measurements and what they must reach, the
    strategies to ship, the best of them.
    """

    measured: Measured
    gates: tuple[Gate, ...]
    strategies: dict[str, Strategy]
    auto: str
    auto_newcomer: str | None


class Unlearnt(NamedTuple):
    """Why a build learns nothing about a relation, and which strategy answers it all the same.

    `auto` is one of `strategies`; None: the relation is answered as every unlearnt one.
    """

    reason: str
    auto: str | None = None
    strategies: dict[str, Strategy] = {}


# By name of the relation: what was learnt, or why nothing was.
Assessments = Mapping[str, Assessment | Unlearnt]

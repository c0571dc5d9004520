"""Whether a version may take the active one's place: its default's recall against the active default's.

Of two manifests and nothing else, so that whoever publishes needs none of the libraries that measure.
"""

import math
from collections.abc import Iterator

from bundle.manifest import Gate, Manifest

# What `auto` is chosen by: early and late, all edges and the ones that are not a mere following back.
JUDGED_BY = ("recall@10", "recall@50", "one_way_recall@10", "one_way_recall@50")
# How far recall may fall below the active version's, as a share, unless somebody says otherwise.
TOLERANCE = 0.05
# On how many users a strategy was measured, beside its metrics; versions from before do not say.
USERS = "users"
# Standard errors that a difference between two samples of users may come to by chance: one time in fifty.
CHANCE = 2.0


def compare(new: Manifest, active: Manifest | None, tolerance: float = TOLERANCE) -> list[Gate]:
    """Gates that refuse a version whose default answers got worse than the active one's by more than `tolerance`.

    `tolerance` is relative: 0.05 allows recall to fall by a twentieth, besides what two samples of users differ by
    chance. Of each relation that both have measured; nothing to compare, no gates: the first version, one built without
    validation edges, or a relation that only one of them knows.
    """
    if active is None:
        return []
    ours, theirs, default = _of_auto(new), _of_auto(active), _default_relation(new)
    gates = []
    for relation in ours.keys() & theirs.keys():
        of = "" if relation == default else f"{relation}: "
        gates += [
            gate.model_copy(update={"metric": f"{of}{gate.metric} against version {active.version}"})
            for gate in _gates(ours[relation], theirs[relation], tolerance)
        ]
    return sorted(gates, key=lambda gate: gate.metric)


def _gates(ours: dict[str, float], theirs: dict[str, float], tolerance: float) -> Iterator[Gate]:
    for metric in JUDGED_BY:
        if metric in ours and metric in theirs:
            chance = CHANCE * math.hypot(_standard_error(ours, metric), _standard_error(theirs, metric))
            floor = max(0.0, theirs[metric] * (1.0 - tolerance) - chance)
            yield Gate(metric=metric, floor=floor, measured=ours[metric])


def _standard_error(measured: dict[str, float], metric: str) -> float:
    """At most: values between 0 and 1 of this mean cannot vary more. 0 where it is not known of how many users."""
    share, users = measured[metric], measured.get(USERS, math.inf)
    return math.sqrt(share * (1.0 - share) / users) if users else 0.0


def _default_relation(manifest: Manifest) -> str:
    return next(iter(manifest.spaces.values())).default.relation


def _of_auto(manifest: Manifest) -> dict[str, dict[str, float]]:
    """What the default of each relation measured."""
    space = next(iter(manifest.spaces.values()))
    found = {}
    for relation in (space.default.relation, *space.relation_strategies):
        answers = space.answers(relation)
        rows = manifest.evaluation.of(relation, space.default.relation).strategies
        if answers is not None and answers.auto in rows:
            found[relation] = rows[answers.auto]
    return found

"""Whether a version may take the active one's place: its default's recall against the active default's.

Of two manifests and nothing else, so that publishing needs none of the libraries that measure.
"""

from bundle.manifest import Gate, Manifest

# What `auto` is chosen by: early and late, all edges and the ones that are not a mere following back.
JUDGED_BY = ("recall@10", "recall@50", "one_way_recall@10", "one_way_recall@50")


def compare(new: Manifest, active: Manifest | None, tolerance: float) -> list[Gate]:
    """Gates that refuse a version whose default answers got worse than the active one's by more than `tolerance`.

    `tolerance` is relative: 0.05 allows recall to fall by a twentieth. Nothing to compare, no gates: the
    first version, or one built without validation edges.
    """
    if active is None:
        return []
    ours, theirs = _of_auto(new), _of_auto(active)
    shared = [metric for metric in JUDGED_BY if metric in ours and metric in theirs]
    name = f"against version {active.version}"
    return [
        Gate(metric=f"{metric} {name}", floor=theirs[metric] * (1.0 - tolerance), measured=ours[metric])
        for metric in shared
    ]


def _of_auto(manifest: Manifest) -> dict[str, float]:
    first = next(iter(manifest.spaces.values()))
    return manifest.evaluation.strategies.get(first.auto, {})

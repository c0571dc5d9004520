"""Who must not be in the answer: the user, whom they already follow or blocked, whom the request names."""

from bundle.space import Relation, Space
from recommend.profile import Profile, known_rows
from recommend.types import Exclusions, LiveEdges


def build_exclusions(
    space: Space, relation: Relation, profile: Profile, live: LiveEdges, exclude: tuple[str, ...], exclude_seen: bool
) -> Exclusions:
    """Self and blocked always; the profile's targets unless `exclude_seen` is false; the ids that the request names."""
    entry = relation.entry
    named = (*exclude, *live.blocked.get(entry.target, ()))
    others: list[int] = known_rows(space.entities[entry.target].ids.rows(named)).tolist() if named else []
    if entry.source == entry.target and profile.row is not None:
        others.append(int(profile.row))
    seen = profile.targets if exclude_seen else profile.targets[:0]
    return Exclusions(seen, tuple(others))

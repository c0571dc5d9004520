"""Which target types are clustered together, each group by itself, and whose mixtures over its clusters are stored."""

from collections.abc import Sequence
from typing import NamedTuple

from bundle.errors import ConfigError
from bundle.manifest import DefaultQuery
from bundle.run import Run

# A medoid's type is told in 8 bits.
MOST_TYPES = 256


class Group(NamedTuple):
    """Target types whose clusters are counted together, and the users whose mixtures over them are stored."""

    types: tuple[str, ...]
    user_type: str


def groups_of(run: Run, default: DefaultQuery, together: Sequence[str] | None) -> list[Group]:
    """The types that are to be `together` (None: the default candidate type), then every other type that a relation
    leads to, by itself, in the order of the relations, up to MOST_TYPES types: those after them are not clustered.

    Users are those of the default relation, where they have a relation to the types, else those of the relation with
    the most edges to them. Raises ConfigError where no relation leads to the types that are to be together, or these
    are more than MOST_TYPES.
    """
    first = tuple(together or (default.candidate_type,))
    if len(first) > MOST_TYPES:
        raise ConfigError(f"clusters.types has {len(first)} types; at most {MOST_TYPES} can be clustered.")
    others = [(name,) for name in not_clustered(run, first)][: MOST_TYPES - len(first)]
    return [Group(types, _users(run, default, types)) for types in (first, *others)]


def not_clustered(run: Run, clustered: Sequence[str]) -> list[str]:
    """The target types that are not among the `clustered` ones, in the order of the relations."""
    counts = {entity.name: entity.count for entity in run.graph.entities}
    targets = dict.fromkeys(one.target for one in run.graph.relations if counts[one.target])
    return [name for name in targets if name not in clustered]


def _users(run: Run, default: DefaultQuery, types: Sequence[str]) -> str:
    leading = [one for one in run.graph.relations if one.target in types]
    if not leading:
        targets = ", ".join(list(dict.fromkeys(one.target for one in run.graph.relations))[:20])
        raise ConfigError(f"clusters.types: no relation leads to {', '.join(types)}; relations lead to {targets}.")
    if any(one.source == default.user_type for one in leading):
        return default.user_type
    return max(leading, key=lambda one: len(one.train)).source

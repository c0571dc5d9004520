"""What requests can name in one version and no longer in the next: spaces, relations, strategies, entity types,
attributes, categories.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from bundle.attributes import AttributeKind, Categories
from bundle.ids import ABSENT, matching_rows
from bundle.manifest import Manifest, SpaceEntry
from bundle.space import Bundle, EntityTable
from bundle.strategies import default_strategies

# Names that a sentence lists.
NAMED = 5


@dataclass(frozen=True, slots=True)
class Names:
    """What requests can name in a version: its spaces, and in the first one relations, of each the strategies that not
    every version has and what `auto` stands for, and of each entity type the attributes.
    """

    version: str
    spaces: Sequence[str]
    relations: Sequence[str]
    learnt: Mapping[str, Set[str]]
    auto: Mapping[str, str]
    attributes: Mapping[str, Mapping[str, AttributeKind]]


def names_of(manifest: Manifest) -> Names:
    """As a manifest says, without the version's files."""
    space = next(iter(manifest.spaces.values()))
    attributes = {entity.name: {one.name: one.kind for one in entity.attributes} for entity in space.entities}
    return _names(manifest, space, [relation.name for relation in space.relations], attributes)


def _names(
    manifest: Manifest,
    space: SpaceEntry,
    relations: Sequence[str],
    attributes: Mapping[str, Mapping[str, AttributeKind]],
) -> Names:
    answers = {relation: space.answers(relation) for relation in relations}
    # A version of an earlier release has one set of strategies for all of its relations.
    learnt = {
        relation: (space if own is None else own).strategies.keys() - default_strategies().keys()
        for relation, own in answers.items()
    }
    auto = {relation: own.auto for relation, own in answers.items() if own is not None}
    return Names(manifest.version, list(manifest.spaces), relations, learnt, auto, attributes)


def lost(before: Bundle, after: Bundle) -> Iterator[str]:
    """A sentence for each kind of name that `after` has lost, of the first space of both; none where all are there.

    Reads the categories of both, and nothing of the entities.
    """
    yield from lost_names(_names_in(before), _names_in(after))
    old, new = before.space().entities, after.space().entities
    for name in old:
        if name in new:
            yield from _lost_categories(old[name], new[name])


def _names_in(bundle: Bundle) -> Names:
    space = bundle.space()
    attributes = {
        name: {key: one.kind for key, one in table.attributes.items()} for name, table in space.entities.items()
    }
    return _names(bundle.manifest, space.entry, list(space.relations), attributes)


def lost_names(before: Names, after: Names) -> Iterator[str]:
    """The same of names alone: not of categories, which stand in files."""
    spaces = [name for name in before.spaces if name not in after.spaces]
    if spaces:
        yield f"Spaces that {after.version} has not: {_listed(spaces)}. Requests that name them are refused."
    gone = [name for name in before.relations if name not in after.relations]
    if gone:
        yield f"Relations that {after.version} has not: {_listed(gone)}. Requests by them are refused."
    for relation, learnt in before.learnt.items():
        fewer = sorted(learnt - after.learnt.get(relation, learnt))
        if fewer:
            auto = f" `auto` is {after.auto[relation]} there." if relation in after.auto else ""
            where = f"Strategies of {relation!a:.80} that {after.version} has not"
            yield f"{where}: {_listed(fewer)}. Requests that name them are refused.{auto}"
    for name, attributes in before.attributes.items():
        kept = after.attributes.get(name)
        if kept is None:
            yield f"Entity type that {after.version} has not: {name}. Requests for it are refused."
            continue
        for key, kind in attributes.items():
            where = f"attribute {key!a:.80} of {name}"
            if key not in kept:
                yield f"Filters: {where} is gone. Filters by it are refused."
            elif kept[key] != kind:
                yield f"Filters: {where} was a {kind} and is a {kept[key]} now. Filters by it may be refused."


def _lost_categories(before: EntityTable, after: EntityTable) -> Iterator[str]:
    for name, old in before.attributes.items():
        new = after.attributes.get(name)
        if not (isinstance(old, Categories) and isinstance(new, Categories)):
            continue
        gone = np.flatnonzero(matching_rows(old.vocabulary, new.vocabulary) == ABSENT)
        if len(gone):
            names = _listed(old.vocabulary.externals(gone[: NAMED + 1]))
            yield (
                f"Filters: attribute {name!a:.80} of {before.name} has lost {len(gone):,} of its "
                f"{len(old.vocabulary):,} categories: {names}. Filters by these alone keep nobody."
            )


def _listed(names: list[str]) -> str:
    return ", ".join(f"{name!a:.80}" for name in names[:NAMED]) + (", …" if len(names) > NAMED else "")

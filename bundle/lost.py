"""What requests can name in one version and no longer in the next: relations, entity types, attributes, categories."""

from collections.abc import Iterator

import numpy as np

from bundle.attributes import Attribute, Categories
from bundle.ids import ABSENT, matching_rows
from bundle.space import Bundle, EntityTable

# Names that a sentence lists.
NAMED = 5


def lost(before: Bundle, after: Bundle) -> Iterator[str]:
    """A sentence for each kind of name that `after` has lost, of the first space of both; none where all are there.

    Reads the categories of both, and nothing of the entities.
    """
    old, new = before.space(), after.space()
    gone = [name for name in old.relations if name not in new.relations]
    if gone:
        yield f"Relations that {after.version} has not: {_listed(gone)}. Requests by them are refused."
    for name, table in old.entities.items():
        if name not in new.entities:
            yield f"Entity type that {after.version} has not: {name}. Requests for it are refused."
        else:
            yield from _lost_attributes(table, new.entities[name])


def _lost_attributes(before: EntityTable, after: EntityTable) -> Iterator[str]:
    for name, old in before.attributes.items():
        where, new = f"attribute {name!a:.80} of {before.name}", after.attributes.get(name)
        if new is None:
            yield f"Filters: {where} is gone. Filters by it are refused."
        elif new.kind != old.kind:
            yield f"Filters: {where} was a {old.kind} and is a {new.kind} now. Filters by it may be refused."
        else:
            yield from _lost_categories(where, old, new)


def _lost_categories(where: str, old: Attribute, new: Attribute) -> Iterator[str]:
    if not (isinstance(old, Categories) and isinstance(new, Categories)):
        return
    gone = np.flatnonzero(matching_rows(old.vocabulary, new.vocabulary) == ABSENT)
    if len(gone):
        names = _listed(old.vocabulary.externals(gone[: NAMED + 1]))
        yield (
            f"Filters: {where} has lost {len(gone):,} of its {len(old.vocabulary):,} categories: {names}. "
            "Filters by these alone keep nobody."
        )


def _listed(names: list[str]) -> str:
    return ", ".join(f"{name!a:.80}" for name in names[:NAMED]) + (", …" if len(names) > NAMED else "")

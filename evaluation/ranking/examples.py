"""Labelled examples of the user's own: user, item, label, and any further columns of numbers.

Ids are those of the graph; whoever has no embedding counts with zeros.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32

from bundle.errors import UsageError
from bundle.ids import ABSENT, IdTable
from bundle.space import Space
from evaluation.ranking.models import Labelled


@dataclass(frozen=True, slots=True)
class ExampleFile:
    """What one file holds, in external ids; `names` are the columns of `others`."""

    path: Path
    users: tuple[str, ...]
    items: tuple[str, ...]
    labels: Bool[npt.NDArray[np.bool_], " n"]
    others: Float32[npt.NDArray[np.float32], "n f"]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise UsageError when all labels are equal."""
        if self.labels.all() or not self.labels.any():
            raise UsageError(f"{self.path} has only labels {int(self.labels[0])}; a model needs examples of both.")


@dataclass(frozen=True, slots=True)
class NumberedExamples:
    """Several files over one numbering: row i of `users` and of `items` is the entity that the examples call i."""

    parts: tuple[Labelled, ...]
    users: tuple[str, ...]
    items: tuple[str, ...]


def number_examples(files: Sequence[ExampleFile]) -> NumberedExamples:
    """Give every user and every item of the files one number. Raises UsageError when their other columns differ."""
    for file in files[1:]:
        if file.names != files[0].names:
            ours, theirs = ", ".join(files[0].names) or "none", ", ".join(file.names) or "none"
            raise UsageError(f"The files have other columns: {ours}, and {theirs}. Give both the same, in one order.")
    users, items = _numbering(file.users for file in files), _numbering(file.items for file in files)
    parts = tuple(
        Labelled(
            np.array([users[user] for user in file.users], dtype=np.int64),
            np.array([items[item] for item in file.items], dtype=np.int64),
            file.labels,
            file.others,
        )
        for file in files
    )
    return NumberedExamples(parts, tuple(users), tuple(items))


def examples_of_rows(parts: Sequence[Labelled], users: IdTable, items: IdTable) -> NumberedExamples:
    """Examples that have rows of a graph, numbered anew: only the entities they mention, by external id."""
    user_rows = np.unique(np.concatenate([part.users for part in parts]))
    item_rows = np.unique(np.concatenate([part.items for part in parts]))
    renumbered = tuple(
        Labelled(
            np.searchsorted(user_rows, part.users), np.searchsorted(item_rows, part.items), part.labels, part.others
        )
        for part in parts
    )
    return NumberedExamples(renumbered, tuple(users.externals(user_rows)), tuple(items.externals(item_rows)))


def vectors_of(
    names: Sequence[str], ids: IdTable, vectors: Float32[npt.NDArray[np.float32], "n d"]
) -> tuple[Float32[npt.NDArray[np.float32], "names d"], float]:
    """The vector of each of `names`, zeros for one without; and the share of them that have one."""
    rows = ids.rows(names)
    known = rows != ABSENT
    chosen = np.zeros((len(rows), vectors.shape[1]), dtype=np.float32)
    chosen[known] = vectors[rows[known]]
    return chosen, float(known.mean())


class RelationMatch(NamedTuple):
    """How well a relation fits labelled examples: its ends, and which shares of the users and items are there."""

    relation: str
    user_type: str
    item_type: str
    users: float
    items: float

    @property
    def fits(self) -> bool:
        """Whether either end has any of them."""
        return self.users > 0 and self.items > 0


def matching_relations(space: Space, users: Sequence[str], items: Sequence[str]) -> list[RelationMatch]:
    """Every relation of the space, the one that has most of them first; of equals the default, then the earlier one."""
    relations = [one.entry for one in space.relations.values()]
    as_user = {name: _share(space, name, users) for name in {one.source for one in relations}}
    as_item = {name: _share(space, name, items) for name in {one.target for one in relations}}
    matches = [
        RelationMatch(one.name, one.source, one.target, as_user[one.source], as_item[one.target]) for one in relations
    ]
    default = space.entry.default.relation
    return sorted(matches, key=lambda one: (not one.fits, -one.users - one.items, one.relation != default))


def _share(space: Space, entity_type: str, ids: Sequence[str]) -> float:
    return float((space.table(entity_type).ids.rows(ids) != ABSENT).mean())


def split_by_user(examples: Labelled, share: float, rng: np.random.Generator) -> tuple[Labelled, Labelled]:
    """Two parts without a user in common: the second has about `share` of the users."""
    known = np.unique(examples.users)
    second = np.isin(examples.users, known[rng.random(len(known)) < share])
    return _part(examples, ~second), _part(examples, second)


def _part(examples: Labelled, chosen: npt.NDArray[np.bool_]) -> Labelled:
    return Labelled(examples.users[chosen], examples.items[chosen], examples.labels[chosen], examples.others[chosen])


def _numbering(columns: Any) -> Mapping[str, int]:
    distinct = dict.fromkeys(name for column in columns for name in column)
    return {name: position for position, name in enumerate(distinct)}

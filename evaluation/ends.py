"""Which relation joins the users and items of labelled examples: the one at whose ends most of their ids are found."""

from collections.abc import Sequence
from typing import NamedTuple

from bundle.ids import ABSENT
from bundle.space import Space


class Ends(NamedTuple):
    """A relation with the types of its ends, and which shares of the examples' users and items are among them."""

    relation: str
    user_type: str
    item_type: str
    users: float
    items: float

    @property
    def fits(self) -> bool:
        """Whether anything is found at either end."""
        return self.users > 0 and self.items > 0


def ends_of(space: Space, users: Sequence[str], items: Sequence[str]) -> list[Ends]:
    """Every relation of the space, the one that finds most first; of equals the default, then the earlier one."""
    relations = [one.entry for one in space.relations.values()]
    as_user = {name: _share(space, name, users) for name in {one.source for one in relations}}
    as_item = {name: _share(space, name, items) for name in {one.target for one in relations}}
    found = [Ends(one.name, one.source, one.target, as_user[one.source], as_item[one.target]) for one in relations]
    default = space.entry.default.relation
    return sorted(found, key=lambda ends: (not ends.fits, -ends.users - ends.items, ends.relation != default))


def _share(space: Space, entity_type: str, ids: Sequence[str]) -> float:
    return float((space.table(entity_type).ids.rows(ids) != ABSENT).mean())

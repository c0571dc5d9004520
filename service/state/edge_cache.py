"""What the events of users with many of them add up to, kept until the user does something new."""

from collections import OrderedDict

from recommend.types import LiveEdges

Owner = tuple[str, str]


class EdgeCache:
    """The edges of the users asked for last. A stamp names one state of one user's events, and no other."""

    def __init__(self, targets_max: int) -> None:
        """`targets_max` bounds the memory: the targets of all users in it together."""
        self._targets_max = targets_max
        self._kept: OrderedDict[Owner, tuple[object, LiveEdges, int]] = OrderedDict()
        self._targets = 0

    def get(self, owner: Owner, stamp: object) -> LiveEdges | None:
        """The edges, if those of this `stamp` are kept."""
        kept = self._kept.get(owner)
        if kept is None or kept[0] != stamp:
            return None
        self._kept.move_to_end(owner)
        return kept[1]

    def put(self, owner: Owner, stamp: object, edges: LiveEdges) -> None:
        """Keep `edges`, and let go of those asked for longest ago."""
        self.drop(owner)
        targets = sum(len(ids) for group in (edges.added, edges.removed, edges.blocked) for ids in group.values())
        self._kept[owner] = (stamp, edges, targets)
        self._targets += targets
        while self._targets > self._targets_max:
            self.drop(next(iter(self._kept)))

    def drop(self, owner: Owner) -> None:
        """Keep nothing about `owner`."""
        kept = self._kept.pop(owner, None)
        if kept is not None:
            self._targets -= kept[2]

    def clear(self) -> None:
        """Keep nothing."""
        self._kept.clear()
        self._targets = 0

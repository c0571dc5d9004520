"""Two versions asked the same questions: paired differences by strategy, users and targets, and how alike lists are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool

from bundle.errors import UsageError
from bundle.progress import Stage
from evaluation.comparison.asked import AskedVersion
from evaluation.comparison.records import FEWEST, Difference, Group, Kind, Overlap, RelationComparison, difference
from evaluation.intervals import paired
from evaluation.learning.evidence import as_newcomers, engagements_of, followers_of
from evaluation.metrics import PerUser, bootstrap, hit_ranks, recall
from evaluation.rows import CUTS, TOP, buckets_of, degree_buckets, of_one_user
from evaluation.task import FollowTask, without_known
from recommend.protocol import Lists, Users
from recommend.types import AUTO

NEW_USERS = 500
NEW_KNOWN = (1, 3, 5, 10)
METRICS = ("recall@10", "recall@50")
Values = dict[str, PerUser]
Chosen = Bool[npt.NDArray[np.bool_], " users"]


@dataclass(frozen=True, slots=True)
class Pair:
    """The two versions, in the rows of one graph."""

    a: AskedVersion
    b: AskedVersion
    seed: int

    def relations(self, asked: Sequence[str], otherwise: Sequence[str]) -> tuple[list[str], list[str]]:
        """Of the relations those that both have, and sentences on the others. Raises UsageError for one that was asked
        for by name and is not there.
        """
        notes, names = [], asked or otherwise
        for name in names:
            lacking = [side for side, one in (("A", self.a), ("B", self.b)) if name not in one.relations]
            if lacking:
                notes.append(f"{' and '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no relation {name}.")
        if asked and notes:
            raise UsageError(f"{notes[0]} Name another with --relation.")
        return [name for name in names if name in self.a.relations and name in self.b.relations], notes

    def strategies(self, relation: str) -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
        """What both can be asked by, `auto` first; then what only one of them has."""
        ours, theirs = self.a.relations[relation].strategies, self.b.relations[relation].strategies
        both = [name for name in theirs if name in ours]
        only = tuple(tuple(x for x in one if x not in other) for one, other in ((ours, theirs), (theirs, ours)))
        return [AUTO, *both], only[0], only[1]

    def compare(self, task: FollowTask, bar: Stage) -> RelationComparison:
        """Everything about one relation; `bar` advances by one a strategy, and one for newcomers.

        Held-out edges that either was trained on are left out: its lists cannot have them, and what was warm started
        from it has learnt from them. Where nothing is left, nobody is asked.
        """
        names, only_a, only_b = self.strategies(task.relation)
        trained = [one.trained(task) for one in (self.a, self.b)]
        edges = max(1, int(task.held_out.degrees()[task.users].sum()))
        task = task.without_held_out(trained[0] | trained[1])
        strategies, overlap = [], []
        default: tuple[Lists, Lists] | None = None
        for name in names if len(task.users) else ():
            bar.note(f"{task.relation}: {name}")
            lists = self._lists(task, name)
            default = default or lists
            strategies.append(self._group("strategy", name, *(_values(task, one) for one in lists)))
            overlap.append(overlap_of(name, *lists))
            bar.advance()
        groups = [] if default is None else [*self._of_users(task, default), *self._of_targets(task, default)]
        bar.note(f"{task.relation}: newcomers")
        groups = [*self._newcomers(task), *groups]
        bar.advance()
        return RelationComparison(
            relation=task.relation,
            how="paired",
            users=len(task.users),
            auto_a=self.a.relations[task.relation].auto,
            auto_b=self.b.relations[task.relation].auto,
            strategies=tuple(strategies),
            groups=tuple(groups),
            overlap=tuple(overlap),
            only_a=only_a,
            only_b=only_b,
            trained_a=np.count_nonzero(trained[0]) / edges,
            trained_b=np.count_nonzero(trained[1]) / edges,
        )

    def overlap(self, relation: str, users: Users, bar: Stage) -> tuple[Overlap, ...]:
        """How alike the lists are for users whom both know, by every strategy that both have."""
        found = []
        for name in self.strategies(relation)[0]:
            bar.note(f"{relation}: {name}")
            before, after = (one.for_known(users, name, TOP, relation) for one in (self.a, self.b))
            found.append(overlap_of(name, before, after))
            bar.advance()
        return tuple(found)

    def _lists(self, task: FollowTask, strategy: str) -> tuple[Lists, Lists]:
        deepest = max(CUTS)
        first, second = (
            without_known(task, task.users, one.lists(task, strategy, deepest + one.more(task)), deepest)
            for one in (self.a, self.b)
        )
        return first, second

    def _group(self, kind: Kind, name: str, before: Values, after: Values) -> Group:
        metrics = {metric: self._difference(before[metric], after[metric]) for metric in before}
        return Group(kind=kind, name=name, metrics=metrics)

    def _difference(self, before: PerUser, after: PerUser) -> Difference:
        between = paired(before, after, self.seed)
        both = ~np.isnan(after - before)
        return difference(bootstrap(before[both], None), bootstrap(after[both], None), between)

    def _of_users(self, task: FollowTask, lists: tuple[Lists, Lists]) -> Iterator[Group]:
        """The default answers for users by what is known of them."""
        before, after = (_values(task, one) for one in lists)
        bands: dict[Kind, dict[str, Chosen]] = {"known edges": degree_buckets(task)}
        if task.same_type:
            bands["followers"] = buckets_of(task.train_by_target.degrees()[task.users])
        for whose, one in (("A", self.a), ("B", self.b)):
            unknown = ~one.knows(task.users, task.relation)
            if unknown.any():
                bands.setdefault("unknown users", {})[f"unknown to {whose}"] = unknown
        for kind, of_kind in bands.items():
            for label, chosen in of_kind.items():
                if chosen.sum() >= FEWEST:
                    some = [{name: values[name][chosen] for name in METRICS} for values in (before, after)]
                    yield self._group(kind, label, *some)

    def _of_targets(self, task: FollowTask, lists: tuple[Lists, Lists]) -> Iterator[Group]:
        """The default answers for everybody, of the held-out edges to targets of such in-degrees alone."""
        for label, chosen in buckets_of(task.train_by_target.degrees()).items():
            before, after = (_values_among(task, one, chosen) for one in lists)
            if np.count_nonzero(~np.isnan(before["recall@10"])) >= FEWEST:
                yield self._group("target in-degree", label, before, after)

    def _newcomers(self, task: FollowTask) -> Iterator[Group]:
        """The default answers for users shown with a few engagements alone, every other one with followers."""
        rng = np.random.default_rng(self.seed)
        some = task.of_users(rng.permutation(task.users)[:NEW_USERS])
        new = as_newcomers(some, NEW_KNOWN, rng)
        if len(new.users) < FEWEST:
            return
        told = engagements_of(new), followers_of(new, np.arange(len(new.users)) % 2 == 0)
        deepest = max(CUTS)
        before, after = (
            _values(
                new,
                without_known(
                    new, new.users, one.newcomers(new.relation, *told, AUTO, deepest + 1 + one.more(new)), deepest
                ),
            )
            for one in (self.a, self.b)
        )
        yield self._group("newcomers", "a few engagements", before, after)


def _values(task: FollowTask, lists: Lists) -> Values:
    """Each metric for each user, NaN where it does not apply."""
    rows = [of_one_user(task, user, ranked) for user, ranked in zip(task.users.tolist(), lists, strict=True)]
    return _columns(rows)


def _values_among(task: FollowTask, lists: Lists, chosen: Bool[npt.NDArray[np.bool_], " targets"]) -> Values:
    """Recalls of the held-out edges to the chosen targets; NaN for users without any."""
    rows = []
    for user, ranked in zip(task.users.tolist(), lists, strict=True):
        relevant = task.relevant(user)
        relevant = relevant[chosen[relevant]]
        ranks = hit_ranks(ranked, relevant)
        rows.append({f"recall@{k}": recall(ranks, len(relevant), k) for k in (10, 50)})
    return _columns(rows)


def _columns(rows: Sequence[dict[str, float]]) -> Values:
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}


def overlap_of(strategy: str, before: Lists, after: Lists, k: int = TOP) -> Overlap:
    """How alike the first `k` of both lists are, over the users to whom both have something to say."""
    shared, same_first = [], []
    for ours, theirs in zip(before, after, strict=True):
        if len(ours) and len(theirs):
            first, second = ours[:k], theirs[:k]
            shared.append(len(np.intersect1d(first, second)) / max(len(first), len(second)))
            same_first.append(float(first[0] == second[0]))
    users = len(shared)
    return Overlap(
        strategy=strategy,
        k=k,
        users=users,
        shared=float(np.mean(shared)) if users else 0.0,
        same_first=float(np.mean(same_first)) if users else 0.0,
    )

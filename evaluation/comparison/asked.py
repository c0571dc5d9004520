"""A version as it is asked about the entities of another graph: external ids lead from one's rows to the other's."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int32, Int64

from bundle.csr import Csr, csr_from_pairs, empty_csr
from bundle.ids import IdTable, matching_rows
from bundle.manifest import Strategy
from evaluation.follow import RelationOffer, offer_of
from evaluation.task import FollowTask, slack
from recommend.protocol import Lists, Users
from recommend.recommender import Recommender

# Further candidates that are asked for at most, of users who have very many edges that the version does not know.
MOST_MORE = 500
Rows = tuple[Int64[npt.NDArray[np.int64], " ours"], Int64[npt.NDArray[np.int64], " theirs"]]


class AskedVersion:
    """A version in the rows of a graph, from which it need not have been built: `ids` has its entity types, `digest`
    its digest.

    Users whom the version does not know are asked for as newcomers, by their edges in the task; candidates that the
    graph does not know are left out.
    """

    def __init__(self, recommender: Recommender, ids: Mapping[str, IdTable], digest: str) -> None:
        self.recommender, self._ids = recommender, ids
        self._same = recommender.bundle.manifest.lineage.graph_digest == digest
        self.space = recommender.bundle.space()
        self._rows: dict[str, Rows] = {}

    @cached_property
    def relations(self) -> Mapping[str, RelationOffer]:
        """How each relation can be asked for."""
        return offer_of(self.recommender).relations

    def rows(self, entity_type: str) -> Rows:
        """For each row of the graph the version's, and for each of the version the graph's; -1 for nobody."""
        if entity_type not in self._rows:
            ours, theirs = self._ids[entity_type], self.space.table(entity_type).ids
            self._rows[entity_type] = matching_rows(ours, theirs), matching_rows(theirs, ours)
        return self._rows[entity_type]

    def knows(self, users: Users, relation: str) -> Bool[npt.NDArray[np.bool_], " users"]:
        """Which of the relation's sources the version knows."""
        known: Bool[npt.NDArray[np.bool_], " users"] = self.rows(self._ends(relation)[0])[0][users] >= 0
        return known

    def _ends(self, relation: str) -> tuple[str, str]:
        entry = self.space.relation(relation).entry
        return entry.source, entry.target

    def trained(self, task: FollowTask) -> Bool[npt.NDArray[np.bool_], " held_out"]:
        """Which of the held-out edges of the task's users the version was trained on."""
        source, target = self._ends(task.relation)
        to_version, to_graph = self.rows(source)[0], self.rows(target)[1]
        targets, starts = self.space.relation(task.relation).targets, task.held_out.indptr
        trained = np.zeros(len(task.held_out.indices), dtype=np.bool_)
        for user in task.users[self.knows(task.users, task.relation)].tolist():
            known = to_graph[targets.row(int(to_version[user]))]
            trained[starts[user] : starts[user + 1]] = np.isin(task.relevant(user), known)
        return trained

    def more(self, task: FollowTask) -> int:
        """How many more candidates to ask for, so that `k` are left without what the user is known to have."""
        if self._same:
            return slack(task, task.users)
        lost = task.hidden.degrees()[task.users] + task.train.degrees()[task.users]
        return min(MOST_MORE, int(lost.max(initial=0)))

    def lists(self, task: FollowTask, strategy: Strategy | str, k: int) -> Lists:
        """Up to `k` candidates for each user of the task, newcomers to the version by their edges in it."""
        known = self.knows(task.users, task.relation)
        new = task.users[~known]
        found = iter(self.for_known(task.users[known], strategy, k, task.relation))
        few = iter(self.newcomers(task.relation, task.train.take(new), empty_csr(len(new)), strategy, k))
        return [next(found) if one else next(few) for one in known.tolist()]

    def for_known(self, users: Users, strategy: Strategy | str, k: int, relation: str) -> Lists:
        """Up to `k` candidates for each of these sources, whom the version knows."""
        source, target = self._ends(relation)
        return self._ours(
            self.recommender.for_users(self.rows(source)[0][users], strategy, k, relation=relation), target
        )

    def newcomers(self, relation: str, engagements: Csr, followers: Csr, strategy: Strategy | str, k: int) -> Lists:
        """Up to `k` candidates for people known by rows of the graph alone."""
        target = self._ends(relation)[1]
        engaged, following = self._translated(engagements, target), self._translated(followers, target)
        return self._ours(self.recommender.for_newcomers(engaged, following, strategy, k, relation=relation), target)

    def _ours(self, found: Lists, target: str) -> list[Int32[npt.NDArray[np.int32], " _"]]:
        to_graph = self.rows(target)[1]
        lists = (to_graph[rows] for rows in found)
        return [rows[rows >= 0].astype(np.int32) for rows in lists]

    def _translated(self, csr: Csr, entity_type: str) -> Csr:
        rows = self.rows(entity_type)[0][csr.indices]
        owner = np.repeat(np.arange(len(csr), dtype=np.int32), csr.degrees())
        return csr_from_pairs(owner[rows >= 0], rows[rows >= 0].astype(np.int32), len(csr))

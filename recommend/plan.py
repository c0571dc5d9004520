"""From a request to a plan: which version of the question is answered, with which queries, without whom."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from jaxtyping import Int32

from bundle.errors import QueryError
from bundle.layout import ListQuery
from bundle.manifest import QueryWeights, Strategy
from bundle.space import CandidateLists, Relation, Space
from bundle.strategies import default_strategies
from index.search.eligible import Bitmap
from recommend.diversity import pool_of
from recommend.elsewhere import DatedRows
from recommend.filters import FilterCache
from recommend.profile import (
    NO_OTHERS,
    Profile,
    current_targets,
    known_rows,
    profile_of_newcomer,
    profile_of_row,
    row_of,
)
from recommend.queries import Queries, build_queries, effective_weights
from recommend.types import (
    AUTO,
    NO_LIVE_EDGES,
    NO_MODES,
    Exclusions,
    Fallback,
    LiveEdges,
    Modes,
    RecommendRequest,
    Rows,
)

# What a version that does not say otherwise means by these names.
STANDARD = default_strategies()
# What `auto` means for a relation that a version of an earlier release says nothing of.
UNMEASURED = "mixture"
# The name of a strategy that was given itself.
UNNAMED = "unnamed"


class Variety(NamedTuple):
    """How an answer of `k` is chosen from those that the plan finds."""

    k: int
    diversity: float
    max_per_cluster: int | None


class Plan(msgspec.Struct, frozen=True):
    """Everything that is known before a searcher is asked. With `popular` nobody needs to be.

    `own` is what the user engages with by every relation, where reasons are asked for. With `variety` `k` is the size
    of the pool that the answer is chosen from.
    """

    space: Space
    relation: Relation
    k: int
    depth: int | None
    name: str
    strategy: Strategy
    weights: QueryWeights
    profile: Profile
    modes: Modes
    exclusions: Exclusions
    popular: bool
    lists: CandidateLists | None = None
    fallback: Fallback | None = None
    explain: bool = False
    own: tuple[tuple[Relation, Rows], ...] = ()
    variety: Variety | None = None

    @property
    def candidate_type(self) -> str:
        return self.relation.entry.target

    @property
    def eligible(self) -> Bitmap | None:
        """The rows that the version and the request's filter keep; None where these are all."""
        return self.exclusions.eligible

    @property
    def reach(self) -> int:
        """How many candidates a query looks for: k, or as many as the strategy rescores."""
        rescoring = self.strategy.rescoring
        return self.k if rescoring is None else max(self.k, rescoring.pool)

    def queries(self) -> Queries:
        """One query for each mode, or a single one. Built when asked for: merging stored lists needs none."""
        return build_queries(
            self.space, self.relation, self.profile, self.modes, self.weights, self.strategy.mode_vector
        )


def strategies_of(space: Space, relation: str | None = None) -> dict[str, Strategy]:
    """The strategies a request may name under a relation, by default the version's: the standard ones, then the
    relation's own, which win.
    """
    return {**STANDARD, **_own_strategies(space, relation or space.entry.default.relation)}


def _own_strategies(space: Space, relation: str) -> dict[str, Strategy]:
    """What the version ships for a relation; a version of an earlier release has one set for all."""
    own = space.entry.relation_strategies.get(relation)
    return space.entry.strategies if own is None else own.strategies


def auto_under(space: Space, relation: str, known: bool = True) -> str:
    """The strategy that `auto` stands for under a relation, for users `known` to training or not."""
    entry = space.entry
    own = entry if relation == entry.default.relation else entry.relation_strategies.get(relation)
    if own is None:
        return UNMEASURED
    return own.auto if known or own.auto_newcomer is None else own.auto_newcomer


def make_plan(space: Space, request: RecommendRequest, live: LiveEdges, filters: FilterCache) -> Plan:
    """Plan the answer to `request` in `space`. Raises QueryError for a name this space has not, or k < 1."""
    if request.k < 1:
        raise QueryError(f"k is {request.k}; it must be at least 1")
    relation = choose_relation(space, request)
    if request.followers and relation.entry.source != relation.entry.target:
        raise QueryError("followers fits a relation between entities of one type; this one has two")
    row = row_of(space, relation, request.user)
    name, strategy = choose_strategy(space, relation, request.strategy, row)
    edges = live.merged(request.engagements)
    n_modes = modes_wanted(space, strategy, request.modes)
    profile = profile_of_row(space, relation, row, edges, n_modes, request.followers, request.unfollowers)
    exclusions = _exclusions(space, relation, profile, edges, request.exclude, request.exclude_seen)
    if request.filter is not None:
        candidates = space.entities[relation.entry.target]
        eligible = filters.bitmap(space, relation, candidates, request.filter)
        exclusions = msgspec.structs.replace(exclusions, eligible=eligible)
    k = pool_of(request.k) if request.varied else request.k
    plan = _plan(space, relation, profile, exclusions, name, strategy, k, request.depth)
    if request.varied:
        plan = msgspec.structs.replace(plan, variety=_variety(space, relation, request))
    return _with_own(plan, row, edges) if request.explain else plan


def _variety(space: Space, relation: Relation, request: RecommendRequest) -> Variety:
    """Raises QueryError for a share outside 0 to 1, a cap below 1, or one on a type without clusters."""
    if not 0 <= request.diversity <= 1:
        raise QueryError("diversity must be from 0 to 1")
    if request.max_per_cluster is not None:
        if request.max_per_cluster < 1:
            raise QueryError("max_per_cluster must be at least 1")
        if relation.entry.target not in space.clusters.assignment:
            known = ", ".join(space.clusters.assignment)
            raise QueryError(f"max_per_cluster needs candidates that were clustered; these were: {known}")
    return Variety(request.k, request.diversity, request.max_per_cluster)


def _with_own(plan: Plan, row: int | None, live: LiveEdges) -> Plan:
    """The plan with what its answer is to be explained by."""
    source = plan.relation.entry.source
    relations = [one for one in plan.space.relations.values() if one.entry.source == source]
    own = tuple((one, current_targets(plan.space, one, row, live)) for one in relations)
    return msgspec.structs.replace(plan, explain=True, own=own)


def plan_user(space: Space, relation: Relation, row: int, strategy: Strategy | str, k: int) -> Plan:
    """Plan for the user of `row` with nothing newer than the version. Raises QueryError for an unknown strategy."""
    name, chosen = choose_strategy(space, relation, strategy, row)
    profile = profile_of_row(space, relation, row, NO_LIVE_EDGES, modes_wanted(space, chosen))
    exclusions = _exclusions(space, relation, profile, NO_LIVE_EDGES)
    return _plan(space, relation, profile, exclusions, name, chosen, k)


def plan_newcomer(
    space: Space,
    relation: Relation,
    engagements: Int32[npt.NDArray[np.int32], " targets"],
    followers: Int32[npt.NDArray[np.int32], " followers"],
    strategy: Strategy | str,
    k: int,
    others: Mapping[str, DatedRows] = NO_OTHERS,
) -> Plan:
    """Plan for somebody of whom there are only these rows, ascending; `others` are those of other relations.

    Raises QueryError for an unknown strategy.
    """
    name, chosen = choose_strategy(space, relation, strategy, None)
    profile = profile_of_newcomer(
        space, relation, engagements.astype(np.int64), followers.astype(np.int64), modes_wanted(space, chosen), others
    )
    exclusions = _exclusions(space, relation, profile, NO_LIVE_EDGES)
    return _plan(space, relation, profile, exclusions, name, chosen, k)


def choose_strategy(space: Space, relation: Relation, asked: Strategy | str, row: int | None) -> tuple[str, Strategy]:
    """The strategy that is meant, and its name, for the user of `row` (None: unknown to training).

    `auto` is the relation's default, or its default for people whom training does not know. Raises QueryError for a
    name that is neither the relation's nor a standard one.
    """
    if isinstance(asked, Strategy):
        return UNNAMED, asked
    under = relation.entry.name
    name = auto_under(space, under, known=row is not None) if asked == AUTO else asked
    strategy = _own_strategies(space, under).get(name) or STANDARD.get(name)
    if strategy is None:
        raise QueryError(f"no such strategy; there are: {', '.join([AUTO, *strategies_of(space, under)])}")
    return name, strategy


def modes_wanted(space: Space, strategy: Strategy, asked: int | None = None) -> int:
    """How many interests the strategy draws from: none unless it merges several."""
    if strategy.merge != "proportional":
        return 0
    return min(asked or strategy.modes or space.entry.clusters.modes, space.entry.clusters.modes)


def _exclusions(
    space: Space,
    relation: Relation,
    profile: Profile,
    live: LiveEdges,
    exclude: tuple[str, ...] = (),
    exclude_seen: bool = True,
) -> Exclusions:
    """Whom the answer must not have: the user and whom the user blocked always, the user's targets unless
    `exclude_seen` is false, and the ids that the request names.
    """
    entry = relation.entry
    ids = space.entities[entry.target].ids
    others: list[int] = known_rows(ids.rows(exclude)).tolist() if exclude else []
    if entry.target in live.blocked:
        others += live.rows("blocked", entry.target, ids).tolist()
    if entry.source == entry.target and profile.row is not None:
        others.append(int(profile.row))
    seen = profile.targets if exclude_seen else profile.targets[:0]
    return Exclusions(seen, tuple(others), space.entities[entry.target].candidates)


def _plan(
    space: Space,
    relation: Relation,
    profile: Profile,
    exclusions: Exclusions,
    name: str,
    strategy: Strategy,
    k: int,
    depth: int | None = None,
) -> Plan:
    """Plan for a profile: move the weights of absent terms, find the stored lists where they answer."""
    asked = strategy.weights
    used = None if strategy.merge == "popular" else effective_weights(asked, profile, profile.modes)
    modes, lists, fallback = NO_MODES, None, None
    if used is not None:
        modes = profile.modes
        lists = _stored_lists(space, relation, strategy) if len(modes) else None
        if lists is not None and not used.mode:
            used = used.model_copy(update={"mode": 1.0})
        fallback = _fallback(asked, used)
    elif strategy.merge != "popular":
        fallback = "popular"
    return Plan(
        space=space,
        relation=relation,
        k=k,
        depth=depth,
        name=name,
        strategy=strategy,
        weights=used or asked,
        profile=profile,
        modes=modes,
        exclusions=exclusions,
        popular=used is None,
        lists=lists,
        fallback=fallback,
    )


def _stored_lists(space: Space, relation: Relation, strategy: Strategy) -> CandidateLists | None:
    if not strategy.precomputed:
        return None
    return space.clusters.lists.get((relation.entry.target, list_query(strategy)))


def list_query(strategy: Strategy) -> ListQuery:
    """Which of a cluster's stored lists the strategy merges."""
    return "medoid" if strategy.mode_vector == "medoid" else "centroid"


def _fallback(asked: QueryWeights, used: QueryWeights) -> Fallback | None:
    """Which term took the weight of an absent one, if any."""
    if used.fold_in > asked.fold_in:
        return "fold_in"
    return "user_vector" if used.user > asked.user else None


def choose_relation(space: Space, request: RecommendRequest) -> Relation:
    """The relation that the request asks for, or the first that fits its types. Raises QueryError."""
    default = space.entry.default
    if request.relation is not None:
        relation = space.relation(request.relation)
        _require_type("user_type", request.user_type, relation.entry.source)
        _require_type("candidate_type", request.candidate_type, relation.entry.target)
        return relation
    source = request.user_type or default.user_type
    target = request.candidate_type or (default.candidate_type if source == default.user_type else None)
    if (source, target) == (default.user_type, default.candidate_type):
        return space.relation(default.relation)
    space.table(source)
    for relation in space.relations.values():
        if relation.entry.source == source and target in (None, relation.entry.target):
            return relation
    known = ", ".join(f"{one.name} ({one.source} to {one.target})" for one in list(space.entry.relations)[:20])
    raise QueryError(f"no relation leads from that user_type to that candidate_type; relations: {known}")


def _require_type(field: str, asked: str | None, wanted: str) -> None:
    if asked not in (None, wanted):
        raise QueryError(f"{field} does not fit the relation, which asks for {wanted}")

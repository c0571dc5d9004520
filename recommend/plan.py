"""From a request to a plan: which version of the question is answered, with which queries, without whom."""

from typing import Literal

import msgspec

from bundle.errors import QueryError
from bundle.manifest import QueryWeights, Strategy
from bundle.space import CandidateLists, Relation, Space
from recommend.exclusions import build_exclusions
from recommend.profile import Profile, profile_of_row, row_of
from recommend.queries import Queries, build_queries, effective_weights
from recommend.types import AUTO, NO_MODES, Exclusions, Fallback, LiveEdges, Modes, RecommendRequest

ListQuery = Literal["centroid", "medoid"]

# What a bundle that does not say otherwise means by these names.
STANDARD = {
    "mixture": Strategy(merge="proportional", mode_vector="personal", weights=QueryWeights(mode=1, relation=1)),
    "unimodal": Strategy(merge="single", weights=QueryWeights(user=1, relation=1)),
    "fold_in": Strategy(merge="single", weights=QueryWeights(fold_in=1, relation=1)),
    "blend": Strategy(merge="single", weights=QueryWeights(user=0.3, fold_in=0.7, relation=1)),
    "popular": Strategy(merge="popular"),
}

UNMEASURED = "mixture"  # what `auto` means where nothing was measured


class Plan(msgspec.Struct, frozen=True):
    """Everything that is known before a searcher is asked. With `popular` nobody needs to be."""

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

    @property
    def candidate_type(self) -> str:
        return self.relation.entry.target

    @property
    def reach(self) -> int:
        """How many candidates a query looks for: k, or as many as the strategy then looks at more closely."""
        rescoring = self.strategy.rescoring
        return self.k if rescoring is None else max(self.k, rescoring.pool)

    def queries(self) -> Queries:
        """One query for each mode, or a single one. Built when asked for: merging stored lists needs none."""
        return build_queries(
            self.space, self.relation, self.profile, self.modes, self.weights, self.strategy.mode_vector
        )


def strategies_of(space: Space) -> dict[str, Strategy]:
    """The strategies a request may name: the standard ones, then the bundle's own, which win."""
    return {**STANDARD, **space.entry.strategies}


def make_plan(space: Space, request: RecommendRequest, live: LiveEdges) -> Plan:
    """Plan the answer to `request` in `space`. Raises QueryError for a name this space has not, or k < 1."""
    if request.k < 1:
        raise QueryError(f"k is {request.k}; it must be at least 1")
    relation = choose_relation(space, request)
    if request.followers and relation.entry.source != relation.entry.target:
        raise QueryError("followers fits a relation between entities of one type; this one has two")
    row = row_of(space, relation, request.user)
    name = auto_for(space, relation, row) if request.strategy == AUTO else request.strategy
    strategy = space.entry.strategies.get(name) or STANDARD.get(name)
    if strategy is None:
        raise QueryError(f"no such strategy; there are: {', '.join([AUTO, *strategies_of(space)])}")
    edges = live.merged(request.engagements)
    n_modes = modes_wanted(space, strategy, request.modes)
    profile = profile_of_row(space, relation, row, edges, n_modes, request.followers)
    exclusions = build_exclusions(space, relation, profile, edges, request.exclude, request.exclude_seen)
    return plan_for(space, relation, profile, exclusions, name, strategy, request.k, request.depth)


def auto_for(space: Space, relation: Relation, row: int | None) -> str:
    """What `auto` stands for: the version's default, or its default for people whom training does not know.

    Both were learnt and measured on the default relation; on another one their weights can be worse than none.
    """
    if relation.entry.name != space.entry.default.relation:
        return UNMEASURED
    newcomer = space.entry.auto_newcomer
    return newcomer if row is None and newcomer is not None else space.entry.auto


def modes_wanted(space: Space, strategy: Strategy, asked: int | None) -> int:
    """How many interests the strategy draws from: none unless it merges several."""
    if strategy.merge != "proportional":
        return 0
    return min(asked or strategy.modes or space.entry.clusters.modes, space.entry.clusters.modes)


def plan_for(
    space: Space,
    relation: Relation,
    profile: Profile,
    exclusions: Exclusions,
    name: str,
    strategy: Strategy,
    k: int,
    depth: int | None,
) -> Plan:
    """Plan for a profile: move the weights of absent terms, build the queries or find the stored lists."""
    modes, asked = profile.modes, strategy.weights
    weights = None if strategy.merge == "popular" else effective_weights(asked, profile, modes)
    if weights is None:
        fell: Fallback | None = None if strategy.merge == "popular" else "popular"
        return Plan(space, relation, k, depth, name, strategy, asked, profile, NO_MODES, exclusions, True, None, fell)
    lists = _stored_lists(space, relation, strategy) if len(modes) else None
    if lists is not None and not weights.mode:
        weights = weights.model_copy(update={"mode": 1.0})
    fell = _moved(asked, weights)
    return Plan(space, relation, k, depth, name, strategy, weights, profile, modes, exclusions, False, lists, fell)


def _stored_lists(space: Space, relation: Relation, strategy: Strategy) -> CandidateLists | None:
    if not strategy.precomputed:
        return None
    return space.clusters.lists.get((relation.entry.target, list_query(strategy)))


def list_query(strategy: Strategy) -> ListQuery:
    """Which of a cluster's stored lists the strategy merges."""
    return "medoid" if strategy.mode_vector == "medoid" else "centroid"


def _moved(asked: QueryWeights, used: QueryWeights) -> Fallback | None:
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
    raise QueryError(f"no relation leads from that user_type to that candidate_type; relations: {_shapes(space)}")


def _require_type(field: str, asked: str | None, wanted: str) -> None:
    if asked not in (None, wanted):
        raise QueryError(f"{field} does not fit the relation, which asks for {wanted}")


def _shapes(space: Space) -> str:
    entries = list(space.entry.relations)[:20]
    return ", ".join(f"{entry.name} ({entry.source} to {entry.target})" for entry in entries)

"""The JSON of /recommend, /recommend:batch and the interests of a user."""

from typing import Annotated

import msgspec

from recommend.filters import Filter
from service.wire.common import Answer, AnyId, Id, ItemError, Name, Request

Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Engagement(Request):
    """One edge of the user, of this request alone: a relation of the graph (the default one if unnamed), a target, and
    since when: the newer counts for more where the version has a half-life or times of the relation.
    """

    target: AnyId
    relation: Name | None = None
    at: Annotated[float, msgspec.Meta(description="seconds since 1970; now, by default")] | None = None


class RecommendBody(Request):
    """Who is asked for, what is wanted, and what is not. `user`, inline `engagements`, or both.

    `followers` already have an edge of the relation to the user: of somebody new only the client knows them. `filter`
    says which candidates are allowed.
    """

    user: Id | None = None
    engagements: list[Engagement] = []
    followers: list[AnyId] = []
    k: Count = 20
    candidate_type: Name | None = None
    user_type: Name | None = None
    relation: Name | None = None
    strategy: Name = "auto"
    modes: Count | None = None
    exclude: list[AnyId] = []
    exclude_seen: bool = True
    explain: bool = False
    filter: Filter | None = None
    diversity: Share = 0.0
    max_per_cluster: Count | None = None
    experiments: bool = True
    space: Name | None = None
    spaces: list[Name] = []


class Mode(msgspec.Struct, frozen=True):
    """One interest: its cluster, its share, the entity at its centre, and how many candidates it gave."""

    cluster: int
    weight: float
    medoid_type: str
    medoid: str
    candidates: int


class Engaged(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the user's engagements, and its share of the candidate's score."""

    type: str
    id: str
    share: float
    label: str | msgspec.UnsetType = msgspec.UNSET


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """What speaks for a candidate, and its share of the score. `because` are some of the user's own engagements: for
    `near` those nearest, for `followed_by` some of the `count` whom the user follows by the relation `via`.
    """

    kind: str
    share: float
    because: list[Engaged] = []
    count: int | msgspec.UnsetType = msgspec.UNSET
    via: str | msgspec.UnsetType = msgspec.UNSET


class Why(msgspec.Struct, frozen=True):
    """How a candidate came here: its rank and score in the list of its mode, which kind of list that was, and what
    speaks for it, the weightiest first.
    """

    rank: int
    score: float
    source: str
    reasons: list[Reason] = []


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """One candidate. `mode` is the cluster that chose it; null where no interest did."""

    id: str
    score: float
    mode: int | None
    why: Why | msgspec.UnsetType = msgspec.UNSET
    label: str | msgspec.UnsetType = msgspec.UNSET


class Explanation(msgspec.Struct, frozen=True):
    """What the slate was made of: the weights of the query's terms, the modes, how many were excluded."""

    relation: str
    candidate_type: str
    weights: dict[str, float]
    modes: list[Mode]
    excluded: int


class Participation(msgspec.Struct, frozen=True):
    """The experiment that the user takes part in, and the arm."""

    name: str
    arm: str


class RecommendAnswer(Answer):
    """The candidates, best first. In a mixture every prefix keeps the proportions of the modes.

    `known` says whether the user was in the training: without, candidates come from engagements, else from popularity.
    `fallback` names the last rung that was needed (`deeper_search`, `fold_in`, `user_vector`, `popular`);
    `degraded` lists what was not as it should be (`reduced_depth`, `engagements_unavailable`, `short`).
    `experiment` is there when an experiment decided on the strategy or the version; feedback repeats it. `spaces` has
    the strategy of each space where several answered together.
    """

    candidates: list[Candidate]
    strategy: str
    known: bool
    fallback: str | None = None
    degraded: list[str] = []
    experiment: Participation | msgspec.UnsetType = msgspec.UNSET
    explain: Explanation | msgspec.UnsetType = msgspec.UNSET
    spaces: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class BatchBody(Request):
    """The users to answer for; every other field is as in /recommend and holds for all of them."""

    users: Annotated[list[AnyId], msgspec.Meta(min_length=1)]
    k: Count = 20
    candidate_type: Name | None = None
    user_type: Name | None = None
    relation: Name | None = None
    strategy: Name = "auto"
    modes: Count | None = None
    exclude: list[AnyId] = []
    exclude_seen: bool = True
    filter: Filter | None = None
    diversity: Share = 0.0
    max_per_cluster: Count | None = None
    experiments: bool = True
    space: Name | None = None
    spaces: list[Name] = []


class BatchItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One user's answer, or why there is none. With an `experiment` it has a `request_id` of its own, for feedback.
    `version` is there where it is another one than the batch's: an arm of the experiment names it.
    """

    user: str
    status: str
    candidates: list[Candidate] = []
    strategy: str | None = None
    known: bool | msgspec.UnsetType = msgspec.UNSET
    fallback: str | None = None
    degraded: list[str] = []
    experiment: Participation | msgspec.UnsetType = msgspec.UNSET
    request_id: str | msgspec.UnsetType = msgspec.UNSET
    version: str | msgspec.UnsetType = msgspec.UNSET
    spaces: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    error: ItemError | None = None


class BatchAnswer(Answer):
    """One item for each user, in the order asked, of `version` unless the item names another."""

    results: list[BatchItem]
    ok: int
    failed: int


class Example(msgspec.Struct, frozen=True):
    """An entity that stands for an interest: of this user's own, or the popular ones of its cluster."""

    type: str
    id: str


class Interest(msgspec.Struct, frozen=True):
    """One mode of a user. The weights of interests in the same `types` sum to 1."""

    cluster: int
    weight: float
    size: int
    medoid: Example
    examples: list[Example]
    types: list[str] = []


class InterestsAnswer(Answer):
    """The user's modes, heaviest first: of the targets of the relation asked for, or of each type of targets, one after
    the other. None for a user without engagements."""

    user: str
    known: bool
    interests: list[Interest]
    degraded: list[str] = []

"""From a slate of rows to the JSON of an answer."""

from collections.abc import Sequence
from typing import Any

import msgspec

from bundle.errors import QueryError
from bundle.space import EntityTable, Relation, Space
from recommend.compiled import Served
from recommend.together import Joint
from recommend.types import Reason as SlateReason
from recommend.types import Slate
from service.experiments.live import Entered
from service.wire.common import ItemError
from service.wire.recommend import (
    BatchItem,
    Candidate,
    Engaged,
    Explanation,
    Mode,
    Participation,
    Reason,
    RecommendAnswer,
    Why,
)


def answer_of(
    slate: Slate | Served | Joint, degraded: Sequence[str], request_id: str, entered: Entered | None, *, explain: bool
) -> RecommendAnswer:
    """The answer to one request."""
    if isinstance(slate, Served):  # most are: nothing is looked at that these cannot have
        return RecommendAnswer(
            version=slate.version,
            request_id=request_id,
            candidates=msgspec.Raw(slate.candidates),  # type: ignore[arg-type]
            strategy=slate.strategy,
            known=slate.known,
            fallback=slate.fallback,
            degraded=_flags(slate, degraded) if slate.short else degraded,  # type: ignore[arg-type]
            experiment=msgspec.UNSET if entered is None else _participation(entered),
        )
    extra = {"explain": _explanation(slate)} if explain and isinstance(slate, Slate) else {}
    return RecommendAnswer(
        version=slate.version,
        request_id=request_id,
        candidates=_candidates(slate, explain=explain),
        strategy=slate.strategy,
        known=slate.known,
        fallback=slate.fallback,
        degraded=_flags(slate, degraded),
        experiment=_participation(entered),
        spaces=_spaces(slate),
        **extra,
    )


def _participation(entered: Entered | None) -> Participation | msgspec.UnsetType:
    return msgspec.UNSET if entered is None else Participation(entered.experiment.name, entered.arm.name)


def _spaces(slate: Slate | Served | Joint) -> dict[str, str] | msgspec.UnsetType:
    return slate.spaces if isinstance(slate, Joint) else msgspec.UNSET


def batch_item(
    user: str,
    result: Slate | Served | Joint | QueryError,
    degraded: Sequence[str],
    entered: Entered | None,
    request_id: str,
    version: str,
) -> BatchItem:
    """One user of a batch of `version`, whose answer is called `request_id`."""
    if isinstance(result, QueryError):
        return BatchItem(user=user, status="invalid", error=ItemError(result.code, str(result)))
    return BatchItem(
        user=user,
        status="ok",
        candidates=_candidates(result, explain=False),
        strategy=result.strategy,
        known=result.known,
        fallback=result.fallback,
        degraded=_flags(result, degraded),
        experiment=_participation(entered),
        request_id=msgspec.UNSET if entered is None else request_id,
        version=msgspec.UNSET if result.version == version else result.version,
        spaces=_spaces(result),
    )


def _flags(slate: Slate | Served | Joint, degraded: Sequence[str]) -> list[str]:
    return [*degraded, "short"] if slate.short else list(degraded)


def _candidates(slate: Slate | Served | Joint, *, explain: bool) -> Any:
    """A list of `Candidate`, or the JSON of one where that is at hand: the encoder copies it as it is."""
    if isinstance(slate, Served):
        return msgspec.Raw(slate.candidates)
    if isinstance(slate, Joint):
        return [Candidate(external, score, None) for external, score in zip(slate.ids, slate.scores, strict=True)]
    if slate.picks.encoded and not explain:
        return msgspec.Raw(b"[%b]" % b",".join(slate.picks.encoded))
    clusters = [*slate.modes.clusters.tolist(), None]  # the last is NO_MODE's
    modes = [clusters[mode] for mode in slate.picks.modes]
    columns = (slate.ids(), slate.picks.scores, modes)
    if not explain:
        return list(map(Candidate, *columns))
    whys = [
        Why(pick.rank, pick.score, pick.source, [_reason(slate.space, one) for one in reasons])
        for pick, reasons in zip(slate.picks, slate.reasons, strict=True)
    ]
    table = slate.space.entities[slate.candidate_type]
    return list(map(Candidate, *columns, whys, [table.label(row) or msgspec.UNSET for row in slate.picks.rows]))


def _reason(space: Space, reason: SlateReason) -> Reason:
    because = [
        Engaged(one.entity_type, table.ids.external(one.row), one.share, table.label(one.row) or msgspec.UNSET)
        for one in reason.because
        for table in [space.entities[one.entity_type]]
    ]
    return Reason(reason.kind, reason.share, because, reason.count or msgspec.UNSET, reason.via or msgspec.UNSET)


def _explanation(slate: Slate) -> Explanation:
    modes = slate.modes
    numbers = zip(modes.clusters.tolist(), modes.shares.tolist(), modes.budgets, strict=True)
    return Explanation(
        relation=slate.relation,
        candidate_type=slate.candidate_type,
        weights=slate.weights.model_dump(),
        modes=[Mode(cluster, share, *medoid_of(slate.space, cluster), drawn) for cluster, share, drawn in numbers],
        excluded=slate.exclusions.count(),
    )


def medoid_of(space: Space, cluster: int) -> tuple[str, str]:
    """Type and id of the entity at the centre of `cluster`."""
    clusters = space.clusters
    entity_type = clusters.types[int(clusters.medoid_types[cluster])]
    return entity_type, space.entities[entity_type].ids.external(int(clusters.medoid_rows[cluster]))


def relation_to(space: Space, target: EntityTable) -> Relation | None:
    """The relation whose edges to entities of a type are counted where none is named: the default one, or the first."""
    default = space.relation(space.entry.default.relation)
    leading = (one for one in (default, *space.relations.values()) if one.entry.target == target.name)
    return next(leading, None)

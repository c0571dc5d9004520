"""GET /v1/experiments and POST /v1/feedback."""

import contextlib
import re
from collections.abc import Iterable, Sequence

import msgspec
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from bundle.errors import StateError
from service.call import Call, Reply
from service.experiments.split import BUCKETS, Arm, wilson
from service.problems import invalid
from service.state.feedback import Count, Kind, Seen, mark_of
from service.wire.common import ItemError, is_id, text_of
from service.wire.experiments import (
    FEEDBACK_IDS_MAX,
    ExperimentArm,
    ExperimentItem,
    ExperimentsAnswer,
    FeedbackAnswer,
    FeedbackBody,
    FeedbackEvent,
    FeedbackItem,
)

_body = msgspec.json.Decoder(FeedbackBody)
_encode = msgspec.json.Encoder().encode
NO_COUNT = Count()
# Those of requests, and of users of a batch, which have their place there besides.
ANSWER_ID = re.compile(r"[A-Za-z0-9._:-]{1,80}\Z", re.ASCII)
ACCEPTANCE = (
    ("twhin_experiment_acceptance_ratio", "Clicks an impression since the experiment began, of all instances"),
    ("twhin_experiment_acceptance_low", "The lower bound of its 95% interval"),
    ("twhin_experiment_acceptance_high", "The upper bound of its 95% interval"),
)


async def experiments(call: Call) -> Reply:
    """The experiments as the file says, and what the store has counted for their arms."""
    loaded, live = call.runtime.versions.serving(), call.runtime.experiments
    items = []
    for experiment in live.current:
        counts = await call.runtime.state.counted(experiment.name)
        relations, reason = live.state_of(experiment, loaded)
        firsts = zip(experiment.arms, experiment.starts(), strict=True)
        arms = [_arm(arm, first, counts.get(arm.name, NO_COUNT)) for arm, first in firsts]
        items.append(ExperimentItem(experiment.name, experiment.relation, experiment.salt, relations, reason, arms))
    answer = ExperimentsAnswer(version=loaded.version, request_id=call.request_id, experiments=items, fault=live.fault)
    return Reply(_encode(answer))


def _arm(arm: Arm, first: int, count: Count) -> ExperimentArm:
    interval = wilson(count.clicks, count.impressions)
    return ExperimentArm(
        name=arm.name,
        strategy=arm.strategy,
        version=arm.version,
        share=arm.buckets / BUCKETS,
        first_bucket=first,
        buckets=arm.buckets,
        impressions=count.impressions,
        clicks=count.clicks,
        rate=count.clicks / count.impressions if count.impressions else None,
        interval=None if interval is None else list(interval),
    )


async def acceptance(call: Call) -> bytes:
    """The rates and intervals of every arm that was shown, for /metrics: what the store has counted of all instances.

    Without the store there are none: figures do not wait for it.
    """
    families = [GaugeMetricFamily(name, text, labels=["experiment", "arm"]) for name, text in ACCEPTANCE]
    with contextlib.suppress(StateError):
        for experiment in call.runtime.experiments.current:
            for arm, count in (await call.runtime.state.counted(experiment.name)).items():
                interval = wilson(count.clicks, count.impressions)
                if interval is not None and call.runtime.experiments.named(experiment.name, arm):
                    for family, value in zip(families, (count.clicks / count.impressions, *interval), strict=True):
                        family.add_metric([experiment.name, arm], value)
    return generate_latest(_Families(families))


class _Families:
    """What `generate_latest` asks of a registry."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


async def feedback(call: Call) -> Reply:
    """Count what is new. Answered once it is durable."""
    events = call.json(_body).events
    limit = call.runtime.settings.limits.engagements_max
    if len(events) > limit:
        raise invalid("/events", f"at most {limit} events")
    if sum(len(event.impressions) + len(event.clicks) for event in events) > FEEDBACK_IDS_MAX:
        raise invalid("/events", f"at most {FEEDBACK_IDS_MAX} impressions and clicks together")
    loaded = call.runtime.versions.serving()
    errors = [_fault(call, event) for event in events]
    seen: dict[str, list[tuple[int, Seen]]] = {}
    for position, event in enumerate(events):
        if errors[position] is None:
            seen.setdefault(event.experiment, []).extend((position, one) for one in _seen(event))
    new: dict[Kind, list[int]] = {"impression": [0] * len(events), "click": [0] * len(events)}
    for experiment, marked in seen.items():
        outcomes = await call.runtime.state.count(experiment, [one for _, one in marked])
        for (position, one), is_new in zip(marked, outcomes, strict=True):
            new[one.kind][position] += is_new
        _show(call, experiment, [one for (_, one), is_new in zip(marked, outcomes, strict=True) if is_new])
    items = list(map(_item, events, new["impression"], new["click"], errors))
    answer = FeedbackAnswer(
        version=loaded.version,
        request_id=call.request_id,
        results=items,
        impressions=sum(item.impressions for item in items),
        clicks=sum(item.clicks for item in items),
        invalid=sum(error is not None for error in errors),
    )
    return Reply(_encode(answer))


def _fault(call: Call, event: FeedbackEvent) -> ItemError | None:
    """Why an event cannot be counted."""
    if ANSWER_ID.match(event.request_id) is None:
        return ItemError("query_invalid", "request_id is none that an answer has")
    if not call.runtime.experiments.named(event.experiment, event.arm):
        return ItemError("query_invalid", "there is no such arm; GET /v1/experiments lists them")
    if not (event.impressions or event.clicks):
        return ItemError("query_invalid", "give impressions, clicks, or both")
    if not all(is_id(text_of(one)) for one in (*event.impressions, *event.clicks)):
        return ItemError("query_invalid", "an impression or click is no id: it has 1 to 256 characters")
    return None


def _seen(event: FeedbackEvent) -> list[Seen]:
    kinds: tuple[tuple[Kind, Sequence[str | int]], ...] = (
        ("impression", event.impressions),
        ("click", event.clicks),
    )
    return [
        Seen(event.arm, kind, mark_of(event.request_id, event.arm, kind, text_of(target)))
        for kind, targets in kinds
        for target in targets
    ]


def _show(call: Call, experiment: str, new: Sequence[Seen]) -> None:
    """Count what was new in the metrics, which are this instance's alone."""
    for arm in {one.arm for one in new}:
        kinds = [one.kind for one in new if one.arm == arm]
        call.runtime.metrics.experiments.fed_back(experiment, arm, kinds.count("impression"), kinds.count("click"))


def _item(event: FeedbackEvent, impressions: int, clicks: int, error: ItemError | None) -> FeedbackItem:
    # What is no request id is not repeated: nothing that was sent comes back in an error.
    if error is not None:
        return FeedbackItem(event.request_id if ANSWER_ID.match(event.request_id) else "", "invalid", error=error)
    return FeedbackItem(event.request_id, "counted" if impressions or clicks else "duplicate", impressions, clicks)

"""The JSON of /v1/experiments and /v1/feedback."""

from typing import Annotated, Literal

import msgspec

from service.wire.common import Answer, AnyId, ItemError, Name, Request

# In all events of a request: what takes a few milliseconds to look at.
FEEDBACK_IDS_MAX = 2000
Ids = Annotated[list[AnyId], msgspec.Meta(max_length=FEEDBACK_IDS_MAX)]


class ExperimentArm(msgspec.Struct, frozen=True):
    """One arm: whom it has (`buckets` from `first_bucket` on, of 10,000), how they are answered, and what they
    accepted. `version` is null where the one that serves answers. `rate` is clicks an impression; `interval` the bounds
    of 95%, low and high. Both are null without impressions, the interval also where there are more clicks than
    impressions.
    """

    name: str
    strategy: str
    version: str | None
    share: float
    first_bucket: int
    buckets: int
    impressions: int
    clicks: int
    rate: float | None
    interval: list[float] | None


class ExperimentItem(msgspec.Struct, frozen=True):
    """One experiment. It splits the users of `relations` now; `reason` says why not those of others that it is for.
    `relation` is null for one that is for all.
    """

    name: str
    relation: str | None
    salt: str
    relations: list[str]
    reason: str | None
    arms: list[ExperimentArm]


class ExperimentsAnswer(Answer):
    """The experiments of the file, in its order. `fault` says what is wrong with the file where it cannot be read:
    then those that it had before go on.
    """

    experiments: list[ExperimentItem]
    fault: str | None


class FeedbackEvent(Request):
    """Which candidates of one answer were shown to the user, and which were clicked (followed, played, …). `experiment`
    and `arm` are those of the answer, `request_id` is the answer's, of a batch the user's own there. Each candidate
    counts once as shown and once as clicked, so retries are safe, and clicks may come later than impressions, one by
    one.
    """

    request_id: Annotated[str, msgspec.Meta(description="1 to 80 of A-Z, a-z, 0-9, . _ : and -")]
    experiment: Name
    arm: Name
    impressions: Ids = []
    clicks: Ids = []


class FeedbackBody(Request):
    """What became of several answers."""

    events: Annotated[list[FeedbackEvent], msgspec.Meta(min_length=1)]


class FeedbackItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """`counted`: so many impressions and clicks were new. `duplicate`: none was. `invalid`: not counted, and why."""

    request_id: str
    status: Literal["counted", "duplicate", "invalid"]
    impressions: int = 0
    clicks: int = 0
    error: ItemError | None = None


class FeedbackAnswer(Answer):
    """One item for each event, in the order sent; how many impressions and clicks were new in all."""

    results: list[FeedbackItem]
    impressions: int
    clicks: int
    invalid: int

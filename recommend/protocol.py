"""Who recommends, as a build and the evaluation ask: rows in, rows out, one interface.

`recommend.recommender.Recommender` answers in this process, `evaluation.http_recommender.HttpRecommender` asks a
running service.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64, Integer

from bundle.csr import Csr
from bundle.manifest import Strategy

Users = Int64[npt.NDArray[np.int64], " users"]
# One list of candidate rows a user, best first.
Lists = Sequence[Integer[npt.NDArray[np.integer], " _"]]


@runtime_checkable
class RowRecommender(Protocol):
    """Candidates of one relation for many users at once.

    A strategy is the name of one ("auto" included) or, where the recommender can take it, the strategy itself, which
    no version need have. Raises QueryError or UsageError for a name or a relation that is not there.
    """

    def for_users(self, users: Users, strategy: Strategy | str, k: int, *, relation: str) -> Lists:
        """Up to `k` for each row of the source type, without the user and the user's training edges."""
        ...

    def for_newcomers(
        self, engagements: Csr, followers: Csr, strategy: Strategy | str, k: int, *, relation: str
    ) -> Lists:
        """Up to `k` for people whom training does not know, without what they engaged with.

        Row i of `engagements` (targets of the relation) and of `followers` (those with an edge of it to them) is all
        that is known of person i; `followers` is empty where the relation's ends differ in type.
        """
        ...

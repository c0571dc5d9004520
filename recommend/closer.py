"""Looking closer: the few hundred candidates that one query found, ordered anew by the version's network."""

import numpy as np

from bundle.manifest import Rescoring
from recommend.merge import Column
from recommend.plan import Plan
from recommend.rescoring import candidate_features, make_subject, rescore
from recommend.types import in_sorted


def look_closer(plan: Plan, rescoring: Rescoring, column: Column) -> Column:
    """The candidates of `column` by the network's score, best first; equal scores by row.

    As they were for a user without edges of this relation: the network has nothing to compare them with.
    """
    if not column.rows or not len(plan.profile.targets):
        return column
    profile = plan.profile
    followers = profile.followers(plan.relation)
    subject = make_subject(plan.space, plan.relation, profile.vector, profile.targets, followers)
    rows = np.array(column.rows, dtype=np.int64)
    features = candidate_features(plan.space, plan.relation, subject, rows, in_sorted(rows, followers))
    scores = rescore(rescoring, features)
    order = np.lexsort((rows, -scores))
    return column._replace(rows=rows[order].tolist(), scores=scores[order].tolist())

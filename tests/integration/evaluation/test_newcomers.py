"""Newcomers through the service's own fold-in, on the toy: what they liked decides what they get."""

import numpy as np

from bundle.csr import csr_from_pairs, empty_csr
from recommend.recommender import Recommender
from tests.support.toy import ITEMS, item_row


def test_two_engagements_are_enough_to_tell_a_taste_and_are_not_recommended_back(recommender: Recommender) -> None:
    liked = ["jazz-03", "jazz-05", "chess-02", "chess-04"]
    rows = np.array([0, 0, 1, 1], dtype=np.int32)
    engagements = csr_from_pairs(rows, np.array([item_row(item) for item in liked], dtype=np.int32), 2)
    slates = recommender.for_newcomers(engagements, empty_csr(2), "fold_in", 10, relation="likes")
    names = [[ITEMS[row] for row in slate] for slate in slates]
    assert all(name.startswith("jazz") for name in names[0])
    assert all(name.startswith("chess") for name in names[1])
    assert not set(liked) & {*names[0], *names[1]}

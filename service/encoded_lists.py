"""A stored candidate as JSON: handed to the recommender, which keeps it beside the row so that it is encoded once."""

import msgspec

from service.wire.recommend import Candidate

_encode = msgspec.json.Encoder().encode


def encode_candidate(external: str, score: float, cluster: int) -> bytes:
    """The candidate as the answers to /recommend show it."""
    return _encode(Candidate(external, score, cluster))

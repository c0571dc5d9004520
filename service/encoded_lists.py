"""How a candidate is written in JSON: told to the recommender, so that it may hand answers over as they are sent."""

import msgspec

from service.wire.recommend import Candidate

_encode = msgspec.json.Encoder().encode


def encode_candidate(external: str, score: float, cluster: int) -> bytes:
    """The candidate as the answers to /recommend show it."""
    return _encode(Candidate(external, score, cluster))


def pieces_of_candidate() -> tuple[bytes, bytes, bytes, bytes]:
    """What stands before its id, its score and its mode, and after it."""
    sample = encode_candidate("7", 0.5, 3)
    before_id, rest = sample.split(b'"7"')
    before_score, rest = rest.split(b"0.5")
    before_mode, after = rest.split(b"3")
    return before_id, before_score, before_mode, after

"""What is known of the users, items and ads of a generated graph besides their edges, all of it made up.

Names and titles are put together from lists of words, communities are called by topics, and times fit the edges: nobody
likes before having joined, nor what is not yet published.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from jaxtyping import Bool, Int64

# Eight topics each. Community i is a topic of field i modulo 8, so that the fields are about equally large.
FIELDS = {
    "arts": "painting theatre film photography poetry comics dance sculpture",
    "crafts": "pottery knitting woodwork origami sewing calligraphy weaving glassblowing",
    "food": "baking coffee cheese tea barbecue pasta spices chocolate",
    "games": "chess puzzles cards dice pinball crosswords darts billiards",
    "music": "jazz opera techno folk choirs guitars drums synthesizers",
    "nature": "gardens cats dogs bees horses orchids mushrooms birds",
    "science": "astronomy botany chemistry geology physics mathematics robotics weather",
    "sports": "football tennis cycling climbing running swimming sailing skiing",
}
_ROWS = [words.split() for words in FIELDS.values()]
TOPICS = [row[place] for place in range(len(_ROWS[0])) for row in _ROWS]

_GIVEN = (
    "Al Bel Cor Dan El Fen Gil Hel Il Jor Kel Lu Mar Nor Ol Per Ren Sel Tam Ul Vel Wil Yor Zel",
    "a an ea en ia in ion is o or ra wen",
)
_FAMILY = (
    "Ash Birch Brook Clay Elm Fern Glen Green Hazel Heath Hill Lake Linden Marsh Moss North Oak Rain Reed River Stone "
    "Thorn West Wind Winter",
    "berg bridge by croft dale fell field ford gate hall holm hurst ley low mere more ridge shaw side stead ton ward "
    "water way well wick wood worth",
)
_KINDS = (
    "Easy Forgotten Gentle Golden Honest Little Modern Northern Patient Quiet Secret Simple Slow Small Strange Wild"
)
_WORKS = (
    "Almanac Atlas Calendar Companion Diary Dictionary Evenings Guide Handbook Journal Lessons Letters Notebook Primer "
    "Sketches Stories"
)
_DAY = 86_400
# How long before their first like users have joined and items have been published, in days, on average.
_JOINED_BEFORE, _PUBLISHED_BEFORE = 200, 60
# Share of users with the most followers of whom most are verified; of the others few are.
_KNOWN_SHARE, _VERIFIED_KNOWN, _VERIFIED_OTHERS = 0.02, 0.8, 0.01
# Share of the items that have no price; of the others half cost less than e^2.5, about 12.
_UNPRICED, _PRICE_MEAN, _PRICE_SIGMA = 0.05, 2.5, 0.8

Rows = Int64[npt.NDArray[np.int64], " n"]
Words = npt.NDArray[Any]  # of str
Columns = dict[str, pa.Array]


def about_users(
    rng: np.random.Generator,
    interests: Int64[npt.NDArray[np.int64], "n i"],
    held: Bool[npt.NDArray[np.bool_], "n i"],
    followers: Rows,
    first_like: Rows,
) -> Columns:
    """Name, community, all interests, field, when joined and whether verified, of each of n users.

    `interests` are communities, home first, and count where `held`; `first_like` is in Unix seconds.
    """
    n = len(interests)
    home = interests[:, 0]
    known = followers >= np.quantile(followers, 1 - _KNOWN_SHARE)
    offsets = np.concatenate([[0], np.cumsum(held.sum(axis=1))]).astype(np.int32)
    return {
        "name": pa.array(_joined(_invented(rng, _GIVEN, n), " ", _invented(rng, _FAMILY, n))),
        "community": pa.array(_topics(home)),
        "interests": pa.ListArray.from_arrays(offsets, pa.array(_topics(interests[held]))),
        "field": pa.array(_fields(home)),
        "joined": _before(rng, first_like, _JOINED_BEFORE),
        "verified": pa.array(rng.random(n) < np.where(known, _VERIFIED_KNOWN, _VERIFIED_OTHERS)),
    }


def about_items(rng: np.random.Generator, community: Rows, first_like: Rows) -> Columns:
    """Title, topic, field, when published and, of most, the price, of each of n items."""
    n = len(community)
    titles = _joined(_drawn(rng, _KINDS, n), " ", np.char.title(_topics(community)), " ", _drawn(rng, _WORKS, n))
    prices = np.round(rng.lognormal(_PRICE_MEAN, _PRICE_SIGMA, n), 2)
    return {
        "title": pa.array(titles),
        "topic": pa.array(_topics(community)),
        "field": pa.array(_fields(community)),
        "published": _before(rng, first_like, _PUBLISHED_BEFORE),
        "price": pa.array(prices, mask=rng.random(n) < _UNPRICED),
    }


def about_ads(rng: np.random.Generator, community: Rows) -> Columns:
    """Title, topic and field of each of n ads."""
    makers = _invented(rng, _FAMILY, len(community))
    return {
        "title": pa.array(_joined(makers, ": all for ", _topics(community))),
        "topic": pa.array(_topics(community)),
        "field": pa.array(_fields(community)),
    }


def earliest(rows: Int64[npt.NDArray[np.int64], " e"], times: Int64[npt.NDArray[np.int64], " e"], n: int) -> Rows:
    """The earliest of the times of each of n rows, the latest of all for a row without."""
    first = np.full(n, times.max())
    np.minimum.at(first, rows, times)
    return first


def _topics(community: Rows) -> Words:
    return np.array(TOPICS)[community]


def _fields(community: Rows) -> Words:
    return np.array(list(FIELDS))[community % len(FIELDS)]


def _drawn(rng: np.random.Generator, words: str, n: int) -> Words:
    return rng.choice(np.array(words.split()), n)


def _invented(rng: np.random.Generator, syllables: tuple[str, str], n: int) -> Words:
    return _joined(*(_drawn(rng, words, n) for words in syllables))


def _joined(*parts: Words | str) -> Words:
    whole: Words = np.array("")
    for part in parts:
        whole = np.char.add(whole, part)
    return whole


def _before(rng: np.random.Generator, times: Rows, days: int) -> pa.Array:
    """Moments before `times`, earlier ones more and more seldom."""
    earlier = times - 1 - rng.exponential(days * _DAY, len(times)).astype(np.int64)
    return pa.array(earlier).cast(pa.timestamp("s", tz="UTC"))

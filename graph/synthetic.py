"""A graph with planted interests: to try everything without data, and to test against a known truth.

Users have two to four interests of unequal weight out of 64 communities. The first is their home: the community whose
followers find them. A user follows accounts, likes items and (one in eight) clicks ads, each time in a community drawn
by the weights, and there in proportion to popularity. Degrees and popularity follow power laws; some follows are
noise; many are returned, mostly among people who share a community. What graph/invented.py tells of them
besides is drawn apart, and changes no edge.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Float64, Int64

from bundle.appearing import appearing
from bundle.arrays import map_array, save_array
from bundle.disk import write_text
from bundle.errors import BundleError, UsageError
from bundle.ids import IdKind
from graph.invented import Columns, about_ads, about_items, about_users, earliest

INTERESTS = "interests.npy"
COMMUNITIES = 64
MAX_INTERESTS = 4
# Fewer cannot fill the communities.
MIN_USERS = 100
# Of users with two, three, four interests.
_INTEREST_SHARES = (0.40, 0.35, 0.25)
# Each interest weighs this much of the one before it, give or take.
_WEIGHT_RATIO = 0.6
# Share of the edges that ignore interests.
_NOISE = 0.05
# Share of follows that are returned, within one home community and between two.
_RETURNED_AT_HOME, _RETURNED_ELSEWHERE = 0.5, 0.03
# Share of the users who click ads.
_CLICKING_SHARE = 0.125
# Likes fall in the 180 days after 2025-01-01; times are Unix seconds.
_FIRST_TIME, _DAYS, _DAY = 1_735_689_600, 180, 86_400
# Users whose interests are drawn at a time, at 8 bytes for each of the communities.
_GUMBEL_ROWS = 100_000

GRAPH_TOML = """# A generated graph with planted interests (seed {seed}).
# interests.npy [users, {communities}] holds the weights that were planted, row i for user i;
# planted.parquet the community of every user (its home), item and ad.
[entities.user]
id = "{kind}"
attributes = "users.parquet"
label = "name"
[entities.item]
id = "{kind}"
attributes = "items.parquet"
label = "title"
[entities.ad]
id = "{kind}"
attributes = "ads.parquet"
label = "title"

[[relations]]
name = "follows"
source = "user"
target = "user"
files = "follows.parquet"
coverage = "high"

[[relations]]
name = "likes"
source = "user"
target = "item"
files = "likes.parquet"
time = "time"
coverage = "high"

[[relations]]
name = "clicks_ad"
source = "user"
target = "ad"
files = "clicks_ad.parquet"
coverage = "low"

[split]
relation = "follows"
by = "random"
fraction = 0.1
seed = {seed}
"""

Pairs = Int64[npt.NDArray[np.int64], "_ 2"]


@dataclass(frozen=True, slots=True)
class Interests:
    """What each user was given: communities by falling weight, and running sums of the weights (1 from the last on)."""

    communities: Int64[npt.NDArray[np.int64], "n 4"]
    cumulative: Float64[npt.NDArray[np.float64], "n 4"]

    def weights(self) -> Float64[npt.NDArray[np.float64], "n 4"]:
        """The weights of `communities`; 0 after a user's last interest."""
        return np.diff(self.cumulative, axis=1, prepend=0.0)

    def matrix(self) -> Float32[npt.NDArray[np.float32], "n 64"]:
        """The weight of every community for every user; rows sum to 1."""
        weights = self.weights()
        matrix = np.zeros((len(weights), COMMUNITIES), dtype=np.float32)
        np.put_along_axis(matrix, self.communities, weights.astype(np.float32), axis=1)
        return matrix

    def has(
        self, users: Int64[npt.NDArray[np.int64], " e"], communities: Int64[npt.NDArray[np.int64], " e"]
    ) -> npt.NDArray[np.bool_]:
        """Whether each user has each community among its interests."""
        weights = np.diff(self.cumulative[users], axis=1, prepend=0.0)
        shared: npt.NDArray[np.bool_] = ((self.communities[users] == communities[:, None]) & (weights > 0)).any(axis=1)
        return shared

    def draw(
        self, rng: np.random.Generator, users: Int64[npt.NDArray[np.int64], " e"]
    ) -> Int64[npt.NDArray[np.int64], " e"]:
        """One community for each given user, by its weights."""
        chosen = (self.cumulative[users] < rng.random(len(users))[:, None]).sum(axis=1)
        return np.take_along_axis(self.communities[users], chosen[:, None], axis=1)[:, 0]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Things with a community and a popularity, laid out so that one search draws one of a community."""

    community: Int64[npt.NDArray[np.int64], " m"]
    order: Int64[npt.NDArray[np.int64], " m"]
    cumulative: Float64[npt.NDArray[np.float64], " m_plus_1"]
    starts: Int64[npt.NDArray[np.int64], " c_plus_1"]

    def draw(
        self, rng: np.random.Generator, communities: Int64[npt.NDArray[np.int64], " e"]
    ) -> Int64[npt.NDArray[np.int64], " e"]:
        """A member of each given community in proportion to popularity; a few are drawn from all communities."""
        low = self.cumulative[self.starts[communities]]
        high = self.cumulative[self.starts[communities + 1]]
        anywhere = (rng.random(len(communities)) < _NOISE) | (low == high)
        low, high = np.where(anywhere, 0.0, low), np.where(anywhere, self.cumulative[-1], high)
        places = np.searchsorted(self.cumulative, low + rng.random(len(low)) * (high - low), side="right") - 1
        return self.order[np.minimum(places, len(self.order) - 1)]


def generate(out: Path, n_users: int = 20_000, seed: int = 1, ids: IdKind = "int64") -> Path:
    """Write a generated graph to the new directory `out`; equal arguments give equal files.

    Returns the path of its graph.toml, which is written last. Ids are 0, 1, … or with `ids="string"` user-000000, ….

    Raises UsageError for fewer than 100 users, and as `appearing`.
    """
    if n_users < MIN_USERS:
        raise UsageError(
            f"{n_users} users are too few to plant {COMMUNITIES} communities. Ask for {MIN_USERS} or more."
        )
    with appearing(out) as staging:
        _write(staging, n_users, seed, ids)
    return out / "graph.toml"


def planted_users(directory: Path) -> int | None:
    """How many users a generated graph has, those without an edge included; None where that cannot be told."""
    try:
        return len(map_array(directory / INTERESTS))
    except (OSError, BundleError):
        return None


def _write(out: Path, n_users: int, seed: int, ids: IdKind) -> None:
    rng = np.random.default_rng(seed)
    interests = plant_interests(rng, n_users)
    users = catalogue(rng, interests.communities[:, 0])
    items = catalogue(rng, _communities(rng, max(n_users // 2, COMMUNITIES)))
    ads = catalogue(rng, _communities(rng, max(n_users // 50, COMMUNITIES)))
    follow_pairs = follows(rng, interests, users)
    _write_edges(out / "follows.parquet", follow_pairs, ("user", "user"), ids, None)
    likes = engagements(rng, interests, items, _power_law_degrees(rng, n_users, least=5, most=300))
    times = _FIRST_TIME + rng.integers(_DAYS * _DAY, size=len(likes))
    _write_edges(out / "likes.parquet", likes, ("user", "item"), ids, times)
    n_clicks = np.where(rng.random(n_users) < _CLICKING_SHARE, rng.geometric(0.4, n_users), 0).astype(np.int64)
    clicks = engagements(rng, interests, ads, n_clicks)
    _write_edges(out / "clicks_ad.parquet", clicks, ("user", "ad"), ids, None)
    save_array(out / INTERESTS, interests.matrix())
    _write_planted(out / "planted.parquet", {"user": users, "item": items, "ad": ads}, ids)
    apart = np.random.default_rng((seed, 1))
    followers = np.bincount(follow_pairs[:, 1], minlength=n_users)
    first = earliest(likes[:, 0], times, n_users)
    about = about_users(apart, interests.communities, interests.weights() > 0, followers, first)
    _write_about(out, "user", about, [*follow_pairs.T, likes[:, 0], clicks[:, 0]], ids)
    about = about_items(apart, items.community, earliest(likes[:, 1], times, len(items.community)))
    _write_about(out, "item", about, [likes[:, 1]], ids)
    _write_about(out, "ad", about_ads(apart, ads.community), [clicks[:, 1]], ids)
    write_text(out / "graph.toml", GRAPH_TOML.format(seed=seed, kind=ids, communities=COMMUNITIES))


def plant_interests(rng: np.random.Generator, n_users: int) -> Interests:
    """Two to four interests for each user, popular communities more often."""
    log_share = np.log(_community_shares())
    chosen = np.empty((n_users, MAX_INTERESTS), dtype=np.int64)
    for start in range(0, n_users, _GUMBEL_ROWS):  # the highest of log p + Gumbel noise: draws without replacement
        rows = min(_GUMBEL_ROWS, n_users - start)
        scores = log_share + rng.gumbel(size=(rows, COMMUNITIES))
        chosen[start : start + rows] = np.argsort(-scores, axis=1)[:, :MAX_INTERESTS]
    count = 2 + rng.choice(3, size=n_users, p=_INTEREST_SHARES)
    weights = _WEIGHT_RATIO ** np.arange(MAX_INTERESTS) * rng.lognormal(sigma=0.15, size=(n_users, MAX_INTERESTS))
    weights[np.arange(MAX_INTERESTS) >= count[:, None]] = 0.0
    weights = -np.sort(-weights, axis=1)
    cumulative = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
    cumulative[np.arange(MAX_INTERESTS) >= count[:, None] - 1] = 1.0
    return Interests(chosen, cumulative)


def catalogue(rng: np.random.Generator, community: Int64[npt.NDArray[np.int64], " m"]) -> Catalogue:
    """Give each member of the communities a popularity from a power law."""
    popularity = (1.0 - rng.random(len(community))) ** (-1 / 1.3)
    order = np.argsort(community, kind="stable")
    cumulative = np.concatenate([[0.0], np.cumsum(np.minimum(popularity, 1000.0)[order])])
    starts = np.searchsorted(community[order], np.arange(COMMUNITIES + 1))
    return Catalogue(community, order, cumulative, starts)


def follows(rng: np.random.Generator, interests: Interests, users: Catalogue) -> Pairs:
    """Who follows whom: distinct pairs, no self-loops, in random order."""
    n_users = len(interests.communities)
    out = engagements(rng, interests, users, _power_law_degrees(rng, n_users, least=6, most=400))
    out = out[out[:, 0] != out[:, 1]]
    source, target = out[:, 0], out[:, 1]
    shared = interests.has(target, users.community[source])
    returned = rng.random(len(out)) < np.where(shared, _RETURNED_AT_HOME, _RETURNED_ELSEWHERE)
    return _distinct(rng, np.concatenate([out, out[returned][:, ::-1]]), n_users)


def engagements(
    rng: np.random.Generator, interests: Interests, things: Catalogue, degrees: Int64[npt.NDArray[np.int64], " n"]
) -> Pairs:
    """Distinct pairs of a user and a thing, about `degrees` of them for each user, in random order."""
    users = np.repeat(np.arange(len(degrees)), degrees)
    pairs = np.stack([users, things.draw(rng, interests.draw(rng, users))], axis=1)
    return _distinct(rng, pairs, len(things.community))


def _distinct(rng: np.random.Generator, pairs: Pairs, n_targets: int) -> Pairs:
    keys = np.unique(pairs[:, 0] * n_targets + pairs[:, 1])
    rng.shuffle(keys)
    return np.stack([keys // n_targets, keys % n_targets], axis=1)


def _community_shares() -> Float64[npt.NDArray[np.float64], " c"]:
    shares = 1.0 / (np.arange(COMMUNITIES) + 10.0) ** 0.7
    normalised: npt.NDArray[np.float64] = shares / shares.sum()
    return normalised


def _communities(rng: np.random.Generator, count: int) -> Int64[npt.NDArray[np.int64], " m"]:
    """A community for each of `count` things, at least COMMUNITIES of them; none goes without."""
    more = rng.choice(COMMUNITIES, size=count - COMMUNITIES, p=_community_shares())
    return rng.permutation(np.concatenate([np.arange(COMMUNITIES), more]))


def _power_law_degrees(
    rng: np.random.Generator, count: int, least: int, most: int
) -> Int64[npt.NDArray[np.int64], " n"]:
    """Degrees with p(d) falling as d^-2.3 from `least` to `most`."""
    return np.minimum(least * (1.0 - rng.random(count)) ** (-1 / 1.3), most).astype(np.int64)


def _write_edges(
    path: Path,
    pairs: Pairs,
    types: tuple[str, str],
    ids: IdKind,
    times: Int64[npt.NDArray[np.int64], " e"] | None,
) -> None:
    columns = {"src": _ids(pairs[:, 0], types[0], ids), "dst": _ids(pairs[:, 1], types[1], ids)}
    if times is not None:
        columns["time"] = pa.array(times)
    _write_table(path, pa.table(columns))


def _write_about(out: Path, name: str, about: Columns, ends: list[npt.NDArray[np.int64]], ids: IdKind) -> None:
    """Write what is known of the entities that stand in `ends` of edges; of others it would be left out in reading."""
    rows = np.unique(np.concatenate(ends))
    _write_table(out / f"{name}s.parquet", pa.table(about).take(rows).add_column(0, "id", _ids(rows, name, ids)))


def _write_planted(path: Path, catalogues: dict[str, Catalogue], ids: IdKind) -> None:
    tables = [
        pa.table(
            {
                "type": pa.array([name] * len(things.community)),
                "id": _ids(np.arange(len(things.community)), name, ids).cast(pa.string()),
                "community": pa.array(things.community.astype(np.int16)),
            }
        )
        for name, things in catalogues.items()
    ]
    _write_table(path, pa.concat_tables(tables))


def _write_table(path: Path, table: pa.Table) -> None:
    partial = path.with_name(path.name + ".partial")
    pq.write_table(table, partial, compression="zstd")
    partial.replace(path)


def _ids(numbers: Int64[npt.NDArray[np.int64], " n"], name: str, kind: IdKind) -> pa.Array:
    if kind == "int64":
        return pa.array(numbers)
    text = np.char.add(f"{name}-", np.char.zfill(numbers.astype(np.str_), 6))
    return pa.array(text)

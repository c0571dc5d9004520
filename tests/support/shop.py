"""A shop of two relations between the same types: users view items of two interests each, and buy some of those."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from graph.prepare import prepare
from tests.support.world import write_edges
from training.config import parse_config
from training.train import train

INTERESTS = 12
FIRST, DAY = 1_700_000_000, 86_400
TRAINING = {"dim": 16, "epochs": 6, "threads": 1}
GRAPH = """
[entities.user]
id = "int64"
[entities.item]
id = "int64"
[[relations]]
name = "viewed"
source = "user"
target = "item"
files = "viewed.csv"
[[relations]]
name = "bought"
source = "user"
target = "item"
files = "bought.csv"
[split]
by = "random"
relation = ["bought", "viewed"]
"""


def write_shop(
    directory: Path,
    *,
    users: int = 400,
    items: int = 400,
    views: int = 25,
    buys: int = 8,
    strict: float = 0.9,
    lookers: int = 0,
    lately: int | None = None,
) -> Path:
    """Of what a user buys the share `strict` is of what that user views, of the last `lately` views where these are
    said, which then have times; the rest is drawn as views are. The last `lookers` users buy nothing.
    """
    directory.mkdir(parents=True)
    rng = np.random.default_rng(1)
    of_user, of_item = rng.integers(0, INTERESTS, (users, 2)), rng.integers(0, INTERESTS, items)
    fame = (1.0 + rng.permutation(items)) ** -0.5

    def drawn(user: int, n: int) -> npt.NDArray[np.int64]:
        liked = (np.isin(of_item, of_user[user]) + 0.02) * fame
        return rng.choice(items, n, replace=False, p=liked / liked.sum())

    viewed, bought = [], []
    for user in range(users):
        seen, elsewhere = drawn(user, views), drawn(user, buys)
        from_views = rng.random(buys) < strict
        chosen = np.where(from_views, rng.choice(seen[-(lately or views) :], buys, replace=False), elsewhere)
        viewed += [(user, item, FIRST + DAY * day) for day, item in enumerate(seen.tolist())]
        bought += [(user, item) for item in chosen.tolist() if user < users - lookers]
    columns = 2 if lately is None else 3
    write_edges(directory / "viewed.csv", np.array(viewed)[:, :columns])
    write_edges(directory / "bought.csv", np.array(bought))
    timed = GRAPH if lately is None else GRAPH.replace('"viewed.csv"', '"viewed.csv"\ntime = "time"')
    (directory / "graph.toml").write_text(timed)
    return directory / "graph.toml"


def trained_shop(root: Path, **shape: float) -> Path:
    """A run over a shop in `root`."""
    run = root / "run"
    graph = prepare(write_shop(root / "shop", **shape), run / "graph")  # type: ignore[arg-type]
    train(graph, run, parse_config(TRAINING, "the test"))
    return run

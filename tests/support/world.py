"""A small world of two relations: users follow each other and listen to artists by two interests each."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from graph.prepare import prepare
from training.config import parse_config
from training.train import train

USERS, ARTISTS, INTERESTS = 400, 300, 10
TRAINING = {"dim": 16, "epochs": 4, "threads": 1}
GRAPH = """
[entities.user]
id = "int64"
[entities.artist]
id = "int64"
[[relations]]
name = "follows"
source = "user"
target = "user"
files = "follows.csv"
[[relations]]
name = "listens"
source = "user"
target = "artist"
files = "listens.csv"
"""
BOTH = '[split]\nby = "random"\n'


def write_edges(path: Path, ends: npt.NDArray[np.int64]) -> None:
    """Both ends of each edge, and a time where there is a third column."""
    rows = np.random.default_rng(0).permutation(np.unique(ends, axis=0))
    names = ["src", "dst", "time"][: rows.shape[1]]
    path.write_text("\n".join(",".join(map(str, line)) for line in [names, *rows.tolist()]) + "\n")


def write_world(directory: Path, extra: str, listeners: int = 0) -> Path:
    """Whoever shares an interest follows, half of them back, and listens to its artists; a few do not.

    The first `listeners` follow nobody.
    """
    directory.mkdir(parents=True)
    rng = np.random.default_rng(1)
    of_user, of_artist = rng.integers(0, INTERESTS, (USERS, 2)), rng.integers(0, INTERESTS, ARTISTS)
    fame = 1.0 / (1.0 + np.arange(ARTISTS))
    follows, listens = [], []
    for user in range(USERS):
        alike = np.flatnonzero((of_user == of_user[user, 0]).any(axis=1))
        chosen = np.append(rng.choice(alike, 10), rng.integers(0, USERS, 2))
        follows += [(user, other) for other in chosen.tolist() if other != user and user >= listeners]
        liked = np.isin(of_artist, of_user[user]) + 0.02
        heard = rng.choice(ARTISTS, 15, replace=False, p=liked * fame**0.5 / (liked * fame**0.5).sum())
        listens += [(user, artist) for artist in heard.tolist()]
    back = [(dst, src) for src, dst in follows if rng.random() < 0.5 and dst >= listeners]
    write_edges(directory / "follows.csv", np.array(follows + back))
    write_edges(directory / "listens.csv", np.array(listens))
    (directory / "graph.toml").write_text(GRAPH + extra)
    return directory / "graph.toml"


def trained(root: Path, extra: str, listeners: int = 0, **settings: object) -> Path:
    """A run over the world in `root`, which is made anew, with other settings of the training where they are given."""
    run = root / "run"
    graph = prepare(write_world(root / "world", extra, listeners), run / "graph")
    train(graph, run, parse_config({**TRAINING, **settings}, "the test"))
    return run

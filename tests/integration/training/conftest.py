"""A small world that can be learnt: 300 users in ten circles follow their own circle and like its ten items."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bundle.prepared import PreparedGraph
from tests.support.graphs import Links, ids, write_graph
from training.config import TrainConfig

USERS, ITEMS, CIRCLES = 300, 100, 10


def circle_edges(rng: np.random.Generator) -> dict[str, npt.NDArray[np.int32]]:
    """Each user follows a third of their circle and likes most of its items; user u is in circle u % 10."""
    user, other = np.meshgrid(np.arange(USERS), np.arange(USERS), indexing="ij")
    friends = np.argwhere((user % CIRCLES == other % CIRCLES) & (user != other) & (rng.random(user.shape) < 0.33))
    user, item = np.meshgrid(np.arange(USERS), np.arange(ITEMS), indexing="ij")
    liked = np.argwhere((user % CIRCLES == item % CIRCLES) & (rng.random(user.shape) < 0.7))
    return {"follows": friends.astype(np.int32), "likes": liked.astype(np.int32)}


def write_circles(path: Path, held_out: float = 0.1) -> PreparedGraph:
    """The world as a prepared graph with a share of `follows` held out."""
    rng = np.random.default_rng(7)
    edges = circle_edges(rng)
    shuffled = edges["follows"][rng.permutation(len(edges["follows"]))]
    split = int(held_out * len(shuffled))
    follows = Links("follows", "user", "user", shuffled[split:], test=shuffled[:split])
    likes = Links("likes", "user", "item", edges["likes"])
    return write_graph(path, {"user": ids(USERS), "item": ids(ITEMS)}, [follows, likes])


@pytest.fixture
def circles(tmp_path: Path) -> PreparedGraph:
    return write_circles(tmp_path / "prepared")


@pytest.fixture
def config() -> TrainConfig:
    """Settings for the small world: one thread, so that everything repeats exactly."""
    return TrainConfig(dim=16, epochs=5, chunk=32, negatives_in_batch=0, negatives_uniform=64, threads=1)

"""A ranking model with and without twhin's embeddings, on a log of impressions: AUC and RCE, as in tables 2 and 3 of
the paper (El-Kishky et al., 2022).

    python examples/ranking/ranker.py --bundles .demo/bundles --graph .demo/graph

The demo's graph has planted interests (`interests.npy`, `planted.parquet`). From them comes a log that the version has
never seen: a user is shown an item, and clicks more likely the more of the user's interest is in the item's community.
Of a log of your own only the four columns matter: user, item, label, and whatever your ranker knows besides.
Needs twhin-client[arrow,torch]; of the product nothing.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from torch import nn
from torch.utils.data import DataLoader

import twhin_client
from twhin_client.torch import FrozenEmbedding, RankingDataset

Floats = npt.NDArray[np.float64]


class Log(NamedTuple):
    """Impressions: who was shown what, whether it was clicked, and what the ranker knows besides."""

    users: npt.NDArray[np.str_]
    items: npt.NDArray[np.str_]
    clicked: npt.NDArray[np.bool_]
    others: Floats

    def part(self, chosen: npt.NDArray[np.bool_]) -> "Log":
        """Some of them."""
        return Log(self.users[chosen], self.items[chosen], self.clicked[chosen], self.others[chosen])


def impressions(graph: Path, n: int, rng: np.random.Generator) -> Log:
    """A log of `n` impressions, half of them of items in the user's communities. The ranker knows the item's position
    on the page and the hour besides, of which the position matters.
    """
    interests = np.load(graph / "interests.npy")
    planted = pq.read_table(graph / "planted.parquet")
    names = {column: planted[column].to_numpy(zero_copy_only=False) for column in planted.column_names}
    items = names["type"] == "item"
    item_ids, communities = names["id"][items], names["community"][items].astype(np.int64)
    users = rng.integers(0, len(interests), n)
    shown = rng.integers(0, len(item_ids), n)
    near = rng.random(n) < 0.5  # what a first stage of candidates would have found
    order = np.argsort(communities, kind="stable")
    bounds = np.searchsorted(communities[order], np.arange(interests.shape[1] + 1))
    liked = np.array(
        [rng.choice(interests.shape[1], p=row / row.sum()) for row in interests[users[near]].astype(float)]
    )
    span = np.maximum(bounds[liked + 1] - bounds[liked], 1)
    shown[near] = order[np.minimum(bounds[liked] + rng.integers(0, span), len(order) - 1)]
    position, hour = rng.integers(0, 10, n), rng.integers(0, 24, n)
    chance = 1 / (1 + np.exp(2.2 + 0.15 * position - 4.0 * interests[users, communities[shown]]))
    others = np.stack([position / 10, np.sin(hour / 24 * 2 * np.pi), np.cos(hour / 24 * 2 * np.pi)], axis=1)
    return Log(users.astype(str), item_ids[shown].astype(str), rng.random(n) < chance, others)


class Ranker(nn.Module):
    """A network of one hidden layer over the other features and, of each side that it sees, the frozen vector and
    whether there is one; of both sides also their product by coordinate. Each input is scaled by itself: a norm over
    all inputs of an impression would keep little of a few features but which of them is the largest.
    """

    def __init__(self, users: FrozenEmbedding | None, items: FrozenEmbedding | None, others: int) -> None:
        super().__init__()
        self.users, self.items = users, items
        width = others + sum(side.dim + 1 for side in (users, items) if side is not None)
        width += users.dim if users is not None and items is not None else 0
        self.layers = nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, user_rows: torch.Tensor, item_rows: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """The logit of a click."""
        parts, sides = [others], []
        for embedding, rows in ((self.users, user_rows), (self.items, item_rows)):
            if embedding is not None:
                sides.append(embedding(rows))
                parts += [sides[-1], embedding.known(rows)[:, None].float()]
        if len(sides) == 2:
            parts.append(sides[0] * sides[1])
        logits: torch.Tensor = self.layers(torch.cat(parts, dim=1))[:, 0]
        return logits


def trained(ranker: Ranker, examples: RankingDataset, epochs: int, seed: int) -> Ranker:
    """AdamW on the log loss."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(ranker.parameters(), lr=2e-3, weight_decay=0.05)
    for _ in range(epochs):
        batches = DataLoader(examples, 512, shuffle=True, generator=generator, drop_last=len(examples) > 512)
        for user_rows, item_rows, others, labels in batches:
            loss = nn.functional.binary_cross_entropy_with_logits(ranker(user_rows, item_rows, others), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return ranker.eval()


def auc(clicked: npt.NDArray[np.bool_], scores: Floats) -> float:
    """The chance that a click scores above a non-click, ties counting half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n = clicked.sum()
    return float((ranks[clicked].sum() - n * (n + 1) / 2) / (n * (len(clicked) - n)))


def rce(clicked: npt.NDArray[np.bool_], chances: Floats) -> float:
    """Relative cross entropy (eq. 4): by how many per cent the log loss is below that of always saying the mean."""

    def loss(p: Floats) -> float:
        p = np.clip(p, 1e-7, 1 - 1e-7)
        return float(-np.mean(np.where(clicked, np.log(p), np.log(1 - p))))

    return 100 * (1 - loss(chances) / loss(np.full(len(clicked), clicked.mean())))


def compare(bundles: Path, graph: Path, n: int, epochs: int, seed: int) -> list[tuple[str, float, float]]:
    """AUC and RCE on a fifth of the users, whom the rankers have not seen, for each choice of embeddings."""
    log = impressions(graph, n, np.random.default_rng(seed))
    version = twhin_client.open(bundles)
    users = FrozenEmbedding.of(version.entities("user"), log.users)
    items = FrozenEmbedding.of(version.entities("item"), log.items, missing="learned")
    test = np.array([hash_of(user) % 5 == 0 for user in log.users])
    learning, judged = log.part(~test), log.part(test)
    print(f"version {version.name}: {len(users):,} users and {len(items):,} items of {len(log.users):,} impressions")
    rows = []
    for name, sides in {
        "no embeddings": (None, None),
        "user": (users, None),
        "item": (None, items),
        "user and item": (users, items),
    }.items():
        torch.manual_seed(seed)
        model = Ranker(*sides, others=log.others.shape[1])
        trained(model, RankingDataset(users, items, *learning[:2], learning.clicked, learning.others), epochs, seed)
        examples = RankingDataset(users, items, *judged[:2], judged.clicked, judged.others)
        with torch.no_grad():
            chances = torch.sigmoid(model(examples.users, examples.items, examples.others)).double().numpy()
        rows.append((name, auc(judged.clicked, chances), rce(judged.clicked, chances)))
    return rows


def hash_of(text: str) -> int:
    """The same number for the same text, always."""
    return int.from_bytes(text.encode(), "big") * 2654435761 % 2**32 >> 8


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description="A ranking model with and without embeddings.")
    parser.add_argument("--bundles", type=Path, default=Path(".demo/bundles"))
    parser.add_argument("--graph", type=Path, default=Path(".demo/graph"), help="the demo's graph directory")
    parser.add_argument("--impressions", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = compare(arguments.bundles, arguments.graph, arguments.impressions, arguments.epochs, arguments.seed)
    print("\n| embeddings | AUC | RCE |\n|---|---|---|")
    for name, area, entropy in rows:
        print(f"| {name} | {area:.4f} | {entropy:.2f} |")


if __name__ == "__main__":
    main()

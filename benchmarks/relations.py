"""`auto` against the best simple method of a column, relation by relation, over graphs that are made by chance.

    python -m benchmarks.relations --work DIR [--graphs shop,groups …] [--seeds 1,2]

Every graph is generated, trained for a few epochs and built without learning once, and kept in DIR with what the simple
methods find; then a build's learning chooses by the validation edges, and the test edges of up to 600 users report its
choice over the best baseline. Each relation is one line of JSON in DIR/found.jsonl; a table of means is printed.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bundle.assessment import Assessment
from bundle.run import open_run
from cli.compose import open_recommender
from evaluation.baselines import baselines
from evaluation.learning.assess import assess
from evaluation.learning.evidence import as_newcomers, engagements_of, followers_of, others_of
from evaluation.rows import CUTS, Row, baseline_row, measure_lists, newcomers_ask, strategy_row, vectors_under
from evaluation.task import FollowTask, follow_task, without_known
from graph.prepare import prepare
from index.builder.config import parse_config as build_config
from index.builder.version import build_version
from recommend.recommender import Recommender
from training.config import parse_config
from training.train import train

TRAINING = {"dim": 16, "epochs": 6, "threads": 1}
BUILD = {"index": {"kind": "exact", "queries": 50}, "threads": 1}
USERS = 600
COLUMNS = ("recall@10", "recall@50", "one_way_recall@10")
Edges = npt.NDArray[np.int64]


class Relation(NamedTuple):
    """Edges of users to a type: pairs, and their times where they have some."""

    target: str
    edges: Edges
    times: npt.NDArray[np.int64] | None = None


Graph = Mapping[str, Relation]


def tastes(rng: np.random.Generator, *, users: int = 120, things: int = 60, share: float = 1.0, each: int = 9) -> Graph:
    """Four tastes; of what a user has, the share is of the user's own taste, the rest is anything."""
    of_user, of_thing = rng.integers(0, 4, users), rng.integers(0, 4, things)
    edges = []
    for user in range(users):
        own = np.flatnonzero(of_thing == of_user[user])
        any_of = rng.random(each) < share
        edges += [(user, rng.choice(own) if own_one else rng.integers(things)) for own_one in any_of]
    return {"likes": Relation("thing", _distinct(edges))}


def interests(rng: np.random.Generator, *, users: int = 300, items: int = 400, each: int = 15) -> Graph:
    """Two interests of twelve a user, and fame."""
    of_user, of_item = rng.integers(0, 12, (users, 2)), rng.integers(0, 12, items)
    fame = (1.0 + rng.permutation(items)) ** -0.5
    edges = []
    for user in range(users):
        liked = (np.isin(of_item, of_user[user]) + 0.02) * fame
        edges += [(user, item) for item in rng.choice(items, each, replace=False, p=liked / liked.sum())]
    return {"likes": Relation("item", _distinct(edges))}


def groups(
    rng: np.random.Generator, *, users: int = 600, size: int = 30, share: float = 0.8, back: float = 0.0
) -> Graph:
    """Groups of users who follow the share of their group, and of those who follow them so many back besides."""
    edges = []
    for user in range(users):
        own = np.arange(user // size * size, user // size * size + size)
        edges += [(user, other) for other in own[rng.random(size) < share] if other != user]
    edges += [(dst, src) for src, dst in edges if rng.random() < back]
    edges += [(user, rng.integers(users)) for user in range(users) for _ in range(2)]
    return {"follows": Relation("user", _distinct([(a, b) for a, b in edges if a != b]))}


def chain(rng: np.random.Generator, *, users: int = 500) -> Graph:
    """Neighbours on a ring."""
    steps = rng.integers(1, 12, (users, 10)) * rng.choice([-1, 1], (users, 10))
    edges = np.stack([np.repeat(np.arange(users), 10), (np.arange(users)[:, None] + steps).ravel() % users], axis=1)
    return {"follows": Relation("user", _distinct(edges))}


def fame(rng: np.random.Generator, *, users: int = 1500, items: int = 800, each: int = 12, power: float = 1.0) -> Graph:
    """Popularity alone."""
    chance = (1.0 + np.arange(items)) ** -power
    edges = [(u, i) for u in range(users) for i in rng.choice(items, each, replace=False, p=chance / chance.sum())]
    return {"likes": Relation("item", _distinct(edges))}


def shop(rng: np.random.Generator, *, users: int = 500, items: int = 500, views: int = 40, buys: int = 8) -> Graph:
    """Views over time, of two interests a user; what is bought was viewed lately, four times in five."""
    of_user, of_item = rng.integers(0, 12, (users, 2)), rng.integers(0, 12, items)
    known = (1.0 + rng.permutation(items)) ** -0.5
    viewed, bought, at, when = [], [], [], []
    for user in range(users):
        liked = (np.isin(of_item, of_user[user]) + 0.02) * known
        seen = rng.choice(items, views, replace=False, p=liked / liked.sum())
        moments = np.sort(rng.integers(0, 1_000_000, views))
        viewed += [(user, item) for item in seen]
        at += moments.tolist()
        for moment in np.sort(rng.integers(200_000, 1_000_000, buys)).tolist():
            before = np.flatnonzero(moments < moment - 20_000)
            back = int(rng.geometric(0.25))
            lately = rng.random() < 0.8 and back <= len(before)
            item = seen[before[-back]] if lately else rng.choice(items, p=liked / liked.sum())
            bought.append((user, item))
            when.append(moment)
    return {
        "bought": Relation("item", *_once(bought, when)),
        "viewed": Relation("item", *_once(viewed, at)),
    }


def playlists(rng: np.random.Generator, *, users: int = 400, songs: int = 600, plays: int = 60) -> Graph:
    """Whom a user plays moves from interest to interest with time; some of what was just played is saved."""
    of_song = rng.integers(0, 15, songs)
    known = (1.0 + rng.permutation(songs)) ** -0.6
    played, saved, at, when = [], [], [], []
    for user in range(users):
        moment, interest = int(rng.integers(0, 100_000)), int(rng.integers(15))
        for _ in range(plays):
            if rng.random() < 0.08:
                interest = int(rng.integers(15))
            liked = ((of_song == interest) + 0.01) * known
            song = int(rng.choice(songs, p=liked / liked.sum()))
            moment += int(rng.exponential(15_000))
            played.append((user, song))
            at.append(moment)
            if rng.random() < 0.25:
                saved.append((user, song))
                when.append(moment + int(rng.exponential(60_000)))
    return {
        "saved": Relation("song", *_once(saved, when)),
        "played": Relation("song", *_once(played, at)),
    }


def reposts(rng: np.random.Generator, *, users: int = 800, size: int = 40, each: int = 25) -> Graph:
    """Users repost those of their circle, then follow some of whom they reposted lately; a third follow back."""
    circles = rng.integers(0, users // size, (users, 2))
    members = [np.flatnonzero((circles == circle).any(axis=1)) for circle in range(users // size)]
    reposted, followed, at, when = [], [], [], []
    for user in range(users):
        near = np.concatenate([members[circle] for circle in circles[user]])
        moments = np.sort(rng.integers(0, 1_000_000, each))
        others = [int(rng.choice(near)) if rng.random() < 0.85 else int(rng.integers(users)) for _ in range(each)]
        for moment, other in zip(moments.tolist(), others, strict=True):
            if other == user:
                continue
            reposted.append((user, other))
            at.append(moment)
            if rng.random() < 0.4:
                followed.append((user, other))
                when.append(moment + int(rng.exponential(60_000)))
                if rng.random() < 0.33:
                    followed.append((other, user))
                    when.append(moment + int(rng.exponential(120_000)))
    return {
        "follows": Relation("user", *_once(followed, when)),
        "reposts": Relation("user", *_once(reposted, at)),
    }


def sessions(rng: np.random.Generator, *, users: int = 600, items: int = 500, clicks: int = 30) -> Graph:
    """One relation: what is clicked is near what was clicked last, on a ring of items."""
    clicked, at = [], []
    for user in range(users):
        place, moment = int(rng.integers(items)), int(rng.integers(0, 500_000))
        for _ in range(clicks):
            place = int(rng.integers(items)) if rng.random() < 0.1 else (place + int(rng.integers(-8, 9))) % items
            moment += int(rng.exponential(20_000))
            clicked.append((user, place))
            at.append(moment)
    return {"clicks": Relation("item", *_once(clicked, at))}


def drawn(rng: np.random.Generator, *, most_edges: int = 40_000) -> Graph:
    """A graph whose shape is drawn too: how many users, items, interests and edges, how much is fame and how much is
    chance, and which of likes, follows, views that are repeated and what is bought after them there are.
    """
    users, items, n = (int(np.exp(rng.uniform(*np.log(range_)))) for range_ in ((200, 2500), (60, 5000), (2, 80)))
    mean = min(float(np.exp(rng.uniform(*np.log((5, 60))))), most_edges / users, items / 4)
    of_user = [rng.choice(n, min(n, int(rng.integers(1, 6))), replace=False) for _ in range(users)]
    noise, power = rng.uniform(0.0, 0.4), rng.uniform(0.0, 1.2)
    kinds = [("likes",), ("follows",), ("viewed", "bought"), ("follows", "likes"), ("viewed", "bought", "likes")]
    graph: dict[str, Relation] = {}
    for kind in kinds[int(rng.integers(len(kinds)))]:
        if kind == "follows":
            graph[kind] = _drawn_follows(rng, of_user, noise, power, min(mean, users / 8))
        elif kind == "bought":
            graph[kind] = _drawn_after(rng, graph["viewed"], items, strict=rng.uniform(0.3, 1.0))
        else:
            graph[kind] = _drawn_edges(rng, of_user, items, noise, power, mean, again=0.3 * (kind == "viewed"))
    return graph


def _some(rng: np.random.Generator, mean: float, most: int) -> int:
    """How many edges somebody has: few have many."""
    return int(np.clip(rng.lognormal(np.log(mean) - 0.32, 0.8), 2, most))


def _drawn_edges(
    rng: np.random.Generator, of_user: list[Any], items: int, noise: float, power: float, mean: float, again: float
) -> Relation:
    """Things of a user's interests by fame, some of anything; the share `again` is done a second time."""
    n = 1 + max(int(some.max()) for some in of_user)
    of_item, fame = rng.integers(0, n, items), (1.0 + rng.permutation(items)) ** -power
    edges: list[tuple[int, int]] = []
    at: list[int] = []
    for user, own in enumerate(of_user):
        liked = (np.isin(of_item, own) * (1 - noise) + noise / len(own) / 4 + 1e-4) * fame
        for item in rng.choice(items, _some(rng, mean, items // 2), replace=False, p=liked / liked.sum()):
            for moment in rng.integers(0, 1_000_000, 1 + int(rng.random() < again)).tolist():
                edges.append((user, int(item)))
                at.append(moment)
    return Relation("item", np.array(edges, dtype=np.int64), np.array(at, dtype=np.int64))


def _drawn_follows(rng: np.random.Generator, of_user: list[Any], noise: float, power: float, mean: float) -> Relation:
    """Users of the same interests by fame, some of whom those follow, some anybody; some follow back."""
    users = len(of_user)
    of_interest: dict[int, list[int]] = {}
    for user, own in enumerate(of_user):
        for interest in own.tolist():
            of_interest.setdefault(interest, []).append(user)
    fame, back, closing = (1.0 + rng.permutation(users)) ** -power, rng.uniform(0.0, 0.9), rng.uniform(0.0, 0.5)
    followed: list[list[int]] = [[] for _ in range(users)]
    edges: list[tuple[int, int]] = []
    at: list[int] = []
    for user in np.repeat(rng.permutation(users), 3).tolist():
        near = np.array(of_interest[int(rng.choice(of_user[user]))])
        for _ in range(max(1, _some(rng, mean, users // 4) // 3)):
            friends = followed[int(rng.choice(followed[user]))] if followed[user] else []
            if friends and rng.random() < closing:
                other = int(rng.choice(friends))
            else:
                some = np.arange(users) if rng.random() < noise else near
                other = int(rng.choice(some, p=fame[some] / fame[some].sum()))
            moment = len(edges)
            for one, two in ((user, other), (other, user)) if rng.random() < back else ((user, other),):
                if one != two:
                    followed[one].append(two)
                    edges.append((one, two))
                    at.append(moment)
    return Relation("user", *_once(edges, at))


def _drawn_after(rng: np.random.Generator, viewed: Relation, items: int, *, strict: float) -> Relation:
    """A fifth of the views is followed by buying, mostly, by the share `strict`, what was viewed."""
    times = np.zeros(len(viewed.edges), np.int64) if viewed.times is None else viewed.times
    some = np.flatnonzero(rng.random(len(viewed.edges)) < 0.2)
    edges = viewed.edges[some].copy()
    other = rng.random(len(some)) > strict
    edges[other, 1] = viewed.edges[rng.permutation(len(viewed.edges))[: other.sum()], 1]  # by fame
    when = times[some] + rng.exponential(50_000, len(some)).astype(np.int64)
    return Relation("item", *_once(list(map(tuple, edges.tolist())), when.tolist()))


class Case(NamedTuple):
    """A graph, how it is shaped, and how edges are held out."""

    make: Callable[..., Graph]
    shape: Mapping[str, Any] = {}
    by: str = "random"


CASES: dict[str, Case] = {
    "tastes": Case(tastes),
    "tastes2": Case(tastes, {"share": 0.67}),
    "interests": Case(interests),
    "groups": Case(groups),
    "groups2": Case(groups, {"share": 0.4, "back": 0.8}),
    "chain": Case(chain),
    "fame": Case(fame),
    "few": Case(fame, {"items": 80, "each": 4, "users": 700}),
    "shop": Case(shop),
    "shop-time": Case(shop, by="time"),
    "playlists": Case(playlists),
    "playlists-time": Case(playlists, by="time"),
    "reposts": Case(reposts),
    "reposts-time": Case(reposts, by="time"),
    "sessions": Case(sessions),
    "sessions-time": Case(sessions, by="time"),
    "drawn": Case(drawn),
    "drawn-time": Case(drawn, by="time"),
}


def _distinct(edges: Any) -> Edges:
    return np.unique(np.array(edges, dtype=np.int64), axis=0)


def _once(edges: list[tuple[int, Any]], times: list[int]) -> tuple[Edges, npt.NDArray[np.int64]]:
    """Each edge once, by the last of its times."""
    pairs, when = np.array(edges, dtype=np.int64), np.array(times, dtype=np.int64)
    order = np.argsort(-when, kind="stable")
    kept, places = np.unique(pairs[order], axis=0, return_index=True)
    return kept, when[order][places]


def written(graph: Graph, by: str, directory: Path) -> Path:
    """The graph as files of edges and a config that holds out a tenth of each relation."""
    directory.mkdir(parents=True)
    types = dict.fromkeys(["user", *(one.target for one in graph.values())])
    parts = [f'[entities.{name}]\nid = "int64"\n' for name in types]
    for name, one in graph.items():
        columns = [one.edges] if one.times is None else [one.edges, one.times[:, None] + 1_700_000_000]
        table = np.random.default_rng(0).permutation(np.concatenate(columns, axis=1))
        head = "src,dst\n" if one.times is None else "src,dst,time\n"
        (directory / f"{name}.csv").write_text(head + "".join(",".join(map(str, row)) + "\n" for row in table.tolist()))
        timed = "" if one.times is None else 'time = "time"\n'
        parts.append(
            f'[[relations]]\nname = "{name}"\nsource = "user"\ntarget = "{one.target}"\nfiles = "{name}.csv"\n{timed}'
        )
    named = ", ".join(f'"{name}"' for name in graph)
    parts.append(f'[split]\nby = "{by}"\nrelation = [{named}]\n')
    (directory / "graph.toml").write_text("".join(parts))
    return directory / "graph.toml"


def prepared(case: Case, seed: int, directory: Path) -> Recommender:
    """A version of the case built without learning: made once, then opened."""
    run = directory / "run"
    if not (directory / "bundles" / "quick").exists():
        config = written(case.make(np.random.default_rng(seed), **case.shape), case.by, directory / "graph")
        train(prepare(config, run / "graph"), run, parse_config({**TRAINING, "seed": seed}, "the benchmark"))
        build_version(
            run, directory / "bundles", build_config({**BUILD, "seed": seed}, "the benchmark"), version="quick"
        )
    return open_recommender(directory / "bundles" / "quick")


def references(task: FollowTask, vectors: npt.NDArray[np.float32], file: Path) -> dict[str, dict[str, float]]:
    """What the simple methods find of the task: measured once."""
    if not file.exists():
        rows = [baseline_row(task, one, vectors, None) for one in baselines(task, np.random.default_rng(1))]
        found = {row.name: _columns(row) for row in rows if row.metrics}
        file.write_text(json.dumps(found))
    answer: dict[str, dict[str, float]] = json.loads(file.read_text())
    return answer


def measured(name: str, case: Case, seed: int, work: Path) -> Iterator[dict[str, Any]]:
    """Each relation of a case: what is chosen, what everything finds of the test edges."""
    directory = work / f"{name}-{seed}"
    recommender, graph = prepared(case, seed, directory), open_run(directory / "run").graph
    began = time.process_time()
    learnt = assess(recommender, graph, seed)
    spent = time.process_time() - began
    for relation, found in learnt.items():
        if not isinstance(found, Assessment):
            continue
        task = follow_task(graph, "test", np.random.default_rng(seed), relation=relation, n_users=USERS)
        vectors = vectors_under(recommender.bundle.space(), relation)
        rows = {
            one: _columns(strategy_row(task, recommender, one, vectors, None, strategy=strategy))
            for one, strategy in found.strategies.items()
        }
        yield {
            "graph": name,
            "seed": seed,
            "relation": relation,
            "users": len(task.users),
            "auto": found.auto,
            "auto_newcomer": found.auto_newcomer,
            "judged": found.measured.strategies,
            "test": rows,
            "baselines": references(task, vectors, directory / f"{relation}.baselines.json"),
            "newcomers": _newcomers(recommender, task, found, vectors, seed),
            "cpu_s": spent,
        }


def _newcomers(
    recommender: Recommender, task: FollowTask, found: Assessment, vectors: npt.NDArray[np.float32], seed: int
) -> dict[str, dict[str, float]]:
    """The strategies for users who are known by three engagements, half of them by others too."""
    rng = np.random.default_rng(seed)
    few = as_newcomers(task, (3,), rng)
    told = engagements_of(few), followers_of(few, np.arange(len(few.users)) % 2 == 0)
    others = others_of(recommender.bundle.space(), few, rng)
    rows = {}
    for name, strategy in found.strategies.items():
        n = newcomers_ask(few)
        lists = recommender.for_newcomers(*told, strategy, n, relation=few.relation, others=others)
        rows[name] = _columns(measure_lists(few, name, without_known(few, few.users, lists, max(CUTS)), vectors).row)
    return rows


def _columns(row: Row) -> dict[str, float]:
    return {metric: round(row.mean(metric), 5) for metric in COLUMNS if metric in row.metrics}


def ratios(found: Mapping[str, Any], strategy: str | None = None) -> dict[str, float]:
    """`auto`, or another strategy, over the best baseline of each column."""
    own = found["test"][strategy or found["auto"]]
    best = {column: max(one.get(column, 0.0) for one in found["baselines"].values()) for column in own}
    return {column: own[column] / best[column] for column in own if best[column] > 0}


def table(every: list[dict[str, Any]]) -> str:
    """One line a relation, then the means."""
    lines = ["| graph, relation | seeds | `auto` is | R@10 | R@50 | one-way R@10 |", "|---|---|---|---|---|---|"]
    for graph, relation in dict.fromkeys((one["graph"], one["relation"]) for one in every):
        some = [one for one in every if (one["graph"], one["relation"]) == (graph, relation)]
        cells = [", ".join(f"{ratios(one)[c]:.3f}" for one in some if c in ratios(one)) for c in COLUMNS]
        chosen = ", ".join(dict.fromkeys(one["auto"] for one in some))
        lines.append(f"| {graph} `{relation}` | {len(some)} | {chosen} | " + " | ".join(cells) + " |")
    plain = [[ratios(one)[c] for c in COLUMNS[:2]] for one in every]
    below = sum(min(one) < 0.98 for one in plain)
    lines.append(f"\nmean of R@10 and R@50: {np.mean(plain):.4f}; below .98: {below} of {len(every)}")
    one_way = [ratios(one)[COLUMNS[2]] for one in every if COLUMNS[2] in ratios(one)]
    lines.append(f"mean of one-way R@10: {np.mean(one_way) if one_way else float('nan'):.4f}")
    new = [one["newcomers"][one["auto_newcomer"]]["recall@10"] for one in every if one["auto_newcomer"]]
    lines.append(f"newcomers by three engagements, mean R@10: {np.mean(new) if new else float('nan'):.4f}")
    lines.append(f"learning: {sum({(o['graph'], o['seed']): o['cpu_s'] for o in every}.values()):.0f} CPU s")
    return "\n".join(lines)


def main() -> None:
    """Measure, keep, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--graphs", default=",".join(CASES))
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--out", default="found.jsonl")
    asked = parser.parse_args()
    every: list[dict[str, Any]] = []
    asked.work.mkdir(parents=True, exist_ok=True)
    with (asked.work / asked.out).open("w") as out:
        for name in asked.graphs.split(","):
            for seed in map(int, asked.seeds.split(",")):
                for found in measured(name, CASES[name], seed, asked.work):
                    every.append(found)
                    out.write(json.dumps(found) + "\n")
                    out.flush()
    sys.stdout.write(table(every) + "\n")


if __name__ == "__main__":
    main()

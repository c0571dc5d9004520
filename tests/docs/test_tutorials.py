"""The tutorials, each walked from top to bottom on a small sample in the form of the public data."""

import csv
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest

from bundle.versions import publish
from tests.docs.pages import ROOT, blocks
from tests.docs.walking import figures, walked
from tests.support.hosts import namespaces_allowed
from tests.support.object_store import BUCKET, S3Server
from tests.support.servers import RedisServer, free_port
from tests.support.service_bundle import user_ids, write_toy_bundle

TUTORIALS = ROOT / "docs" / "tutorials"
USERS, ARTISTS, COMMUNITIES, LISTENS, FRIENDS = 160, 120, 4, 14, 2


def _write(path: Path, columns: list[str], rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Files as those of HetRec 2011: users and artists of five communities, which keep to themselves."""
    data = tmp_path / "hetrec2011-lastfm-2k"
    data.mkdir()
    rng = np.random.default_rng(1)
    listens, friends = [], []
    of_user = rng.integers(0, COMMUNITIES, USERS)
    for user, community in enumerate(of_user):
        for artist in rng.choice(np.arange(community, ARTISTS, COMMUNITIES), LISTENS, replace=False):
            listens.append((2 + user, 1 + int(artist), int(rng.integers(1, 500))))
        others = np.setdiff1d(np.flatnonzero(of_user == community), [user])
        friends += [(2 + user, 2 + int(other)) for other in rng.choice(others, FRIENDS, replace=False)]
    _write(data / "user_artists.dat", ["userID", "artistID", "weight"], listens)
    both = sorted({*friends, *((other, user) for user, other in friends)})
    _write(data / "user_friends.dat", ["userID", "friendID"], both)
    names = [(artist, f"Band {artist}", "http://band", "") for artist in range(1, ARTISTS + 1)]
    _write(data / "artists.dat", ["id", "name", "url", "pictureURL"], names)
    return tmp_path


def served(port: int) -> dict[str, str]:
    """The page's port, on one that is free."""
    serve = "twhin serve --bundles bundles"
    return {serve: f"{serve} --port {port}", "127.0.0.1:8000": f"127.0.0.1:{port}"}


def test_tutorials_ask_for_relations_of_the_graph_that_they_are_walked_with() -> None:
    """A page without a graph.toml of its own goes on with the version of the first tutorial."""
    for page in sorted(TUTORIALS.glob("*.md")):
        graphs = blocks("toml", pages=[page]) or blocks("toml", pages=[TUTORIALS / "own-edges.md"])
        relations = {relation["name"] for graph in graphs for relation in tomllib.loads(graph.text)["relations"]}
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r'(?:"relation": "|--relation )(\w+)', text)) <= relations, page.name


@pytest.mark.timeout(900)
def test_own_edges(sample: Path) -> None:
    port = free_port()
    with walked(TUTORIALS / "own-edges.md", sample, served(port)) as walk:
        assert f"sources {USERS} " in walk.printed  # what `describe` prints
        assert (sample / "report" / "report.html").exists()
        answers = [json.loads(line) for line in walk.printed.splitlines() if line.startswith("{")]
        assert len(answers[0]["candidates"]) == 5
        assert [result["status"] for result in answers[1]["results"]] == ["stored"]


@pytest.mark.timeout(900)
def test_items(sample: Path) -> None:
    with walked(TUTORIALS / "items.md", sample, served(free_port())) as walk:
        assert "Band " in walk.printed  # the label
        newcomers, similar = (json.loads(line.replace("'", '"')) for line in walk.printed.splitlines()[-2:])
        assert len(newcomers) == len(similar) == 5


@pytest.mark.timeout(900)
def test_features_for_a_ranker(sample: Path) -> None:
    with walked(TUTORIALS / "ranker.md", sample) as walk:
        without, with_them = figures(walk.printed, r"AUC without embeddings ([\d.]+), with them ([\d.]+)")
        assert with_them > without + 0.1  # the communities are all that there is to learn
        none, both = (
            [float(auc) for auc in re.findall(rf"│ {features} +│ \w+ +│ +[-\d.]+ │ +([\d.]+)", walk.printed)]
            for features in ("none", r"user \+ item \(raw\)")
        )
        assert max(none) < 0.7 < min(both), "without embeddings nothing tells the label, not even the frame's index"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("apart", [namespaces_allowed()], ids=lambda apart: "namespaces" if apart else "loopback")
def test_training_on_two_machines(apart: bool, tmp_path: Path) -> None:
    """The page as it is where namespaces may be made; where not, both machines are this one."""
    port, name = free_port(), f"twhin-{os.getpid()}"
    instead = served(port) | {"--users 2000": "--users 300", "twhin build": "twhin build --quick --no-map"}
    instead |= {"--set epochs=4": "--set epochs=4 --set dim=8 --set threads=1", "/17?": "/2?"}
    if apart:
        instead |= {"twhin-one": f"{name}-one", "twhin-two": f"{name}-two"}
    else:
        instead |= {"ip netns exec twhin-one ": "", "ip netns exec twhin-two ": "", "ip ": "true "}
        instead |= {"10.77.0.1": "127.0.0.1", "29500": str(free_port())}
    try:
        with walked(ROOT / "docs" / "scale.md", tmp_path, instead, {"OMP_NUM_THREADS": "1"}) as walk:
            assert figures(walk.printed, r'"bytes_sent": (\d+)') > [0]
            answer = json.loads([line for line in walk.printed.splitlines() if line.startswith("{")][-1])
            assert len(answer["candidates"]) == 5
            assert (tmp_path / "one" / "run" / "run.json").exists()
            assert not (tmp_path / "two" / "run" / "run.json").exists()
    finally:
        for each in ("one", "two") if apart else ():
            subprocess.run(["ip", "netns", "del", f"{name}-{each}"], check=True)


def test_several_machines(tmp_path: Path) -> None:
    write_toy_bundle(tmp_path / "bundles", "v1")
    publish(tmp_path / "bundles", "v1")
    (tmp_path / "redis").mkdir()
    store, redis = S3Server(), RedisServer(tmp_path / "redis")
    first, second = free_port(), free_port()
    users = user_ids()
    instead = {"s3://models/twhin": f"s3://{BUCKET}/twhin", "redis://redis:6379/0": redis.url}
    instead |= {"8000": str(first), "8001": str(second), '"2"': f'"{users[2]}"', '"3"': f'"{users[3]}"'}
    instead |= {"/recommend/2": f"/recommend/{users[2]}"}
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in store.environment().items():
                patch.setenv(name, value)
            with walked(TUTORIALS / "machines.md", tmp_path, instead, store.environment()) as walk:
                told, answer = (json.loads(line) for line in walk.printed.splitlines() if line.startswith("{"))
                assert [result["status"] for result in told["results"]] == ["stored"]
                assert len(answer["candidates"]) == 5
                assert users[3] not in [candidate["id"] for candidate in answer["candidates"]]
    finally:
        redis.kill()
        store.close()

"""The commands of the other pages, walked word for word on the generated graph that `twhin demo` makes."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from bundle.versions import current_version, publish
from service.settings import Settings
from tests.docs.pages import ROOT, blocks
from tests.docs.walking import walked
from tests.support.object_store import BUCKET, S3Server
from tests.support.once import made_once
from tests.support.servers import free_port, running
from tests.support.service_bundle import user_ids, write_toy_bundle

DOCS = ROOT / "docs"
SMALL = "--set dim=16 --set epochs=2 --set threads=1"
QUICK = {"twhin build": "twhin build --quick --no-map"}


@pytest.fixture
def reader(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader is: graph.toml and its files, a run of it, a published version, and the demo's directory."""

    def make(root: Path) -> None:
        for line in (
            f"twhin data generate {root}/graph --users 1000",
            f"twhin train {root}/graph/graph.toml --run {root}/run {SMALL}",
            f"twhin build {root}/run --bundles {root}/bundles --quick --no-map",
            f"twhin publish latest --bundles {root}/bundles",
        ):
            subprocess.run([Path(sys.executable).parent / "twhin", *line.split()[1:]], check=True, timeout=300)

    made = made_once(tmp_path_factory, "reader", make)
    shutil.copytree(made / "graph", tmp_path, dirs_exist_ok=True)
    for name in ("run", "bundles"):
        shutil.copytree(made / name, tmp_path / name)
    (tmp_path / ".demo").mkdir()
    (tmp_path / ".demo" / "bundles").symlink_to(tmp_path / "bundles")
    return tmp_path


@pytest.mark.timeout(600)
def test_recommending(reader: Path) -> None:
    shutil.rmtree(reader / "run")
    port = free_port()
    serve = "twhin serve --bundles bundles"
    instead = QUICK | {serve: f"{serve} --port {port}", "127.0.0.1:8000": f"127.0.0.1:{port}"}
    instead |= {"--run run\n": f"--run run {SMALL}\n", "--set epochs=30": SMALL}
    instead |= {'"genre", "in": ["rock", "jazz"]': '"field", "in": ["games", "music"]'}
    with walked(DOCS / "recommending.md", reader, instead) as walk:
        assert "user for 42 by follows" in walk.printed
        assert "item for 17 by likes" in walk.printed
        [answer] = [json.loads(line) for line in walk.printed.splitlines() if line.startswith("{")]
        assert answer["strategy"] == "together"
        assert len(answer["candidates"]) == 20


@pytest.mark.timeout(600)
def test_a_night(reader: Path) -> None:
    """Somebody follows ten during the day; in the morning's version is a vector of theirs."""
    (reader / "follows").mkdir()
    (reader / "follows.parquet").rename(reader / "follows" / "part-0.parquet")
    before = current_version(reader / "bundles")
    with running(Settings(bundles=reader / "bundles", warm_up_queries=4, self_test_queries=4)) as url:
        events = [{"user": "123456", "relation": "follows", "target": str(target)} for target in range(10)]
        told = httpx.post(f"{url}/v1/engagements", json={"events": events}, timeout=30).json()
        assert {result["status"] for result in told["results"]} == {"stored"}
    instead = QUICK | {"--set epochs=5": SMALL}
    with walked(DOCS / "tutorials" / "nightly.md", reader, instead):
        assert current_version(reader / "bundles") != before
    with running(Settings(bundles=reader / "bundles", warm_up_queries=4, self_test_queries=4)) as url:
        assert httpx.get(f"{url}/recommend/123456", timeout=30).json()["known"] is True


@pytest.mark.timeout(600)
def test_object_storage(reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, port, served = S3Server(), free_port(), reader / "served"
    instead = QUICK | {"s3://models": f"s3://{BUCKET}", "/var/twhin\n": f"{served}\n", "/var/twhin ": f"{served} "}
    instead |= {f"serve --bundles {served}": f"serve --bundles {served} --port {port}"}
    instead |= {"2026-11-29 --run run": f"2026-11-29 --run fetched {SMALL}"}
    try:
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)
        with walked(DOCS / "storage.md", reader, instead, store.environment()):
            assert httpx.get(f"http://127.0.0.1:{port}/recommend/17").json()["version"] == current_version(served)
            assert (reader / "fetched" / "run.json").exists()
    finally:
        store.close()


@pytest.mark.timeout(600)
def test_training_finds_settings(reader: Path) -> None:
    shutil.rmtree(reader / "run")
    (reader / "run").mkdir()
    with walked(DOCS / "training.md", reader, {"--budget 10m": "--budget 5s --set dim=8 --set threads=1"}):
        assert (reader / "run" / "run.json").exists()


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    publish(tmp_path / "bundles", write_toy_bundle(tmp_path / "bundles", "v1").name)
    return tmp_path


@pytest.fixture
def url(toys: Path) -> Iterator[str]:
    """A service over a small version, with the experiment of the page."""
    text = blocks("toml", pages=[DOCS / "experimenting.md"])[0].text
    (toys / "bundles" / "experiments.toml").write_text(text)
    with running(Settings(bundles=toys / "bundles", warm_up_queries=4, self_test_queries=4)) as address:
        yield address


def test_feedback_of_an_experiment(url: str) -> None:
    """The page's feedback is counted, and what came of it is told in the words of the page."""
    page = DOCS / "experimenting.md"
    [block] = blocks("sh", pages=[page])
    done = subprocess.run(
        ["bash", "-c", block.text.replace("localhost:8000", url)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert [result["status"] for result in json.loads(done.stdout)["results"]] == ["counted"]
    shown = json.loads(blocks("json", pages=[page])[0].text)
    told = httpx.get(f"{url}/v1/experiments").json()
    assert set(shown) == set(told)
    assert set(shown["experiments"][0]) == set(told["experiments"][0])
    control, mixture = told["experiments"][0]["arms"]
    assert set(shown["experiments"][0]["arms"][0]) == set(control)
    assert (mixture["impressions"], mixture["clicks"]) == (2, 1)


def test_a_file_of_events(url: str, toys: Path) -> None:
    """Of somebody new, who then has the edge of the page's event."""
    [event] = blocks("json", pages=[DOCS / "streams.md"])
    (toys / "events.jsonl").write_text(event.text.replace('"43"', f'"{user_ids()[3]}"'))
    with walked(DOCS / "streams.md", toys, {"http://twhin:8000": url}):
        told = httpx.post(f"{url}/v1/edges", json={"type": "user", "id": "42", "relation": "follows"}).json()
    assert [end["id"] for end in told["relations"][0]["ends"]] == [user_ids()[3]]


def test_the_answer_of_the_readme_has_the_fields_that_it_shows(url: str) -> None:
    [block] = [block for block in blocks("", pages=[ROOT / "README.md"]) if block.text.startswith("$ curl")]
    command, shown = block.text.removeprefix("$ ").split("\n{", 1)
    command = command.replace("http://127.0.0.1:8000", url).replace('"17"', f'"{user_ids()[17]}"')
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    answer = json.loads(done.stdout)
    assert len(answer["candidates"]) == shown.count('"why"') == 3
    assert words(shown) <= keys(answer)


def keys(value: object) -> set[str]:
    """Every key of `value` and within it."""
    if isinstance(value, Mapping):
        return set(value).union(*map(keys, value.values()))
    return set().union(*map(keys, value)) if isinstance(value, list) else set()


def words(shown: str) -> set[str]:
    """The keys in an answer that is cut short."""
    return {part.rsplit('"', 1)[-1] for part in shown.split('":')[:-1]}

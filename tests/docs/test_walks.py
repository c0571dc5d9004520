"""The README and the API page, walked word for word: their commands are run, their requests are sent."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle.versions import publish
from service.settings import Settings
from tests.docs.pages import ROOT, blocks
from tests.support.servers import free_port, running
from tests.support.service_bundle import user_ids, write_toy_bundle

README, API = [ROOT / "README.md"], [ROOT / "docs" / "api.md"]
USERS, COMMUNITIES, FOLLOWS = 300, 10, 12
THE_USER = 12345


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has: the graph.toml of the README, the edge files that it names, examples of clicks."""
    directory = tmp_path_factory.mktemp("reader")
    (directory / "graph.toml").write_text(blocks("toml", pages=README)[0].text)
    rng = np.random.default_rng(1)
    src = np.repeat(np.arange(USERS), FOLLOWS)
    dst = (src + COMMUNITIES * rng.integers(1, USERS // COMMUNITIES, len(src))) % USERS
    ids = np.arange(USERS) + THE_USER
    (directory / "follows").mkdir()
    for part, rows in enumerate(np.array_split(np.arange(len(src)), 3)):
        edges = pa.table({"src": ids[src[rows]], "dst": ids[dst[rows]]})
        pq.write_table(edges, directory / "follows" / f"part-{part}.parquet")
    users, items = rng.integers(0, USERS, (2, 500))
    labels = (users % COMMUNITIES == items % COMMUNITIES).astype(np.int64)
    pq.write_table(
        pa.table({"user": ids[users], "item": ids[items], "label": labels, "hour": rng.integers(0, 24, 500)}),
        directory / "clicks.parquet",
    )
    return directory


def commands_of_the_readme() -> list[str]:
    """The lines of the README's blocks that call `twhin`, without their remarks."""
    lines = [line for block in blocks("", pages=README) for line in block.text.splitlines()]
    return [line.split(" #")[0].strip() for line in lines if line.startswith("twhin ")]


@pytest.mark.timeout(900)
def test_the_readme_s_commands_work_word_for_word_in_their_order(folder: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    commands = commands_of_the_readme()
    assert [line.split()[1] for line in commands[:5]] == ["data", "train", "build", "publish", "serve"]
    served = []
    for line in commands:
        words = shlex.split(line)
        if words[1] == "serve":
            served.append(_serve_and_ask(folder, [*words, "--port", str(free_port())], environment))
            continue
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert served == [10]
    assert list((folder / "report").glob("*.html"))


def _serve_and_ask(folder: Path, words: list[str], environment: dict[str, str]) -> int:
    """Start the service as the README does; how many candidates it has for the user of the README."""
    with subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as server:
        try:
            transport = httpx.HTTPTransport(retries=100)
            with httpx.Client(base_url=f"http://127.0.0.1:{words[-1]}", transport=transport, timeout=60) as client:
                answer = client.get(f"/recommend/{THE_USER}", params={"k": 10})
            return len(answer.json()["candidates"])
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running service over a small version."""
    directory = tmp_path_factory.mktemp("api")
    publish(directory / "bundles", write_toy_bundle(directory / "bundles", "v1").name)
    with running(Settings(bundles=directory / "bundles")) as address:
        yield address


@pytest.mark.parametrize("block", blocks("sh", pages=API), ids=lambda block: f"api.md:{block.line}")
def test_a_request_of_the_api_page_is_answered(block: object, url: str) -> None:
    line = block.text.replace("\\\n", " ").replace("localhost:8000", url)  # type: ignore[attr-defined]
    for user, stand_in in zip(("42", "43"), user_ids(), strict=False):
        line = line.replace(f'"{user}"', f'"{stand_in}"')
    done = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=60, check=True)
    answer = json.loads(done.stdout)
    assert "version" in answer, answer
    assert "code" not in answer


@pytest.mark.parametrize("block", blocks("python", pages=API), ids=lambda block: f"api.md:{block.line}")
def test_the_python_of_the_api_page_runs(block: object, url: str) -> None:
    names = {"httpx": httpx, "numpy": np, "url": f"{url}/v1/embeddings", "ids": user_ids()[:3]}
    exec(block.text, names)  # type: ignore[attr-defined] # noqa: S102 - the page is ours
    assert isinstance(names["vectors"], np.ndarray)
    assert names["vectors"].shape[0] == 3


def test_the_fields_of_a_request_have_the_defaults_of_the_api_page() -> None:
    document = json.loads((ROOT / "openapi.json").read_text(encoding="utf-8"))
    fields = document["components"]["schemas"]["RecommendBody"]["properties"]
    text = API[0].read_text(encoding="utf-8")
    section = text[text.index("### `POST /recommend`") : text.index("**Strategies**")]
    told: dict[str, str] = {}
    for names, default in re.findall(r"^\| (`[^|]*) \|([^|]*)\|", section, flags=re.MULTILINE):
        told |= {name: default.strip("` ") for name in re.findall(r"`(\w+)`", names)}
    assert set(told) == set(fields)
    for name, default in told.items():
        if default in ("true", "false", "[]") or default.isdigit():
            assert json.loads(default) == fields[name]["default"], name


def test_what_json_on_the_api_page_shows_is_in_the_document() -> None:
    """Every key is a property of some request or answer."""
    document = json.loads((ROOT / "openapi.json").read_text(encoding="utf-8"))
    properties = {
        name for schema in document["components"]["schemas"].values() for name in schema.get("properties", {})
    }
    for block in blocks("json", pages=API):
        assert _keys(json.loads(block.text)) - {"…"} <= properties, block.line


def _keys(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(_keys, value.values()))
    return set().union(*map(_keys, value)) if isinstance(value, list) else set()

"""A small graph file to vary, and a way to lay out files beside it."""

from collections.abc import Callable
from pathlib import Path

import pytest

import engine

FOLLOWS = """
[entities.user]
id = "{kind}"
[[relations]]
name = "follows"
source = "user"
target = "user"
files = "{files}"
{extra}
"""

MakeGraph = Callable[..., Path]


@pytest.fixture
def follows(tmp_path: Path) -> MakeGraph:
    """Writes one edge file and a graph.toml whose one relation `follows` reads it; returns the latter's path."""

    def make(content: bytes | str, name: str = "follows.csv", kind: str = "int64", extra: str = "") -> Path:
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(data)
        path = tmp_path / "graph.toml"
        path.write_text(FOLLOWS.format(kind=kind, files=name, extra=extra))
        return path

    return make


@pytest.fixture(params=["compiled", "python"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine does and what is done without one, which is its judge."""
    if request.param == "python":
        monkeypatch.setattr(engine, "available", lambda: False)
    else:
        assert engine.available(), engine.why_unavailable()

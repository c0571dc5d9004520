"""Whom the demo names as its example, what it proposes to ask, and how it is served later."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from bundle.errors import UsageError
from bundle.versions import publish
from cli.demo import demo, invite, usual
from graph.synthetic import generate
from tests.support.service_bundle import user_ids, write_toy_bundle


def test_the_example_is_neither_a_star_nor_a_loner() -> None:
    assert usual(np.array([0, 500, 3, 1, 0, 9, 2], dtype=np.int64)) == 2


def test_a_demo_without_attributes_is_not_asked_for_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tmp_path, write_toy_bundle(tmp_path, "v1").name)
    invite(tmp_path, 8000)
    body = re.search(r"-d '(.*)'", capsys.readouterr().out)
    assert body is not None
    asked = json.loads(body[1])
    assert asked.keys() == {"user", "k", "explain"}
    assert asked["user"] in user_ids()


def test_a_demo_that_does_not_serve_says_how_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kept in ("graph/graph.toml", "run/run.json"):
        (tmp_path / kept).parent.mkdir()
        (tmp_path / kept).touch()
    write_toy_bundle(tmp_path / "bundles", "v1")
    publish(tmp_path / "bundles", "v1")
    demo(tmp_path, serve=False)
    assert f"Next: twhin serve --bundles {tmp_path / 'bundles'}" in capsys.readouterr().out


def test_another_number_of_users_than_a_demo_has_is_refused(tmp_path: Path) -> None:
    generate(tmp_path / "graph", n_users=100)
    with pytest.raises(UsageError, match="holds a graph of 100 users, and --users asks for 2,000"):
        demo(tmp_path, users=2000, serve=False)
    (tmp_path / "graph" / "interests.npy").unlink()
    with pytest.raises(UsageError, match="holds a graph of other users"):
        demo(tmp_path, users=2000, serve=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph"]

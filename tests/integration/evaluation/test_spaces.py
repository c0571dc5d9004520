"""Several spaces of one version answer together: built by one command, weighed on validation edges, asked over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from bundle.errors import UsageError
from bundle.progress import SILENT
from bundle.reader import open_bundle, read_manifest
from bundle.versions import publish
from cli.build import _spaces, together_in_words
from cli.compose import assessor_together
from cli.main import app
from index.builder.config import parse_config
from index.builder.version import SpaceSource, build_version
from service.settings import Settings
from tests.support.servers import running
from tests.support.world import BOTH, trained

SETTINGS: dict[str, object] = {"index": {"kind": "exact", "queries": 50}, "threads": 1}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of two runs over one split, and one whose second run holds out other edges."""
    root = tmp_path_factory.mktemp("spaces")
    first = trained(root / "a", BOTH)
    poorer = trained(root / "b", BOTH, epochs=1, learning_rate=1e-6, seed=2)
    leaking = trained(root / "c", '[split]\nby = "random"\nseed = 5\n')
    for version, others in (("two", {"poorer": poorer}), ("leaking", {"other": leaking})):
        build_version(
            first,
            root / "bundles",
            parse_config(SETTINGS, "the test"),
            version=version,
            others={name: SpaceSource(run) for name, run in others.items()},
            assess_together=assessor_together(first, 1, SILENT),
        )
    publish(root / "bundles", "two")
    return root / "bundles"


@pytest.fixture(scope="module")
def client(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    state = tmp_path_factory.mktemp("state") / "events.db"
    settings = Settings(bundles=bundles, state=state, self_test_queries=4, warm_up_queries=4)  # type: ignore[call-arg]
    with running(settings) as url, httpx.Client(base_url=url, timeout=20) as made:
        made.headers["content-type"] = "application/json"
        yield made


def ask(client: httpx.Client, path: str = "/recommend", **body: object) -> dict[str, Any]:
    response = client.post(path, content=json.dumps(body))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [one["id"] for one in answer["candidates"]]


def test_a_build_weighs_the_spaces_of_each_relation(bundles: Path) -> None:
    manifest = read_manifest(bundles / "two")
    assert list(manifest.spaces) == ["default", "poorer"]
    assert list(manifest.together) == ["follows", "listens"]
    for joint in manifest.together.values():
        assert joint.fallback is None
        assert sum(joint.weights.values()) == pytest.approx(1)
        assert joint.weights["default"] > joint.weights["poorer"], "the one that was trained longer says more"
        assert list(joint.measured) == ["default", "poorer", "together"]
        best = max(joint.measured[name]["recall@10"] for name in manifest.spaces)
        assert joint.measured["together"]["recall@10"] > 0.9 * best
    assert any(gate.metric.startswith("poorer: ") for gate in manifest.evaluation.gates)
    assert len(list(together_in_words(manifest))) == 2


def test_spaces_of_other_splits_teach_nothing(bundles: Path) -> None:
    for joint in read_manifest(bundles / "leaking").together.values():
        assert joint.weights == {"default": 0.5, "other": 0.5}
        assert "trained on edges that the first space holds out" in str(joint.fallback)


@pytest.mark.parametrize("relation", ["follows", "listens"])
def test_spaces_answer_together_everywhere(client: httpx.Client, bundles: Path, relation: str) -> None:
    body = {"k": 12, "relation": relation, "spaces": ["default", "poorer"]}
    answer = ask(client, user="7", **body)
    assert answer["strategy"] == "together"
    assert list(answer["spaces"]) == ["default", "poorer"]
    alone = [ids(ask(client, user="7", k=200, relation=relation, space=name)) for name in answer["spaces"]]
    assert set(ids(answer)) <= {*alone[0], *alone[1]}
    says_nothing = read_manifest(bundles / "two").together[relation].weights["poorer"] == 0
    assert (ids(answer) == alone[0][:12]) == says_nothing
    scores = [one["score"] for one in answer["candidates"]]
    assert scores == sorted(scores, reverse=True)
    # The heads of both lists stand before their tails.
    assert np.mean([alone[0].index(one) for one in ids(answer) if one in alone[0]]) < 40
    batch = ask(client, "/recommend:batch", users=["7", "8"], **body)
    assert [one["candidates"] for one in batch["results"]] == [
        answer["candidates"],
        ask(client, user="8", **body)["candidates"],
    ]
    named = ask(client, "/v1/versions/two/recommend", user="7", **body)
    assert ids(named) == ids(answer)
    query = {"k": 12, "relation": relation, "spaces": "default,poorer"}
    assert ids(client.get("/recommend/7", params=query).json()) == ids(answer)


def test_one_space_is_asked_as_by_its_name(client: httpx.Client) -> None:
    for name in ("default", "poorer"):
        one, other = ask(client, user="7", spaces=[name]), ask(client, user="7", space=name)
        assert (one["candidates"], one["strategy"]) == (other["candidates"], other["strategy"])
        assert "spaces" not in one


def test_what_a_user_has_and_excludes_is_in_no_answer(client: httpx.Client, bundles: Path) -> None:
    both = ["default", "poorer"]
    answer = ask(client, user="7", k=50, relation="follows", spaces=both)
    space = open_bundle(bundles / "two").space()
    table, row = space.table("user"), space.table("user").ids.row("7")
    assert row is not None
    assert not set(ids(answer)) & set(table.ids.externals(space.relation("follows").targets.row(row).astype(np.int64)))
    first, second, third = ids(answer)[:3]
    event = {"user": "7", "target": first, "relation": "follows"}
    assert ask(client, "/v1/engagements", events=[event])["stored"] == 1
    after = ids(ask(client, user="7", k=50, relation="follows", spaces=both, exclude=[second]))
    client.delete("/v1/users/7/engagements")
    assert not {first, second} & set(after)
    assert third in after
    only = {"ids": [first, third]}
    assert set(ids(ask(client, user="7", relation="follows", spaces=both, filter=only))) == {first, third}


def test_newcomers_are_answered_by_engagements(client: httpx.Client) -> None:
    asked = {"engagements": [{"target": "3"}, {"target": "4"}], "relation": "follows", "spaces": ["default", "poorer"]}
    answer = ask(client, **asked)
    assert (answer["known"], len(answer["candidates"])) == (False, 20)
    assert not {"3", "4"} & set(ids(answer))


@pytest.mark.parametrize(("body", "words"), [
    ({"spaces": ["default", "nowhere"]}, "no such space in this version; it has: default, poorer"),
    ({"spaces": ["default", "default"]}, "one space twice"),
    ({"spaces": ["default", "poorer"], "space": "default"}, "exclude each other"),
    ({"spaces": ["default", "poorer"], "explain": True}, "explain, diversity and max_per_cluster are of one space"),
    ({"spaces": ["default", "poorer"], "strategy": "nothing"}, "no such strategy"),
    ({"spaces": ["default", "poorer"], "relation": "nothing"}, "no such relation"),
])  # fmt: skip
def test_what_spaces_cannot_answer_is_told(client: httpx.Client, body: dict[str, object], words: str) -> None:
    response = client.post("/recommend", content=json.dumps({"user": "7", **body}))
    assert response.status_code == 422
    assert words in response.json()["detail"]


@pytest.mark.parametrize("also", [["b"], ["=run"], ["b="], ["b=x", "b=y"]])
def test_a_space_needs_a_name_and_a_run(also: list[str]) -> None:
    with pytest.raises(UsageError, match="NAME=RUN_DIR"):
        _spaces(also)


def test_a_name_that_is_no_spaces_is_told_before_anything_is_built(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(UsageError, match="is no name of a space"):
        build_version(
            run, tmp_path / "bundles", parse_config(SETTINGS, "the test"), others={"../away": SpaceSource(run)}
        )
    assert not (tmp_path / "bundles").exists()


def test_a_plan_is_of_one_run() -> None:
    told = CliRunner().invoke(app, ["build", "run", "--bundles", "b", "--plan", "--also", "b=run"])
    assert isinstance(told.exception, UsageError)
    assert "--plan tells of one run" in str(told.exception)

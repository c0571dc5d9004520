"""`twhin compare` on the toy: two real versions asked the same questions, with a run, without one, across graphs."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bundle.errors import TwhinError
from cli.main import app
from tests.support.toy import N_ITEMS, build_toy, write_toy_run


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version `good` of the toy's run, its like `again`, and `turned`, whose users have each other's taste."""
    directory = tmp_path_factory.mktemp("compared")
    build_toy(directory, "good")
    for name in ("again", "turned"):
        copy = directory / "bundles" / name
        shutil.copytree(directory / "bundles" / "good", copy)
        manifest = (copy / "manifest.json").read_text()
        (copy / "manifest.json").write_text(manifest.replace('"version": "good"', f'"version": "{name}"'))
    users = next((directory / "bundles" / "turned").rglob("vectors/user.npy"))
    table = np.load(users)
    np.save(users, np.ascontiguousarray(table[:, [1, 0, *range(2, table.shape[1])]]))
    return directory


def compared(toys: Path, *words: object) -> Any:
    held_out = ["--part", "valid"] if "--run" in words else []  # the toy's test edges are its validation edges
    command = ["compare", *map(str, words), *held_out, "--bundles", str(toys / "bundles"), "--json"]
    result = CliRunner().invoke(app, command)
    if result.exception is not None:
        raise result.exception
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def worse(toys: Path) -> Any:
    """`good` against `turned`, asked about the run's held-out edges."""
    return compared(toys, "good", "turned", "--run", toys / "run")


def difference(found: Any, strategy: str, metric: str = "recall@10") -> Any:
    return {one["name"]: one for one in found["relations"][0]["strategies"]}[strategy]["metrics"][metric]


def test_the_version_that_lost_its_users_taste_is_worse_and_by_how_much(worse: Any) -> None:
    found = worse
    assert [one["relation"] for one in found["relations"]] == ["likes"]
    own = difference(found, "unimodal")
    assert (own["a"], own["b"], own["difference"], own["n"]) == (1.0, 0.0, -1.0, 20)
    assert (own["low"], own["high"]) == (-1.0, -1.0)
    engaged = difference(found, "fold_in")  # by what they like, which is the same in both
    assert (engaged["a"], engaged["b"], engaged["difference"]) == (1.0, 1.0, 0.0)
    assert found["verdict"].startswith("turned is ")


def test_a_version_beside_itself_is_alike_in_everything(toys: Path) -> None:
    found = compared(toys, "good", "again", "--run", toys / "run")
    for group in [*found["relations"][0]["strategies"], *found["relations"][0]["groups"]]:
        for one in group["metrics"].values():
            assert one["difference"] in (0.0, None)
    assert {one["shared"] for one in found["relations"][0]["overlap"]} == {1.0}
    assert "better" not in found["verdict"]
    assert "again is no different for likes" in found["verdict"]
    assert [one["movement"]["l2_mean"] for one in found["drift"]["types"]] == [0.0, 0.0]


def test_one_version_under_two_names_is_said_to_be_one(toys: Path) -> None:
    """As after `twhin publish latest`, when `current` and `latest` are the same."""
    found = compared(toys, "good", "good", "--run", toys / "run")
    assert found["verdict"].startswith("A and B are the same version, good: ")


def test_users_are_told_apart_by_what_is_known_of_them(worse: Any) -> None:
    groups = {(one["kind"], one["name"]) for one in worse["relations"][0]["groups"]}
    assert ("known edges", "3-9") in groups
    assert ("newcomers", "a few engagements") in groups
    assert ("target in-degree", "0") in groups  # nobody has liked what is held out


def test_without_a_run_lists_facts_and_drift_are_compared(toys: Path) -> None:
    found = compared(toys, "good", "turned")
    assert any("Without --run" in note for note in found["notes"])
    overlap = {one["strategy"]: one for one in found["relations"][0]["overlap"]}
    assert overlap["unimodal"]["shared"] < 0.5  # the users' own vectors point elsewhere
    assert overlap["popular"]["shared"] == 1.0
    assert found["a"]["entities"] == found["b"]["entities"]
    users = next(one for one in found["drift"]["types"] if one["entity_type"] == "user")
    assert users["movement"]["cosine_mean"] < 0.5


def test_versions_of_other_graphs_are_compared_by_id(toys: Path, tmp_path: Path) -> None:
    """In the other graph one user is gone: that version is asked for him as for a newcomer, by what he likes."""
    run = write_toy_run(tmp_path / "run")
    _without_first_user(run)
    build_toy(tmp_path, "smaller")
    target = toys / "bundles" / "smaller"
    if not target.exists():
        (tmp_path / "bundles" / "smaller").rename(target)
    found = compared(toys, "smaller", "good", "--run", toys / "run")
    relation = found["relations"][0]
    assert relation["users"] == 20
    assert difference(found, "fold_in")["a"] == 1.0
    types = {one["entity_type"]: one for one in found["drift"]["types"]}
    assert (types["user"]["added"], types["user"]["removed"], types["item"]["kept"]) == (1, 0, 2 * N_ITEMS)


def _without_first_user(run: Path) -> None:
    """Take user 101, who has row 0, out of the toy's run."""
    graph = run / "graph"
    np.save(graph / "ids" / "user.npy", np.load(graph / "ids" / "user.npy")[1:])
    for table in ("vectors", "optimizer"):
        np.save(run / table / "user.npy", np.load(run / table / "user.npy")[1:])
    record = json.loads((graph / "graph.json").read_text())
    record["digest"] = "2" * 64
    record["entities"][0]["count"] -= 1
    for part in ("edges", "valid", "test"):
        for number, ends in ((0, ("src",)), (1, ("src", "dst"))):
            files = {path.name: np.load(path) for path in graph.glob(f"{part}/{number:03d}.*.npy")}
            if not files:
                continue
            kept = np.ones(len(files[f"{number:03d}.src.npy"]), dtype=bool)
            for end in ends:
                kept &= files[f"{number:03d}.{end}.npy"] > 0
            for name, values in files.items():
                moved = values[kept] - (1 if name.split(".")[1] in ends else 0)
                np.save(graph / part / name, np.ascontiguousarray(moved.astype(values.dtype)))
            record["relations"][number][part] = int(kept.sum())
    (graph / "graph.json").write_text(json.dumps(record))
    made = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(made | {"graph_digest": "2" * 64}))


@pytest.mark.parametrize("seen", [10, 20])
def test_held_out_edges_that_a_version_was_trained_on_are_left_out(toys: Path, tmp_path: Path, seen: int) -> None:
    """As where the graph grew and a random split drew other edges: its lists cannot have them, and it is not worse."""
    _train_on_held_out(write_toy_run(tmp_path / "run"), seen)
    build_toy(tmp_path, f"seen{seen}")
    (tmp_path / "bundles" / f"seen{seen}").rename(toys / "bundles" / f"seen{seen}")
    found = compared(toys, f"seen{seen}", "good", "--run", toys / "run")
    relation = found["relations"][0]
    assert (relation["trained_a"], relation["trained_b"], relation["users"]) == (seen / 20, 0.0, 20 - seen)
    if seen < 20:
        own = difference(found, "unimodal")
        assert (own["a"], own["b"], own["n"]) == (1.0, 1.0, 20 - seen)
        assert "is no different for likes" in found["verdict"]
    else:
        assert relation["strategies"] == []
        assert found["verdict"].startswith("Nothing was measured of both")


def _train_on_held_out(run: Path, n: int) -> None:
    """Make training edges of the first `n` held-out edges of the toy's run."""
    graph = run / "graph"
    for end in ("src", "dst"):
        edges, held_out = np.load(graph / f"edges/000.{end}.npy"), np.load(graph / f"valid/000.{end}.npy")
        np.save(graph / f"edges/000.{end}.npy", np.concatenate([edges, held_out[:n]]))
    for name in ("weight", "time"):
        values = np.load(graph / f"edges/000.{name}.npy")
        np.save(graph / f"edges/000.{name}.npy", np.concatenate([values, values[:n]]))
    record = json.loads((graph / "graph.json").read_text())
    record["digest"] = "3" * 64
    record["relations"][0]["edges"] += n
    (graph / "graph.json").write_text(json.dumps(record))
    made = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(made | {"graph_digest": "3" * 64}))


def test_what_cannot_be_compared_is_said_in_a_line(toys: Path, tmp_path: Path) -> None:
    with pytest.raises(TwhinError, match="no-such"):
        compared(toys, "good", "no-such")
    with pytest.raises(TwhinError, match="A and B have no relation nobody"):
        compared(toys, "good", "again", "--run", toys / "run", "--relation", "nobody")
    result = CliRunner().invoke(app, ["compare", str(tmp_path), str(tmp_path)])
    assert isinstance(result.exception, TwhinError)
    assert "holds neither a version" in str(result.exception)


def test_a_person_reads_the_verdict_first(toys: Path, tmp_path: Path) -> None:
    words = ["compare", "good", "turned", "--bundles", toys / "bundles", "--run", toys / "run", "--part", "valid"]
    words += ["--report", tmp_path]
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 0, result.output
    assert "turned is" in result.output.splitlines()[0] or "turned is" in result.output
    for text in ("unimodal", "1.000 → .000", "known edges: 3-9", "How far entities moved", "the same first"):
        assert text in result.output
    saved = json.loads((tmp_path / "compare.json").read_text())
    assert saved["b"]["name"] == "turned"

"""`twhin evaluate ranking` on files of the user's own, over the toy version: options, report, refusals."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from bundle.errors import TwhinError
from cli.evaluate import app
from tests.support.toy import CHESS_LOVERS, ITEMS, JAZZ_LOVERS, build_toy

LOVERS = [(user, "jazz") for user in JAZZ_LOVERS] + [(user, "chess") for user in CHESS_LOVERS]
CLICKS = "user,item,label\n" + "".join(
    f"{user},{kind}-0{i},{int(kind == loved)}\n"
    for i, (user, loved) in enumerate(LOVERS[::3])
    for kind in ("jazz", "chess")
)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy twice, as if the second version were of another space."""
    directory = tmp_path_factory.mktemp("ranked")
    build_toy(directory, "follow")
    build_toy(directory, "engagement")
    return directory / "bundles"


def examples(seed: int, n: int = 300) -> pa.Table:
    """Who clicks what: lovers of a thing click its items; the hour of the day says nothing."""
    rng = np.random.default_rng(seed)
    chosen, items = rng.integers(len(LOVERS), size=n), rng.integers(len(ITEMS), size=n)
    labels = [ITEMS[item].startswith(LOVERS[i][1]) for i, item in zip(chosen, items, strict=True)]
    columns = {"user": [int(LOVERS[i][0]) for i in chosen], "item": [ITEMS[item] for item in items]}
    return pa.table(columns | {"label": [int(label) for label in labels], "hour": rng.integers(24, size=n)})


def asked(*arguments: object) -> dict[str, object]:
    done = CliRunner().invoke(app, ["ranking", *map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    return json.loads(done.stdout)


def test_embeddings_of_two_versions_raw_and_decoded_tell_who_clicks_what(bundles: Path, tmp_path: Path) -> None:
    for name, seed in (("train", 1), ("test", 2)):
        pq.write_table(examples(seed), tmp_path / f"{name}.parquet")
    report = asked(
        *("--bundles", bundles, "--version", "follow", "--also", bundles / "engagement"),
        *("--examples", tmp_path / "train.parquet", "--test", tmp_path / "test.parquet"),
        *("--report", tmp_path / "report"),
    )
    auc = {(row["features"], row["model"]): row["metrics"]["roc_auc"] for row in report["rows"]}
    for version in ("follow", "engagement"):
        for form in ("raw", "decoded"):
            assert auc[f"user + item ({version}, {form})", "mlp"]["low"] > 0.9
            assert auc[f"user ({version}, {form})", "mlp"]["mean"] < 0.7
    assert auc["none", "mlp"]["mean"] < 0.7
    assert "user + item (follow, decoded)" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_examples_to_learn_from_among_those_to_test_are_counted(bundles: Path, tmp_path: Path) -> None:
    learnt = examples(1).slice(0, 200)
    pq.write_table(learnt, tmp_path / "train.parquet")
    later = examples(2).slice(0, 100).drop(["hour"]).append_column("hour", pa.array([25] * 100))
    pq.write_table(pa.concat_tables([learnt.slice(0, 50), later]), tmp_path / "test.parquet")
    given = ("--examples", tmp_path / "train.parquet", "--test", tmp_path / "test.parquet", "--version", "follow")
    done = CliRunner().invoke(app, ["ranking", *map(str, ("--bundles", bundles, *given))], catch_exceptions=False)
    assert "50 of 150 examples of" in done.stderr
    assert "stand in" in done.stderr


def test_a_fifth_of_the_users_is_held_back_without_a_test_file(bundles: Path, tmp_path: Path) -> None:
    pq.write_table(examples(1), tmp_path / "examples.parquet")
    report = asked("--bundles", bundles, "--version", "follow", "--examples", tmp_path / "examples.parquet")
    assert report["train"] + report["test"] == 300
    assert 0 < report["test"] < 150


def test_held_out_edges_of_a_run_are_examples_too(bundles: Path) -> None:
    report = asked("--bundles", bundles, "--version", "follow", "--run", bundles.parent / "run")
    assert {"user + item (raw)", "user + item (decoded)"} <= {row["features"] for row in report["rows"]}


def test_the_relation_is_the_one_whose_ends_have_the_ids(bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "friends.csv").write_text(
        "user,item,label\n" + "".join(f"{user},{101 + i},{i % 2}\n" for i in range(10) for user in JAZZ_LOVERS),
        encoding="utf-8",
    )
    done = CliRunner().invoke(
        app,
        ["ranking", "--bundles", str(bundles), "--version", "follow", "--examples", str(tmp_path / "friends.csv")],
        catch_exceptions=False,
    )
    assert "User and item are taken as the ends of follows: user and user" in done.stderr
    assert "user + item (raw)" in done.stdout


def test_a_side_without_vectors_is_left_out_when_the_relation_is_named(bundles: Path, tmp_path: Path) -> None:
    file = tmp_path / "adverts.csv"
    file.write_text(CLICKS.replace("jazz", "advert").replace("chess", "poster"), encoding="utf-8")
    report = asked(
        "--bundles", bundles, "--version", "follow", "--examples", file, "--test", file, "--relation", "likes"
    )
    assert {row["features"] for row in report["rows"]} == {"none", "user (raw)", "user (decoded)"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Name what to predict"),
        (("--examples", "a.csv", "--run", "r"), "Name what to predict"),
        (("--examples", "none.csv"), "none.csv does not exist"),
        (
            ("--examples", "strangers.csv", "--test", "strangers.csv"),
            "No user of the examples has an id of type user, no item of the examples has an id of type",
        ),
        (("--examples", "clicks.csv", "--relation", "follows"), r"These fit: --relation likes \(user → item\)"),
        (("--examples", "adverts.csv"), "No item of the examples has an id of type"),
        (("--examples", "one.csv"), "too few users"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("strangers.csv").write_text("user,item,label\n9,x,1\n8,y,0\n", encoding="utf-8")
    Path("clicks.csv").write_text(CLICKS, encoding="utf-8")
    Path("adverts.csv").write_text(CLICKS.replace("jazz", "advert").replace("chess", "advert"), encoding="utf-8")
    Path("one.csv").write_text("user,item,label\n101,jazz-00,1\n101,chess-00,0\n", encoding="utf-8")
    with pytest.raises(TwhinError, match=said):
        CliRunner().invoke(
            app, ["ranking", "--bundles", str(bundles), "--version", "follow", *arguments], catch_exceptions=False
        )

"""`twhin evaluate all`: every relation with test edges on one page, its default one first, or those that are named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bundle.errors import TwhinError
from cli.main import app
from tests.support.toy import CHESS_LOVERS, JAZZ_LOVERS, build_toy, user_row, write_toy_run

OTHERS = ("mixtures", "ranking", "compression", "ease")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy, of whose second relation edges are held out too: each lover should follow the next but one."""
    directory = tmp_path_factory.mktemp("relations")
    graph = write_toy_run(directory / "run") / "graph"
    pairs = [
        (user_row(ring[i]), user_row(ring[(i + 2) % len(ring)]))
        for ring in (JAZZ_LOVERS, CHESS_LOVERS)
        for i in range(len(ring))
    ]
    for end, rows in zip(("src", "dst"), np.array(pairs, dtype=np.int32).T, strict=True):
        np.save(graph / "test" / f"001.{end}.npy", np.ascontiguousarray(rows))
    # The task wants three known edges of each user: the ring goes on.
    further = [
        (user_row(ring[i]), user_row(ring[(i + step) % len(ring)]))
        for ring in (JAZZ_LOVERS, CHESS_LOVERS)
        for i in range(len(ring))
        for step in (1, 3, 4)
    ]
    for end, rows in zip(("src", "dst"), np.array(further, dtype=np.int32).T, strict=True):
        np.save(graph / "edges" / f"001.{end}.npy", np.ascontiguousarray(rows))
    record = json.loads((graph / "graph.json").read_text())
    record["relations"][1] |= {"test": len(pairs), "edges": len(further)}
    (graph / "graph.json").write_text(json.dumps(record))
    build_toy(directory)
    return directory


def page_of(evaluated: Path, folder: Path, *words: str) -> tuple[Any, str]:
    command = ["evaluate", "all", "--run", evaluated / "run", "--bundles", evaluated / "bundles", "--version", "toy"]
    skipped = [word for part in OTHERS for word in ("--skip", part)]
    result = CliRunner().invoke(app, [*map(str, command), "--report", str(folder), *skipped, *words])
    if result.exception is not None:
        raise result.exception
    return json.loads((folder / "report.json").read_text()), (folder / "report.html").read_text()


def test_every_relation_with_test_edges_is_on_the_page(evaluated: Path, tmp_path: Path) -> None:
    report, page = page_of(evaluated, tmp_path)
    assert [one["relation"] for one in report["follow"]] == ["likes", "follows"]
    assert page.index("Candidates: likes</h2>") < page.index("Candidates: follows</h2>")
    assert report["provenance"]["settings"]["skipped"] == "mixtures, ranking, compression, ease"
    assert "ease: it was skipped." in page


def test_a_relation_can_be_named(evaluated: Path, tmp_path: Path) -> None:
    report, _ = page_of(evaluated, tmp_path, "--relation", "follows")
    assert [one["relation"] for one in report["follow"]] == ["follows"]
    with pytest.raises(TwhinError, match="nobody"):
        page_of(evaluated, tmp_path, "--relation", "nobody")


def test_two_reports_are_compared(evaluated: Path, tmp_path: Path) -> None:
    for name in ("before", "after"):
        page_of(evaluated, tmp_path / name, "--relation", "follows")
    command = ["compare", tmp_path / "before", tmp_path / "after" / "report.json", "--report", tmp_path / "compared"]
    result = CliRunner().invoke(app, [*map(str, command)])
    assert result.exit_code == 0, result.output
    assert "is no different for follows" in " ".join(result.output.split())
    assert (tmp_path / "compared" / "compare.html").read_text().count("</script>") == 2
    mixed = CliRunner().invoke(app, ["compare", str(tmp_path / "before"), str(evaluated / "bundles" / "toy")])
    assert "cannot be compared" in str(mixed.exception)

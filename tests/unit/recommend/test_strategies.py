"""The weights of the strategies stand in one place, and a version without a strategy serves what a build would ship."""

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundle.manifest import QueryWeights
from bundle.space import Bundle
from bundle.strategies import BLEND, default_strategies
from index.search.open import exact_searchers
from recommend.plan import STANDARD
from recommend.recommender import Recommender
from recommend.types import RecommendRequest
from tests.docs.pages import table
from tests.support.service_bundle import user_ids
from twhin_command import PACKAGES

ROOT = Path(__file__).resolve().parents[3]
TERMS = set(QueryWeights.model_fields)


def weights_written_in(source: str) -> list[int]:
    """The lines that set a term of a query to a number: `QueryWeights(user=0.3)`, or a dictionary of such terms."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "QueryWeights":
            lines += [node.lineno for word in node.keywords if isinstance(word.value, ast.Constant)]
        if isinstance(node, ast.Dict) and TERMS >= {getattr(key, "value", None) for key in node.keys} != {"mode"}:
            lines += [node.lineno for value in node.values if isinstance(value, ast.Constant)]
    return lines


def test_no_weight_of_a_strategy_stands_elsewhere() -> None:
    files = [file for package in (*PACKAGES, "benchmarks") for file in sorted((ROOT / package).rglob("*.py"))]
    assert len(files) > 150
    written = {str(file.relative_to(ROOT)) for file in files if weights_written_in(file.read_text(encoding="utf-8"))}
    assert written == {"bundle/strategies.py"}


def test_weights_that_are_written_are_seen() -> None:
    assert weights_written_in("a = 1\nb = QueryWeights(user=0.3, relation=a)") == [2]
    assert weights_written_in('c = w.model_copy(update={"user": 0.3})') == [1]
    assert weights_written_in("d = QueryWeights(user=half)") == []


def test_the_standard_strategies_are_those_that_a_build_ships() -> None:
    assert default_strategies(modes=10) == STANDARD
    assert STANDARD["blend"].weights == BLEND
    assert BLEND.popularity > 0


@pytest.mark.parametrize("name", default_strategies())
def test_a_version_without_a_strategy_of_its_own_serves_the_default_of_a_build(toy: Bundle, name: str) -> None:
    space = toy.space()
    bare = space.entry.model_copy(update={"strategies": {}})
    shipped = space.entry.model_copy(update={"strategies": default_strategies(space.entry.clusters.modes)})
    answers = []
    for entry in (bare, shipped):
        version = replace(toy, spaces={space.name: replace(space, entry=entry)})
        recommender = Recommender(version, exact_searchers(version))
        slate = recommender.recommend(RecommendRequest(user=user_ids()[5], strategy=name, k=30))
        answers.append((slate.rows.tolist(), slate.weights, slate.picks.scores))
    assert answers[0] == answers[1]
    assert np.isfinite(answers[0][2]).all()


def test_the_page_names_every_strategy_and_which_of_them_are_learnt() -> None:
    page = ROOT / "docs" / "api.md"
    named = {name for cells in table(page, "name") for name in cells[0].replace("`", "").split(", ")}
    learnt = {"mixture_blend", "rescored", "newcomer", "walk"}
    assert named == {"auto", *default_strategies(), *learnt}
    text = page.read_text(encoding="utf-8")
    assert "`rescored`, `newcomer` and `mixture_blend` are learnt, and `walk` is shipped" in text
    assert learnt.isdisjoint(default_strategies())

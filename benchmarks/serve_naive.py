"""The endpoint most people would write first, to compare with: `def`, pydantic in and out, one search a mode.

Also a trivial route, the floor of what the framework costs, and a vector batch by `.tolist()`.
Started by `benchmarks.serve`; reads the directory of versions from BENCH_BUNDLES.
"""

import os
from pathlib import Path

import numpy as np
from fastapi import FastAPI, Response
from pydantic import BaseModel

from bundle.reader import open_bundle
from bundle.versions import current_path
from index.search.open import open_searcher
from recommend.filters import FilterCache
from recommend.mixtures import split
from recommend.plan import make_plan
from recommend.types import NO_LIVE_EDGES, RecommendRequest

bundle = open_bundle(current_path(Path(os.environ["BENCH_BUNDLES"])))
space = bundle.space()
default = space.entry.default
table = space.table(default.candidate_type)
searcher = open_searcher(bundle, space.name, default.candidate_type)
app = FastAPI()


class Query(BaseModel):
    """What is asked."""

    user: str
    k: int = 20
    strategy: str = "mixture"
    modes: int | None = None


class Candidate(BaseModel):
    """One candidate."""

    id: str
    score: float
    mode: int


class Answer(BaseModel):
    """The candidates."""

    candidates: list[Candidate]
    version: str


class Ids(BaseModel):
    """Ids whose vectors are asked for."""

    type: str
    ids: list[str]


@app.get("/trivial")
async def trivial() -> Response:
    """Nothing but the framework."""
    return Response(b"{}", media_type="application/json")


@app.post("/recommend")
def recommend(query: Query) -> Answer:
    """The same queries as the service's, searched one after another and merged in Python."""
    request = RecommendRequest(user=query.user, k=query.k, strategy=query.strategy, modes=query.modes)
    plan = make_plan(space, request, NO_LIVE_EDGES, FilterCache())
    excluded = plan.exclusions.rows()
    hits = [searcher.search(one[None], query.k, exclude=[excluded])[0] for one in plan.queries()]
    taken: set[int] = set()
    found: list[Candidate] = []
    shares = plan.modes.shares if len(plan.modes) else np.ones(1, dtype=np.float32)
    for mode, (one, budget) in enumerate(zip(hits, split(shares.tolist(), query.k), strict=True)):
        fresh = [
            (row, score) for row, score in zip(one.rows.tolist(), one.scores.tolist(), strict=True) if row not in taken
        ]
        for row, score in fresh[:budget]:
            taken.add(row)
            found.append(Candidate(id=table.ids.external(row), score=score, mode=mode))
    return Answer(candidates=found, version=bundle.version)


@app.post("/v1/embeddings", response_model=None)
def embeddings(asked: Ids) -> dict:  # type: ignore[type-arg]
    """Vectors as lists of numbers."""
    rows = [table.ids.row(external) for external in asked.ids]
    return {
        "items": [{"id": i, "vector": table.embeddings[row].tolist()} for i, row in zip(asked.ids, rows, strict=True)]
    }

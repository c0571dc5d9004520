"""`twhin recommend`: the service's answer for one user, without a server."""

from typing import TYPE_CHECKING, Annotated

import typer

from bundle.errors import UsageError
from cli.output import JsonFlag, emit, line, table
from cli.versions import BundlesOption, path_of

if TYPE_CHECKING:
    from recommend.filters import Filter
    from recommend.types import Slate


def recommend(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    bundles: BundlesOption,
    k: Annotated[int, typer.Option("-k", help="How many candidates.", min=1, max=10_000)] = 20,
    strategy: Annotated[str, typer.Option(help="A strategy of the version; auto is its default.")] = "auto",
    relation: Annotated[
        str | None, typer.Option(help="The relation to rank by; the version's default otherwise.")
    ] = None,
    condition: Annotated[
        str | None,
        typer.Option(
            "--filter",
            metavar="JSON",
            help='Which candidates are allowed, as JSON: \'{"attribute": "price", "lt": 20}\'.',
        ),
    ] = None,
    diversity: Annotated[
        float, typer.Option(help="How much candidates alike are avoided, from 0 to 1.", min=0.0, max=1.0)
    ] = 0.0,
    max_per_cluster: Annotated[
        int | None, typer.Option(help="How many candidates of one cluster at most.", min=1)
    ] = None,
    version: Annotated[str, typer.Option(help="A version's name, `latest` or `current`.")] = "current",
    explain: Annotated[
        bool, typer.Option("--explain", help="Show each candidate's interest, rank, source and reasons.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Candidates for a user from the published version, as POST /recommend gives them without live engagements."""
    from cli.compose import open_recommender
    from recommend.types import RecommendRequest

    path = path_of(bundles, version)
    request = RecommendRequest(
        user=user,
        k=k,
        strategy=strategy,
        relation=relation,
        filter=_filter_of(condition),
        explain=explain,
        diversity=diversity,
        max_per_cluster=max_per_cluster,
    )
    slate = open_recommender(path).recommend(request)
    emit(_answer(user, slate, explain), as_json, lambda: _show(user, slate, explain))


def _filter_of(text: str | None) -> "Filter | None":
    """The filter that `text` spells. Raises UsageError."""
    import msgspec

    from recommend.filters import Filter

    try:
        return None if text is None else msgspec.json.decode(text, type=Filter)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"--filter: {error}. docs/recommending.md shows what it takes.") from error


def _answer(user: str, slate: "Slate", explain: bool) -> dict[str, object]:
    return {
        "user": user,
        "known": slate.known,
        "version": slate.version,
        "strategy": slate.strategy,
        "relation": slate.relation,
        "fallback": slate.fallback,
        "candidates": [dict(zip(_columns(slate, explain), row, strict=True)) for row in _rows(slate, explain)],
    }


def _columns(slate: "Slate", explain: bool) -> tuple[str, ...]:
    """The labels stand beside the ids where the candidates have any."""
    named = ("id", "label") if _labelled(slate) else ("id",)
    more = ("cluster", "share", "rank", "source", "because") if explain else ()
    return (*named, "score", "mode", *more)


def _labelled(slate: "Slate") -> bool:
    table = slate.space.entities[slate.candidate_type]
    return any(table.label(pick.row) for pick in slate.picks)


def _rows(slate: "Slate", explain: bool) -> list[list[object]]:
    rows: list[list[object]] = []
    table, labelled = slate.space.entities[slate.candidate_type], _labelled(slate)
    for at, (external, pick) in enumerate(zip(slate.ids(), slate.picks, strict=True)):
        mode = pick.mode if pick.mode >= 0 else None
        row: list[object] = [external, *([table.label(pick.row)] if labelled else []), pick.score, mode]
        if explain:
            cluster = None if mode is None else int(slate.modes.clusters[mode])
            share = None if mode is None else float(slate.modes.shares[mode])
            row += [cluster, share, pick.rank, pick.source, _because(slate, at)]
        rows.append(row)
    return rows


def _because(slate: "Slate", at: int) -> str:
    """The reasons of the candidate at place `at`, in words: `near a, b (62%); 3 by follows: c, d (20%)`."""
    parts = []
    for reason in slate.reasons[at]:
        names = ", ".join(_name_of(slate, one.entity_type, one.row) for one in reason.because)
        words = {
            "near": f"near {names or 'what the user has'}",
            "followed_by": f"{reason.count} by {reason.via}: {names}" if reason.via else "those whom the user follows",
            "follows_you": "has an edge to the user",
            "elsewhere": f"the user has it by {reason.via}",
            "near_followers": "near who follows the user",
            "taste": "near the user's own vector",
            "popular": "popular",
        }[reason.kind]
        parts.append(f"{words} ({reason.share:.0%})" if reason.share >= 0.005 else words)
    return "; ".join(parts)


def _name_of(slate: "Slate", entity_type: str, row: int) -> str:
    table = slate.space.entities[entity_type]
    return table.label(row) or table.ids.external(row)


def _show(user: str, slate: "Slate", explain: bool) -> None:
    title = f"{slate.candidate_type} for {user} by {slate.relation}: strategy {slate.strategy}, version {slate.version}"
    table(title, _columns(slate, explain), _rows(slate, explain))
    if not slate.known:
        kind = slate.space.relations[slate.relation].entry.source
        line(f"The version does not know {kind} {user}: no edge of theirs was in the graph that it was trained on.")
    if slate.fallback is not None:
        line(f"fallback: {slate.fallback}")
    if slate.short:
        line("No more are eligible.")

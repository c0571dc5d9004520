"""Saying in words what the table of strategies shows about mixtures."""

from evaluation.follow import FollowReport, Row

ONE_VECTOR = ("unimodal", "fold_in", "blend", "rescored")


def mixture_in_words(report: FollowReport) -> str:
    """When a mixture of interests pays on this graph, and when one vector does."""
    strategies = [row for row in report.rows if row.kind == "strategy" and row.missing is None]
    singles = [row for row in strategies if row.name in ONE_VECTOR]
    mixtures = [row for row in strategies if row.name.startswith("mixture")]
    if not singles or not mixtures:
        return "Without both a mixture and a single-vector strategy there is nothing to compare."
    one = max(singles, key=lambda row: row.mean("recall@10"))
    many = max(mixtures, key=lambda row: row.mean("recall@10"))
    parts = [_verdict(one, many)]
    for metric, meaning in (
        ("diversity@10", "the lists' diversity"),
        ("one_way_recall@10", "edges that are not a following back"),
        ("coverage@10", "the share of the catalogue that is shown"),
    ):
        if many.mean(metric) > one.mean(metric):
            parts.append(f"The mixture is ahead in {meaning}: {many.mean(metric):.3f} to {one.mean(metric):.3f}.")
    pays = [label for label in many.by_degree if _ahead(many, one, label)]
    if pays:
        parts.append(f"It finds more for users with {', '.join(pays)} known edges.")
    return " ".join(parts)


def _verdict(one: Row, many: Row) -> str:
    lead, follow = (many, one) if many.mean("recall@10") > one.mean("recall@10") else (one, many)
    sort = {one.name: "one vector", many.name: "a mixture"}
    return (
        f"On this graph {sort[lead.name]} ({lead.name}) finds more than {sort[follow.name]} ({follow.name}): "
        f"recall@10 {lead.mean('recall@10'):.3f} to {follow.mean('recall@10'):.3f}."
    )


def _ahead(many: Row, one: Row, label: str) -> bool:
    if label not in one.by_degree:
        return False
    ours, theirs = many.by_degree[label]["recall@10"].mean, one.by_degree[label]["recall@10"].mean
    return ours is not None and theirs is not None and ours > theirs

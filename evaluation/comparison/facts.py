"""What two versions hold and cost, line by line."""

from collections.abc import Iterator

from bundle.manifest import CompressionEntry, IndexEntry
from evaluation.comparison.records import Side

# Its gates, which are of its indexes, it may have passed all the same.
NOT_MEASURED = "not measured (--quick, or no held-out edges)"


def facts(a: Side, b: Side) -> Iterator[tuple[str, str, str]]:
    """A heading and the texts of both, empty for a side that has no such thing; without what neither has."""
    before, after = (dict(_lines(one)) for one in (a, b))
    for heading in dict.fromkeys((*before, *after)):
        if before.get(heading) or after.get(heading):
            yield heading, before.get(heading, ""), after.get(heading, "")


def _lines(side: Side) -> Iterator[tuple[str, str]]:
    yield "created", side.created or ""
    yield "warm start from", side.parent or ""
    yield "graph", f"digest {side.graph_digest:.12}" if side.graph_digest else ""
    yield "code", f"commit {side.code_revision:.12}" if side.code_revision else ""
    yield "recall, by the build", "" if side.measured is None else "measured" if side.measured else NOT_MEASURED
    yield "dimensions", str(side.dim or "")
    yield "size", "" if side.size_bytes is None else f"{side.size_bytes / 1e6:,.1f} MB"
    yield from ((f"entities: {name}", f"{count:,}") for name, count in side.entities.items())
    yield from ((f"edges: {name}", f"{count:,}") for name, count in side.edges.items())
    yield from ((f"index: {name}", _index(entry)) for name, entry in side.indexes.items())
    yield from ((f"codes: {name}", _code(entry)) for name, entry in side.compression.items())


def _index(entry: IndexEntry) -> str:
    recall = next(iter(entry.recall.items()), None)
    parts = [
        entry.kind,
        "" if recall is None else f"{recall[0]} {recall[1]:.3f}",
        "" if entry.cpu_us_per_query is None else f"{entry.cpu_us_per_query:,.0f} µs",
        "" if entry.bytes_per_vector is None else f"{entry.bytes_per_vector:,.0f} bytes a vector",
    ]
    return ", ".join(part for part in parts if part)


def _code(entry: CompressionEntry) -> str:
    return f"{'OPQ' if entry.rotated else 'PQ'}, {entry.ratio:g} times smaller, cosine {entry.cosine:.3f}"

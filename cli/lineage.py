"""Whether a run and a version belong together: rows and held-out edges of one graph mean nothing in another."""

from pathlib import Path
from typing import TYPE_CHECKING

from bundle.errors import UsageError

if TYPE_CHECKING:
    from bundle.prepared import PreparedGraph


def require_same_graph(graph: "PreparedGraph", version: Path) -> None:
    """Raise UsageError when the version in the directory `version` was built from another graph than the run's."""
    from bundle.reader import read_manifest

    require_digest(graph, read_manifest(version).lineage.graph_digest, str(version))


def require_digest(graph: "PreparedGraph", digest: str, what: str) -> None:
    """Raise UsageError when `what`, a version or a service, says that it comes from another graph than the run's."""
    if graph.digest != digest:
        raise UsageError(
            f"{what} was built from graph {digest:.12}, the run {graph.path.parent} has graph {graph.digest:.12}. "
            "Name with --run the run it was built from, or a version that was built from this run."
        )

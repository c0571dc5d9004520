"""From `graph.toml` to a prepared graph in a store: made in a temporary directory, then sent."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from bundle.graph_record import GraphRecord, read_record
from bundle.prepared import PreparedGraph
from bundle.progress import SILENT, Progress
from graph.prepare import Engine, found, prepare
from graph.source import SOURCE_FILE, SourceRecord, parse_source
from storage.graphs import another_graph, read_stored, send_graph
from storage.store import Store


def prepare_into_store(
    graph_toml: Path,
    store: Store,
    progress: Progress = SILENT,
    *,
    engine: Engine | None = None,
    told: Callable[[PreparedGraph], None] = lambda _: None,
) -> GraphRecord:
    """Prepare the graph that `graph_toml` describes in the store's folder, or leave what is there when its input is
    unchanged. Where only times of change differ it is prepared, and its digest tells. `told` sees what was prepared,
    before it is sent.

    Takes the disk space of `prepare` in the directory for temporary files ($TMPDIR). Raises as `prepare` and
    StorageError; RunError where the store has another graph.
    """
    there = read_stored(store)
    if there is not None:
        source, before = found(graph_toml)[-1], _source(store)
        if before == source:
            return there
        if before is not None and before.without_times() != source.without_times():
            raise another_graph(store)
    with tempfile.TemporaryDirectory(prefix="twhin-") as scratch:
        prepared = prepare(graph_toml, Path(scratch) / "graph", progress, engine=engine)
        told(prepared)
        send_graph(store, prepared.path, progress)
        return read_record(prepared.path)


def _source(store: Store) -> SourceRecord | None:
    content = store.read(SOURCE_FILE)
    return None if content is None else parse_source(content.data)

"""The Embedding Projector (TensorBoard's, or projector.tensorflow.org): vectors and metadata as tab separated text."""

from pathlib import Path

import numpy as np

from bundle.progress import Stage
from export.table import ExportedTable

# What a browser still turns smoothly.
MOST_ROWS = 10_000
CONFIG = """embeddings {{
  tensor_name: "{name}"
  tensor_path: "{name}.vectors.tsv"
  metadata_path: "{name}.metadata.tsv"
}}
"""


def write(table: ExportedTable, directory: Path, stage: Stage) -> list[Path]:
    """Write `<type>.vectors.tsv`, `<type>.metadata.tsv` and the type's lines of `projector_config.pbtxt`.

    Of more than 10,000 entities those with the most edges are shown, by the popularity column, else the first ones.
    """
    vectors, metadata = (directory / f"{table.name}.{kind}.tsv" for kind in ("vectors", "metadata"))
    clusters = table.space.clusters.assignment.get(table.name)
    with vectors.open("w", encoding="utf-8") as numbers, metadata.open("w", encoding="utf-8") as told:
        told.write("id\tlabel\tcluster\tin_degree\n")
        for rows in np.array_split(_shown(table), 10):
            part = table.part(rows)
            numbers.writelines(
                "\t".join(f"{value:.6g}" for value in row) + "\n" for row in table.table.embeddings[rows].tolist()
            )
            degrees = np.rint(np.expm1(_popularity(table)[rows])).astype(np.int64).tolist()
            for one, row, degree in zip(part.texts(), rows.tolist(), degrees, strict=True):
                cluster = "" if clusters is None else int(clusters[row])
                told.write(f"{_plain(one)}\t{_plain(table.table.label(row) or one)}\t{cluster}\t{degree}\n")
            stage.advance(len(rows))
    config = directory / "projector_config.pbtxt"
    with config.open("a", encoding="utf-8") as file:
        file.write(CONFIG.format(name=table.name))
    return [vectors, metadata, config]


def _popularity(table: ExportedTable) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """ln(1 + in-degree) of every entity, zeros where the version has no such column."""
    columns = table.space.entry.columns
    if "popularity" not in columns:
        return np.zeros(len(table), dtype=np.float32)
    place = table.table.dim + columns.index("popularity") - 1
    return np.asarray(table.table.vectors[:, place])


def _shown(table: ExportedTable) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
    if len(table) <= MOST_ROWS:
        return np.arange(len(table), dtype=np.int64)
    return np.sort(np.argsort(-_popularity(table), kind="stable")[:MOST_ROWS]).astype(np.int64)


def _plain(text: str) -> str:
    """`text` without what ends a cell or a line."""
    return "".join(sign if sign.isprintable() else " " for sign in text)

"""What each entry of `relations` in the graph file stands for: one relation, or one for each value of a column."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Int32

from bundle.errors import GraphFileError
from bundle.ids import IdTable, parse_int_id
from graph.schema import GraphFile, RelationSpec

# A column with more values than this holds no relations but, say, ids: the wrong one was named.
MAX_RELATIONS = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of `relations` in the graph file: the relations it stands for, and the index of the first.

    `order` maps a row of the table that holds the values of relation columns to a place in `names`.
    """

    spec: RelationSpec
    first: int
    names: tuple[str, ...]
    order: Int32[npt.NDArray[np.int32], " r"]


def find_entries(graph: GraphFile, table: IdTable) -> list[Entry]:
    """The relations that each entry of the graph file stands for, in the order of their indices.

    `table` has the values of the column that names relations. Raises GraphFileError where these cannot be names.
    """
    names = table.externals(np.arange(len(table)))
    entries: list[Entry] = []
    first = 0
    for spec in graph.relations:
        if spec.relation_column:
            entry = _column_entry(spec, first, names)
        else:
            entry = Entry(spec, first, (spec.name,), np.zeros(1, dtype=np.int32))
        first += len(entry.names)
        entries.append(entry)
    _check_names(entries)
    return entries


def _column_entry(spec: RelationSpec, first: int, names: list[str]) -> Entry:
    """Relations named by a column: in numeric order when all names are numbers, else in the order of their bytes."""
    numbers = [number for name in names if (number := parse_int_id(name)) is not None]
    ranks = np.argsort(np.array(numbers, dtype=np.int64)) if len(numbers) == len(names) else np.arange(len(names))
    order = np.empty(len(names), dtype=np.int32)
    order[ranks] = np.arange(len(names), dtype=np.int32)
    return Entry(spec, first, tuple(names[rank] for rank in ranks.tolist()), order)


def _check_names(entries: list[Entry]) -> None:
    names = [name for entry in entries for name in entry.names]
    if len(names) > MAX_RELATIONS:
        raise GraphFileError(
            f"relation_column has more than {MAX_RELATIONS} different values. Name the column that holds the relation."
        )
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise GraphFileError(
            f"relation_column has the value {twice[0]!r}, and a relation of that name is listed too. Rename that one."
        )

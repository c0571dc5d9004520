"""Labelled examples from a file of the user's own: user, item, label, and any further columns of numbers.

Parquet, CSV or TSV, by the file's name. Ids are those of the graph; whoever has no embedding counts with zeros.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32

from bundle.errors import UsageError
from bundle.ids import ABSENT, IdTable
from bundle.space import Space
from evaluation.ranking.models import Labelled

NEEDED = ("user", "item", "label")
LABELS = {"0": False, "1": True, "false": False, "true": True}


@dataclass(frozen=True, slots=True)
class ExampleFile:
    """What one file holds, in external ids; `names` are the columns of `others`."""

    users: tuple[str, ...]
    items: tuple[str, ...]
    labels: Bool[npt.NDArray[np.bool_], " n"]
    others: Float32[npt.NDArray[np.float32], "n f"]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NumberedExamples:
    """Several files over one numbering: row i of `users` and of `items` is the entity that the examples call i."""

    parts: tuple[Labelled, ...]
    users: tuple[str, ...]
    items: tuple[str, ...]


def read_examples(path: Path) -> ExampleFile:
    """Read a `.parquet`, `.csv` or `.tsv` file with the columns user, item, label (0 or 1) and others, all numbers.

    Raises UsageError naming the file, the line and what was expected.
    """
    table = _read(path)
    others = _other_columns(path, table.column_names)
    if not len(table):
        raise UsageError(f"{path} holds no examples. Expected a row for each: user, item, label.")
    labels = _labels(path, table["label"])
    if labels.all() or not labels.any():
        raise UsageError(f"{path} has only labels {int(labels[0])}; a model needs examples of both.")
    columns = [_numbers(path, name, table[name]) for name in others]
    numbers = np.stack(columns, axis=1) if columns else np.zeros((len(table), 0), dtype=np.float32)
    return ExampleFile(_ids(path, table, "user"), _ids(path, table, "item"), labels, numbers, tuple(others))


def number_examples(files: Sequence[ExampleFile]) -> NumberedExamples:
    """Give every user and every item of the files one number. Raises UsageError when their other columns differ."""
    for file in files[1:]:
        if file.names != files[0].names:
            ours, theirs = ", ".join(files[0].names) or "none", ", ".join(file.names) or "none"
            raise UsageError(f"The files have other columns: {ours}, and {theirs}. Give both the same, in one order.")
    users, items = _numbering(file.users for file in files), _numbering(file.items for file in files)
    parts = tuple(
        Labelled(
            np.array([users[user] for user in file.users], dtype=np.int64),
            np.array([items[item] for item in file.items], dtype=np.int64),
            file.labels,
            file.others,
        )
        for file in files
    )
    return NumberedExamples(parts, tuple(users), tuple(items))


def examples_of_rows(parts: Sequence[Labelled], users: IdTable, items: IdTable) -> NumberedExamples:
    """Examples that have rows of a graph, numbered anew: only the entities they mention, by external id."""
    user_rows = np.unique(np.concatenate([part.users for part in parts]))
    item_rows = np.unique(np.concatenate([part.items for part in parts]))
    renumbered = tuple(
        Labelled(
            np.searchsorted(user_rows, part.users), np.searchsorted(item_rows, part.items), part.labels, part.others
        )
        for part in parts
    )
    return NumberedExamples(renumbered, tuple(users.externals(user_rows)), tuple(items.externals(item_rows)))


def vectors_of(
    names: Sequence[str], ids: IdTable, vectors: Float32[npt.NDArray[np.float32], "n d"]
) -> tuple[Float32[npt.NDArray[np.float32], "names d"], float]:
    """The vector of each of `names`, zeros for one without; and the share of them that have one."""
    rows = ids.rows(names)
    known = rows != ABSENT
    chosen = np.zeros((len(rows), vectors.shape[1]), dtype=np.float32)
    chosen[known] = vectors[rows[known]]
    return chosen, float(known.mean())


class RelationMatch(NamedTuple):
    """How well a relation fits labelled examples: its ends, and which shares of the users and items are there."""

    relation: str
    user_type: str
    item_type: str
    users: float
    items: float

    @property
    def fits(self) -> bool:
        """Whether either end has any of them."""
        return self.users > 0 and self.items > 0


def matching_relations(space: Space, users: Sequence[str], items: Sequence[str]) -> list[RelationMatch]:
    """Every relation of the space, the one that has most of them first; of equals the default, then the earlier one."""
    relations = [one.entry for one in space.relations.values()]
    as_user = {name: _share(space, name, users) for name in {one.source for one in relations}}
    as_item = {name: _share(space, name, items) for name in {one.target for one in relations}}
    matches = [
        RelationMatch(one.name, one.source, one.target, as_user[one.source], as_item[one.target]) for one in relations
    ]
    default = space.entry.default.relation
    return sorted(matches, key=lambda one: (not one.fits, -one.users - one.items, one.relation != default))


def _share(space: Space, entity_type: str, ids: Sequence[str]) -> float:
    return float((space.table(entity_type).ids.rows(ids) != ABSENT).mean())


def split_by_user(examples: Labelled, share: float, rng: np.random.Generator) -> tuple[Labelled, Labelled]:
    """Two parts without a user in common: the second has about `share` of the users."""
    known = np.unique(examples.users)
    second = np.isin(examples.users, known[rng.random(len(known)) < share])
    return _part(examples, ~second), _part(examples, second)


def _part(examples: Labelled, chosen: npt.NDArray[np.bool_]) -> Labelled:
    return Labelled(examples.users[chosen], examples.items[chosen], examples.labels[chosen], examples.others[chosen])


def _numbering(columns: Any) -> Mapping[str, int]:
    distinct = dict.fromkeys(name for column in columns for name in column)
    return {name: position for position, name in enumerate(distinct)}


def _read(path: Path) -> Any:
    """The file as a table; text stays text, so that no id passes through a float."""
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path)
        if path.suffix not in (".csv", ".tsv"):
            raise UsageError(f"{path}: expected a file called .parquet, .csv or .tsv.")
        parse = pa_csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
        names = pa_csv.open_csv(path, parse_options=parse).schema.names
        text = pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
        return pa_csv.read_csv(path, parse_options=parse, convert_options=text)
    except (OSError, pa.ArrowException) as error:
        message = str(error).splitlines()[0]
        raise UsageError(f"{path} cannot be read: {message}. Expected Parquet, or CSV or TSV with a header.") from error


def _other_columns(path: Path, columns: Sequence[str]) -> list[str]:
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        present = ", ".join(columns) or "none"
        raise UsageError(
            f"{path} lacks the column {missing[0]!r}; its columns are: {present}. Expected user, item, label."
        )
    return [name for name in columns if name not in NEEDED]


def _ids(path: Path, table: Any, name: str) -> tuple[str, ...]:
    column = table[name]
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise UsageError(f"{path}: {name} has type {kind}; expected whole numbers or text, as in the graph.")
    _refuse_first(path, name, column, pc.is_null(column), "an id")
    return tuple(column.cast(pa.string()).to_pylist())


def _labels(path: Path, column: Any) -> Bool[npt.NDArray[np.bool_], " n"]:
    text = column.cast(pa.string())
    known = pc.is_in(text, value_set=pa.array(list(LABELS)))
    _refuse_first(path, "label", text, pc.invert(known), "0 or 1")
    return np.array([LABELS[label] for label in text.to_pylist()])


def _numbers(path: Path, name: str, column: Any) -> Float32[npt.NDArray[np.float32], " n"]:
    try:
        values = column.cast(pa.float64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        values = np.array([_number(value) for value in column.to_pylist()])
    numbers: npt.NDArray[np.float32] = values.astype(np.float32)
    _refuse_first(path, name, column, pa.array(~np.isfinite(numbers)), "a number")
    return numbers


def _number(value: object) -> float:
    """NaN for what is no number."""
    try:
        return float(str(value))
    except ValueError:
        return float("nan")


def _refuse_first(path: Path, name: str, column: Any, wrong: Any, expected: str) -> None:
    """Raises UsageError for the first value that is wrong; line 1 is a text file's header."""
    rows = np.flatnonzero(wrong.to_numpy(zero_copy_only=False))
    if len(rows):
        row = int(rows[0])
        where = f"row {row + 1}" if path.suffix == ".parquet" else f"line {row + 2}"
        raise UsageError(f"{path}, {where}: {name} is {column[row].as_py()!a:.20}; expected {expected}.")

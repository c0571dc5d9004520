"""`graph.toml`: which entity types and relations a graph has, and which files hold its edges."""

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError

from bundle.errors import ConfigError, GraphFileError
from bundle.ids import IdKind
from bundle.records import StrictRecord
from bundle.text import printable, read_toml
from graph.edge_file import QUOTED_CHARACTERS

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# The name of an entry whose relations are named by a column.
ANY_RELATION = "*"
Coverage = Literal["high", "low"]

TypeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
RelationName = Annotated[str, StringConstraints(pattern=r"^\S(.*\S)?$", max_length=256)]
ColumnName = Annotated[str, StringConstraints(min_length=1)]
Pattern = Annotated[str, StringConstraints(min_length=1)]


def _as_tuple(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
Files = Annotated[tuple[Pattern, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
DeclaredKind = Literal["category", "number", "boolean", "timestamp"]
Columns = Annotated[tuple[ColumnName, ...], BeforeValidator(_as_tuple), Field(min_length=2)]


class EntitySpec(StrictRecord):
    """`[entities.<name>]`: how the entities of one type are named, and where their attributes stand.

    `attribute_id` names the column with the ids, `label` the one that is shown; `attribute_types` says what a column
    is where its values do not, `separator` what stands between the categories of one field of text.
    """

    id: IdKind
    attributes: Files | None = None
    attribute_id: ColumnName = "id"
    attribute_types: dict[ColumnName, DeclaredKind] = {}
    label: ColumnName | None = None
    separator: Annotated[str, StringConstraints(min_length=1)] | None = None


class RelationSpec(StrictRecord):
    """`[[relations]]`: the edges of one relation, or with `name = "*"` of one relation per value of a column.

    `src`, `dst`, `weight`, `time` and `relation_column` name columns; `columns` names all columns of text
    files that have no header line.
    """

    name: RelationName
    source: str
    target: str
    files: Files
    coverage: Coverage = "high"
    src: ColumnName = "src"
    dst: ColumnName = "dst"
    weight: ColumnName | None = None
    time: ColumnName | None = None
    relation_column: ColumnName | None = None
    symmetric: bool = False
    columns: Columns | None = None


class RandomSplit(StrictRecord):
    """Hold out `fraction` of each relation's edges at random for test, and half as many for validation."""

    by: Literal["random"]
    relation: Names | None = None
    fraction: float = Field(default=0.1, gt=0, le=0.5)
    seed: int = Field(default=1, ge=0)


class TimeSplit(StrictRecord):
    """Hold out the last `fraction` of each relation's edges by time for test, the ones before for validation."""

    by: Literal["time"]
    relation: Names | None = None
    fraction: float = Field(default=0.1, gt=0, le=0.5)


class FileSplit(StrictRecord):
    """The held-out edges stand in files of their own, in the same form as the relation's."""

    by: Literal["files"]
    relation: Names | None = None
    valid: Files | None = None
    test: Files


SplitSpec = Annotated[RandomSplit | TimeSplit | FileSplit, Field(discriminator="by")]


class ValidationSpec(StrictRecord):
    """`[validation]`: the slice of every relation without a split that is held out to learn from how to answer."""

    fraction: float = Field(default=0.02, ge=0, le=0.5)
    seed: int = Field(default=1, ge=0)


class GraphFile(StrictRecord):
    """The whole of `graph.toml`."""

    entities: dict[TypeName, EntitySpec] = Field(min_length=1)
    relations: Annotated[tuple[RelationSpec, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
    split: SplitSpec | None = None
    validation: ValidationSpec = ValidationSpec()

    @property
    def split_relations(self) -> tuple[int, ...]:
        """The positions in `relations` of those that the split is about: all of them where it names none."""
        if self.split is None:
            return ()
        if self.split.relation is None:
            return tuple(range(len(self.relations)))
        names = [relation.name for relation in self.relations]
        return tuple(names.index(name) for name in self.split.relation)


_SPLITS: dict[int | str, type[StrictRecord]] = {"random": RandomSplit, "time": TimeSplit, "files": FileSplit}
# The keys of each table, by what to call it.
_KEYS: dict[str, list[str]] = {
    "the top of the file, as a table of its own": list(GraphFile.model_fields),
    "[[relations]]": list(RelationSpec.model_fields),
    "[entities.<type>]": list(EntitySpec.model_fields),
    "[split]": list(dict.fromkeys(key for kind in _SPLITS.values() for key in kind.model_fields)),
    "[validation]": list(ValidationSpec.model_fields),
}
# What each table looks like, by its key, which is the first part of a fault's place or the third.
_TABLES: dict[int | str, str] = {
    "entities": '[entities.user] with id = "int64" or "string"',
    "relations": "[[relations]]",
    "split": "[split]",
    "validation": "[validation]",
    "attribute_types": '{ year = "category" }',
}
# pydantic's types of faults in the words of TOML.
_WORDS = {
    "string_type": 'Give text, in "quotes"',
    "string_too_short": "Give text that is not empty",
    "bool_type": "Give true or false",
    "int_type": "Give a whole number, in digits",
    "int_from_float": "Give a whole number, in digits",
    "float_type": "Give a number",
    "tuple_type": 'Give text, in "quotes", or a list of such',
    "too_short": "Give one or more",
}


def read_graph_file(path: Path) -> GraphFile:
    """Read and check the graph file at `path`. Raises GraphFileError naming the key, what was found and a remedy."""
    try:
        document = read_toml(path)
    except FileNotFoundError as error:
        raise GraphFileError(f"{path} does not exist. Give the path of a graph.toml file.") from error
    except IsADirectoryError as error:
        there = path / "graph.toml"
        advice = f"Give {there}." if there.is_file() else "Give the path of a graph.toml file."
        raise GraphFileError(f"{path} is a directory. {advice}") from error
    except ConfigError as error:
        raise GraphFileError(f"{error} docs/data-model.md shows what it holds.") from error
    try:
        graph = GraphFile.model_validate(document)
    except ValidationError as error:
        raise GraphFileError(_explain(path, document, error)) from error
    _check_attributes(path, graph)
    _check_relations(path, graph)
    _check_used(path, graph)
    _check_split(path, graph)
    return graph


def _check_attributes(path: Path, graph: GraphFile) -> None:
    for name, entity in graph.entities.items():
        where = f"{path}: entities.{name}"
        given = sorted(entity.model_fields_set - {"id", "attributes"})
        if entity.attributes is None and given:
            raise GraphFileError(
                f"{where}.{given[0]} says how attributes are read, and there are none. Add attributes."
            )
        declared = [*entity.attribute_types, *([entity.label] if entity.label else [])]
        if entity.attribute_id in declared or len(set(declared)) < len(declared):
            raise GraphFileError(
                f"{where}: attribute_id, label and attribute_types name one column twice. Name each column once."
            )


def _check_relations(path: Path, graph: GraphFile) -> None:
    seen: set[str] = set()
    for position, relation in enumerate(graph.relations):
        where = f"{path}: relations[{position}] ({relation.name})"
        _check_types(where, relation, graph)
        _check_columns(where, relation)
        if relation.name in seen:
            raise GraphFileError(f"{where}: a second relation has this name. Give each relation its own name.")
        seen.add(relation.name)


def _check_used(path: Path, graph: GraphFile) -> None:
    used = {name for relation in graph.relations for name in (relation.source, relation.target)}
    for name in graph.entities:
        if name not in used:
            raise GraphFileError(
                f"{path}: entities.{name}: no relation has this type as source or target. "
                "Remove it or correct the relation that should."
            )


def _check_types(where: str, relation: RelationSpec, graph: GraphFile) -> None:
    for key, name in (("source", relation.source), ("target", relation.target)):
        if name not in graph.entities:
            raise GraphFileError(
                f"{where}.{key}: {name!r} is no entity type of this file; it has {_listed(graph.entities)}. "
                f"Name one of these or add [entities.{name}]."
            )
    if relation.symmetric and relation.source != relation.target:
        raise GraphFileError(
            f"{where}.symmetric: the relation goes from {relation.source!r} to {relation.target!r}, and only a "
            "relation within one type can be symmetric. Remove the key."
        )


def _check_columns(where: str, relation: RelationSpec) -> None:
    if (relation.name == ANY_RELATION) != (relation.relation_column is not None):
        raise GraphFileError(
            f'{where}: name = "*" and relation_column belong together, and only one of them is here. '
            'Give both where a column names the relation, else a name other than "*" and no relation_column.'
        )
    used = [c for c in (relation.src, relation.dst, relation.weight, relation.time, relation.relation_column) if c]
    if len(set(used)) != len(used):
        raise GraphFileError(f"{where}: one column is used twice ({_listed(used)}). Name a different one for each.")
    # A weight, a time or a relation may also stand in the names of folders, which is seen when a file is opened.
    missing = [name for name in (relation.src, relation.dst) if relation.columns and name not in relation.columns]
    if missing:
        raise GraphFileError(
            f"{where}.columns: {missing[0]!r} is not among {_listed(relation.columns or ())}. "
            "List every column of the file, in order."
        )
    if relation.columns is not None and len(set(relation.columns)) != len(relation.columns):
        raise GraphFileError(f"{where}.columns: a name is listed twice. Give each column its own name.")


def _check_split(path: Path, graph: GraphFile) -> None:
    split, names = graph.split, [relation.name for relation in graph.relations]
    if split is None:
        return
    for name in split.relation or ():
        if name not in names:
            one = "" if ANY_RELATION not in names else " Those of a relation_column are split together, as '*'."
            raise GraphFileError(
                f"{path}: split.relation: {name!r} is no relation of this file. Name one of {_listed(names)}.{one}"
            )
        if split.relation is not None and split.relation.count(name) > 1:
            raise GraphFileError(f"{path}: split.relation: {name!r} is listed twice. Remove one of them.")
    if split.by == "files" and len(graph.split_relations) > 1:
        raise GraphFileError(
            f'{path}: split.by = "files" is a split of one relation, and split.relation names '
            f"{'several' if split.relation else f'none of the {len(names)} there are'}. Name one of {_listed(names)}."
        )
    untimed = [names[position] for position in graph.split_relations if graph.relations[position].time is None]
    if split.by == "time" and untimed:
        raise GraphFileError(
            f'{path}: split.by = "time", but relation {untimed[0]!r} has no time column. '
            'Add time = "<column>" to the relation, leave it out of split.relation, or split by "random".'
        )


def _explain(path: Path, document: dict[str, Any], error: ValidationError) -> str:
    faults = error.errors(include_url=False)
    # What is missing often stands there misspelt, or under a table that it does not belong to.
    first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    where = _key(document, first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{path}: {where}: this key is unknown. {_advice_on_key(first['loc'], first['input'])}"
    if first["type"] in ("missing", "union_tag_not_found"):
        key = where if first["type"] == "missing" else f"{where}.by"
        return f"{path}: {key} is missing. Add it; docs/data-model.md shows a complete file."
    if first["type"] == "union_tag_invalid":
        return f"{path}: split.by: found {document['split']['by']!r}. Give 'random', 'time' or 'files'."
    found = repr(first["input"])
    found = found if len(found) <= QUOTED_CHARACTERS else found[: QUOTED_CHARACTERS - 1] + "…"
    return f"{path}: {where}: found {found}. {_expected(first)}. docs/data-model.md lists what each key takes."


def _expected(fault: "ErrorDetails") -> str:
    """What should be there, in the words of TOML."""
    location = fault["loc"]
    if fault["type"] in ("dict_type", "model_type", "model_attributes_type"):
        return "Give a table, as in " + _TABLES[location[2] if len(location) > 2 else location[0]]
    if location == ("relations",):
        return "Each relation begins with [[relations]], and there is one or more"
    if location[0] == "relations" and location[-1] == "columns":
        return 'Give the names of all columns, as in ["src", "dst"]'
    if fault["type"] == "string_pattern_mismatch":
        return (
            "Give text without white space at its ends, on one line"
            if location[0] == "relations"
            else "Give a name of a letter and up to 63 letters, digits, _ and -"
        )
    return _WORDS.get(fault["type"], str(fault["msg"]))


def _advice_on_key(location: tuple[int | str, ...], value: object) -> str:
    """What to do about a key that is unknown where it stands: it belongs elsewhere, is misspelt, or is none."""
    key, known = str(location[-1]), _known_keys(location)
    if location[0] == "split" and key in _KEYS["[split]"]:
        return f"A split by {location[1]!r} has none such. Known here: {_listed(known)}. Correct or remove it."
    belongs = [table for table, keys in _KEYS.items() if key in keys and (key in _TABLES or not _is_table(value))]
    if belongs:
        return f"It belongs to {' or '.join(belongs)}. (A key belongs to the table whose [name] stands before it.)"
    near = get_close_matches(key, known, n=1, cutoff=0.8)
    if near:
        return f"If {near[0]!r} is meant, spell it so."
    return f"Known here: {_listed(known)}. Correct or remove it."


def _is_table(value: object) -> bool:
    """Whether it is a table or an array of tables: `[[relation]]` is no misplaced `relation` of a split."""
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict) for one in value))


def _key(document: dict[str, Any], location: tuple[int | str, ...]) -> str:
    """The place of a fault as a reader finds it, for example `relations[2] (follows).files`."""
    text = ""
    for depth, part in enumerate(location):
        if isinstance(part, int):
            text += f"[{part}]" + (_relation_name(document, part) if depth == 1 and location[0] == "relations" else "")
        elif part == "[key]":
            continue
        elif depth != 1 or location[0] != "split":  # there, how it is split
            text += f".{part}" if text else part
    return text


def _relation_name(document: dict[str, Any], position: int) -> str:
    relations = document.get("relations")
    if not isinstance(relations, list) or position >= len(relations) or not isinstance(relations[position], dict):
        return ""
    name = relations[position].get("name")
    return f" ({printable(name[:QUOTED_CHARACTERS])})" if isinstance(name, str) else ""


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    if location[0] == "entities":
        return list(EntitySpec.model_fields)
    if location[0] == "relations":
        return list(RelationSpec.model_fields)
    if location[0] == "validation":
        return list(ValidationSpec.model_fields)
    if location[0] != "split":
        return list(GraphFile.model_fields)
    return list(_SPLITS[location[1]].model_fields)


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)

"""Attributes of entities: what a column is, what a value becomes, what is refused and where."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle.attributes import Categories, Labels, Scalars
from bundle.errors import EdgeFileError, GraphFileError
from bundle.prepared import EntityTable, PreparedGraph
from graph.prepare import prepare

GRAPH = """
[entities.user]
id = "int64"
[entities.item]
id = "{kind}"
{more}
[[relations]]
name = "likes"
source = "user"
target = "item"
files = "likes.csv"
"""
Prepare = Callable[..., PreparedGraph]


@pytest.fixture
def prepared(tmp_path: Path) -> Prepare:
    """Prepares a graph of the items 10, 20, 30 and 40 with attributes in a file of that name and content."""

    def make(
        content: str | pa.Table, *, name: str = "items.csv", kind: str = "int64", extra: str = ""
    ) -> PreparedGraph:
        (tmp_path / "likes.csv").write_text("src,dst\n1,10\n1,20\n2,30\n2,40\n")
        if isinstance(content, str):
            (tmp_path / name).write_text(content)
        else:
            pq.write_table(content, tmp_path / name)
        (tmp_path / "graph.toml").write_text(GRAPH.format(kind=kind, more=f'attributes = "{name}"\n{extra}'))
        return prepare(tmp_path / "graph.toml", tmp_path / "out")

    return make


def values(table: EntityTable, name: str) -> list[Any]:
    """The attribute of every entity as Python values, None where it has none."""
    attribute = next(attribute for entry, attribute in table.attributes if entry.name == name)
    if isinstance(attribute, Scalars):
        pairs = zip(attribute.values.tolist(), attribute.has().tolist(), strict=True)
        return [value if there else None for value, there in pairs]
    if isinstance(attribute, Labels):
        return [attribute.text(row) or None for row in range(table.count)]
    assert isinstance(attribute, Categories)
    return [attribute.vocabulary.externals(attribute.codes.row(row)) for row in range(table.count)]


def kinds(table: EntityTable) -> dict[str, str]:
    return {entry.name: entry.kind for entry, _ in table.attributes}


TEXT = (
    "id,price,new,since,genre,code\n"
    "30,1.5,true,2026-01-31,rock,007\n"
    "10,,FALSE,2026-01-31T12:00:00Z,jazz,x\n"
    "20,3e2,,,,7\n"
)


def test_columns_of_text_are_what_their_values_are(prepared: Prepare) -> None:
    items = prepared(TEXT).entity("item")
    assert kinds(items) == {
        "price": "number",
        "new": "boolean",
        "since": "timestamp",
        "genre": "category",
        "code": "category",
    }
    day = int(datetime(2026, 1, 31, tzinfo=UTC).timestamp())
    assert values(items, "price") == [None, 300.0, 1.5, None]
    assert values(items, "new") == [0, None, 1, None]
    assert values(items, "since") == [day + 12 * 3600, None, day, None]
    assert values(items, "genre") == [["jazz"], [], ["rock"], []]
    assert values(items, "code") == [["x"], ["7"], ["007"], []]


def test_parquet_says_what_its_columns_are(prepared: Prepare) -> None:
    table = pa.table(
        {
            "id": [20, 10],
            "price": [1.5, float("nan")],
            "year": pa.array([None, 1999], type=pa.int16()),
            "new": [True, None],
            "since": pa.array([1_500, None], type=pa.timestamp("ms")),
            "tags": [["b", "a", "b"], None],
            "kind": pa.array(["x", "y"]).dictionary_encode(),
        }
    )
    items = prepared(table, name="items.parquet").entity("item")
    assert list(kinds(items).values()) == ["number", "number", "boolean", "timestamp", "category", "category"]
    assert values(items, "price") == [None, 1.5, None, None]
    assert values(items, "year") == [1999.0, None, None, None]
    assert values(items, "new") == [None, 1, None, None]
    assert values(items, "since") == [None, 1, None, None]
    assert values(items, "tags") == [[], ["a", "b"], [], []]
    assert values(items, "kind") == [["y"], ["x"], [], []]


def test_json_lines_are_read_too(prepared: Prepare) -> None:
    lines = '{"id": 10, "price": 2, "genre": "rock"}\n{"id": 20, "genre": null, "price": 2.5}\n'
    items = prepared(lines, name="items.jsonl").entity("item")
    assert (values(items, "price"), values(items, "genre")) == ([2.0, 2.5, None, None], [["rock"], [], [], []])


def test_objects_need_not_have_the_same_keys(prepared: Prepare) -> None:
    lines = '{"id": 10}\n{"id": 20, "tags": ["b", "a", 7, null]}\n{"id": 30, "price": 2, "tags": []}\n'
    items = prepared(lines, name="items.jsonl").entity("item")
    assert values(items, "price") == [None, None, 2.0, None]
    assert values(items, "tags") == [[], ["7", "a", "b"], [], []]


VIEWS = {
    "text": (["a", None], pa.string_view(), [["a"], [], [], []]),
    "bytes": ([b"a", b"b"], pa.binary_view(), [["a"], ["b"], [], []]),
    "lists": ([["b", "a"], []], pa.list_view(pa.string()), [["a", "b"], [], [], []]),
    "long lists": ([["b"], None], pa.large_list_view(pa.string_view()), [["b"], [], [], []]),
    "pairs": ([["b", "a"], ["c", "c"]], pa.list_(pa.string(), 2), [["a", "b"], ["c"], [], []]),
}


@pytest.mark.parametrize("name", VIEWS)
def test_parquet_of_views_and_of_lists_of_one_length(prepared: Prepare, name: str) -> None:
    column, kind, expected = VIEWS[name]
    table = pa.table({"id": [10, 20], "x": pa.array(column, type=kind)})
    assert values(prepared(table, name="items.parquet").entity("item"), "x") == expected


@pytest.mark.parametrize("kind", ["number", "category", "label", "list"])
def test_nan_is_a_missing_value_of_every_kind(prepared: Prepare, kind: str) -> None:
    column = pa.array([[1.5, float("nan")], [float("nan")]]) if kind == "list" else pa.array([1.5, float("nan")])
    declared = {"label": 'label = "x"', "list": ""}.get(kind, f'attribute_types = {{ x = "{kind}" }}')
    items = prepared(pa.table({"id": [10, 20], "x": column}), name="items.parquet", extra=declared).entity("item")
    expected = {"number": [1.5, None, None, None], "label": ["1.5", None, None, None]}
    assert values(items, "x") == expected.get(kind, [["1.5"], [], [], []])


def test_a_label_is_no_list_and_never_too_long(prepared: Prepare) -> None:
    table = pa.table({"id": [10, 20], "x": [["a" * 900] * 2, []]})
    with pytest.raises(
        EdgeFileError, match="found a column of type list.*Write the column as text, or name another one"
    ):
        prepared(table, name="items.parquet", extra='label = "x"')
    dates = pa.table({"id": [10, 20], "x": [datetime(2026, 1, 31, tzinfo=UTC).date(), None]})
    items = prepared(dates, name="dates.parquet", extra='label = "x"').entity("item")
    assert values(items, "x") == ["2026-01-31", None, None, None]


def test_years_among_dates_are_no_seconds_of_1970(prepared: Prepare) -> None:
    items = prepared("id,at,since\n10,1999,2001-01-01\n20,2001-05-01,\n").entity("item")
    assert kinds(items) == {"at": "category", "since": "timestamp"}


def test_a_row_may_have_categories_that_are_called_as_their_columns(prepared: Prepare) -> None:
    items = prepared("id,genre,b\n10,genre,b\n20,x,y\n").entity("item")
    assert values(items, "genre") == [["genre"], ["x"], [], []]
    with pytest.raises(EdgeFileError, match="line 3: it holds the names of the columns, as a header does"):
        prepared("id,genre,b\n10,genre,b\nid,genre,b\n")


@pytest.mark.parametrize("kind", ["number", "boolean", "timestamp", "category"])
def test_a_column_without_a_value_is_of_any_kind(prepared: Prepare, kind: str) -> None:
    table = pa.table({"id": [10, 20], "x": pa.nulls(2)})
    extra = f'attribute_types = {{ x = "{kind}" }}'
    items = prepared(table, name="items.parquet", extra=extra).entity("item")
    assert values(items, "x") == ([[]] * 4 if kind == "category" else [None] * 4)


def test_declared_kinds_win_over_what_the_values_look_like(prepared: Prepare) -> None:
    extra = 'attribute_types = { year = "category", at = "timestamp" }\nlabel = "title"'
    items = prepared("id,year,at,title\n10,1999,5,12\n20,,6,Zwölf\n", extra=extra).entity("item")
    assert kinds(items) == {"year": "category", "at": "timestamp", "title": "label"}
    assert values(items, "year") == [["1999"], [], [], []]
    assert values(items, "at") == [5, 6, None, None]
    assert values(items, "title") == ["12", "Zwölf", None, None]


def test_a_separator_cuts_a_field_into_several_categories(prepared: Prepare) -> None:
    items = prepared("id,genre\n10,rock|pop\n20,|jazz|\n", extra='separator = "|"').entity("item")
    assert values(items, "genre") == [["pop", "rock"], ["jazz"], [], []]


def test_ids_may_be_strings_and_stand_under_another_name(prepared: Prepare) -> None:
    items = prepared("key,price\n40,4\n10,1\n", kind="string", extra='attribute_id = "key"').entity("item")
    assert values(items, "price") == [1.0, None, None, 4.0]


def test_ids_of_no_entity_are_counted_and_told(prepared: Prepare) -> None:
    graph = prepared("id,price\n10,1\n99,2\n5,x\n")
    assert (graph.entity("item").described, graph.entity("item").attributes_of_others) == (1, 2)
    assert graph.warnings()[0].startswith("2 rows with attributes of item name entities that no edge has")
    assert kinds(graph.entity("item")) == {"price": "category"}


def test_several_files_are_one_table(prepared: Prepare, tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    (tmp_path / "items" / "a.csv").write_text("id,price\n10,1\n")
    (tmp_path / "items" / "b.csv").write_text("price,id\n4,40\n")
    graph = prepared("id,price\n20,1\n", extra="").entity("item")
    assert values(graph, "price") == [None, 1.0, None, None]
    (tmp_path / "graph.toml").write_text(GRAPH.format(kind="int64", more='attributes = ["items", "items.csv"]'))
    items = prepare(tmp_path / "graph.toml", tmp_path / "both").entity("item")
    assert values(items, "price") == [1.0, 1.0, None, 4.0]


def test_objects_of_another_file_may_have_other_keys(prepared: Prepare, tmp_path: Path) -> None:
    """Exporters leave out what is null, and so perhaps a key of a whole file."""
    (tmp_path / "more.jsonl").write_text('{"id": 40, "size": 7}\n')
    prepared('{"id": 10, "price": 1}\n', name="items.jsonl")
    (tmp_path / "graph.toml").write_text(GRAPH.format(kind="int64", more='attributes = ["items.jsonl", "more.jsonl"]'))
    items = prepare(tmp_path / "graph.toml", tmp_path / "both").entity("item")
    assert values(items, "price") == [1.0, None, None, None]
    assert values(items, "size") == [None, None, None, 7.0]


@pytest.mark.parametrize("more", ["id,price\n40,1\n", "id,price,size,colour\n40,1,2,3\n"])
def test_no_column_of_a_file_is_passed_over(prepared: Prepare, tmp_path: Path, more: str) -> None:
    (tmp_path / "more.csv").write_text(more)
    prepared("id,price,size\n10,1,2\n")
    (tmp_path / "graph.toml").write_text(GRAPH.format(kind="int64", more='attributes = ["items.csv", "more.csv"]'))
    lacking = "more.csv: column 'size'" if "colour" not in more else "items.csv: column 'colour'"
    with pytest.raises(
        EdgeFileError, match=f"{lacking} is missing, and other files .* Give all of them the same columns"
    ):
        prepare(tmp_path / "graph.toml", tmp_path / "both")


REFUSED = {
    "two columns of one name": ("id,at,at\n10,1,2\n", "", "column 'at' is there 2 times. Rename or remove it"),
    "twice in one batch": (
        "id,price\n10,1\n20,1\n10,2\n",
        "",
        r"items\.csv, line 4, column 'id': found 10 a second time",
    ),
    "no number": ("id,price\n10,1\n\n20,cheap\n", 'attribute_types = { price = "number" }', r"line 4, column 'price'"),
    "no truth": ("id,new\n10,2\n", 'attribute_types = { new = "boolean" }', "expected true or false"),
    "no time": ("id,at\n10,soon\n", 'attribute_types = { at = "timestamp" }', "line 2, column 'at': found 'soon'"),
    "no id": ("id,at\nx,1\n", "", "line 2, column 'id': found 'x'"),
    "long category": (f"id,genre\n10,{'x' * 257}\n", "", "at most 256 bytes"),
    "missing id column": ("key,at\n10,1\n", "", "column 'id' is missing; the file has 'key', 'at'"),
    "id column in other case": ("ID,at\n10,1\n", "", "has 'ID', 'at'. If 'ID' is meant, spell it so in graph.toml"),
    "missing label": ("id,at\n10,1\n", 'label = "title"', "column 'title' is missing"),
    "only ids": ("id\n10\n", "", "no column beside the ids"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_fault_is_named_with_its_place(prepared: Prepare, name: str) -> None:
    content, extra, expected = REFUSED[name]
    with pytest.raises((EdgeFileError, GraphFileError), match=expected):
        prepared(content, extra=extra)


def test_an_id_in_two_files_is_refused(prepared: Prepare, tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("id,price\n40,1\n20,2\n")
    prepared("id,price\n20,1\n")
    (tmp_path / "graph.toml").write_text(GRAPH.format(kind="int64", more='attributes = ["items.csv", "more.csv"]'))
    with pytest.raises(EdgeFileError, match=r"more\.csv, line 3, column 'id': found 20 a second time"):
        prepare(tmp_path / "graph.toml", tmp_path / "both")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param('label = "title"', "entities.item.label says how attributes are read", id="no files"),
        pytest.param('attributes = "a.csv"\nlabel = "id"', "name one column twice", id="the ids as label"),
        pytest.param('attributes = "a.csv"\nattribute_types = { x = "text" }', "attribute_types", id="unknown kind"),
        pytest.param('attributes = "no.csv"', "no.csv", id="no such file"),
    ],
)
def test_graph_toml_is_checked(tmp_path: Path, more: str, expected: str) -> None:
    (tmp_path / "likes.csv").write_text("src,dst\n1,10\n")
    (tmp_path / "graph.toml").write_text(GRAPH.format(kind="int64", more=more))
    with pytest.raises((GraphFileError, EdgeFileError), match=expected):
        prepare(tmp_path / "graph.toml", tmp_path / "out")


def test_a_graph_without_attributes_keeps_its_digest_and_one_with_them_has_another(
    prepared: Prepare, tmp_path: Path
) -> None:
    with_attributes = prepared("id,price\n10,1\n").digest
    changed = prepared("id,price\n10,2\n").digest
    (tmp_path / "graph.toml").write_text(GRAPH.format(kind="int64", more=""))
    plain = prepare(tmp_path / "graph.toml", tmp_path / "plain").digest
    # What the first release with shards wrote for this graph.
    assert plain == "452842fffa897bba77d7f3d80a44a264265cf6a3b9e37ab6e5caf5a411c025ad"
    assert len({with_attributes, changed, plain}) == 3


def test_batches_do_not_matter(prepared: Prepare) -> None:
    n = 200_000  # several blocks of text
    rows = "".join(f"{1000 + i},{i},g{i % 7}\n" for i in range(n))
    items = prepared("id,price,genre\n" + rows + "10,5,g1\n40,6,last\n").entity("item")
    assert values(items, "price") == [5.0, None, None, 6.0]
    assert values(items, "genre") == [["g1"], [], [], ["last"]]
    assert items.attributes_of_others == n
    assert np.array_equal(items.attributes[0][1].present, [0b1001])  # type: ignore[union-attr]

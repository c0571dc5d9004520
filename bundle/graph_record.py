"""`graph.json`: what a prepared graph holds, counted; `bundle.prepared` opens the arrays that it tells of."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from bundle.attributes import AttributeEntry
from bundle.disk import read_plain
from bundle.errors import RunError, RunIncomplete
from bundle.ids import IdKind
from bundle.layout import PART_NAME
from bundle.records import StrictRecord, first_error
from bundle.shards import HASH

FORMAT_VERSION = 2
READ_VERSIONS = (1, 2)
COMMIT_FILE = "graph.json"
AGAIN = "Copy {path} again, or delete it and run the same `twhin train` or `twhin prepare` again."
# Where an array lies in the directory, and its digest: type, length, SHA-256 of its numbers.
ArrayName = Annotated[
    str,
    Field(pattern=r"^(attributes|edges|ids|shards|test|valid)(/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){1,2}\.npy$"),
]
ArrayDigest = Annotated[str, Field(pattern=r"^[<>|][a-z][0-9]:[0-9]+:[0-9a-f]{64}$")]


class EntityRecord(StrictRecord):
    """One entity type in `graph.json`; `described` entities have attributes, and as many rows of the files as
    `attributes_of_others` says name entities that no edge has. `shards` counts the entities of each shard.
    """

    name: str = Field(pattern=PART_NAME)
    id: IdKind
    count: int = Field(ge=0)
    attributes: list[AttributeEntry] = []
    described: int = Field(default=0, ge=0)
    attributes_of_others: int = Field(default=0, ge=0)
    shards: list[int] | None = None


class RelationRecord(StrictRecord):
    """One relation in `graph.json`; `edges`, `valid` and `test` count what is stored in each part.

    Of the held-out edges, validation and test together, `held_out_trained` are training edges as well and
    `held_out_unseen` have an end that no training edge of any relation has. Earlier releases did not count them.
    `cells` counts the cells that have training edges.
    """

    name: str
    source: str
    target: str
    symmetric: bool
    coverage: Literal["high", "low"]
    weight: bool
    time: bool
    edges: int = Field(ge=0)
    valid: int = Field(ge=0)
    test: int = Field(ge=0)
    duplicates: int = Field(ge=0)
    self_loops: int = Field(ge=0)
    held_out_trained: int | None = Field(default=None, ge=0)
    held_out_unseen: int | None = Field(default=None, ge=0)
    cells: int | None = Field(default=None, ge=0)


class SplitRecord(StrictRecord):
    """How the held-out edges were chosen; `relation` is the name in the graph file, perhaps `*`, or a list of them."""

    relation: str | list[str]
    by: Literal["random", "time", "files"]
    fraction: float | None
    seed: int | None

    @property
    def relations(self) -> tuple[str, ...]:
        """The names of what is split, in the order of the graph file's split."""
        return (self.relation,) if isinstance(self.relation, str) else tuple(self.relation)


class GraphRecord(StrictRecord):
    """The whole of `graph.json`. `digest` covers every array and what else cannot be counted from them.

    `files` has the digest of each file: type, length, SHA-256 of its numbers. Format 1 has neither it nor shards.
    """

    format_version: int
    digest: str
    shards: int | None = Field(default=None, gt=0)
    hash: str | None = None
    entities: list[EntityRecord]
    relations: list[RelationRecord]
    split: SplitRecord | None
    files: dict[ArrayName, ArrayDigest] | None = None


def read_record(path: Path) -> GraphRecord:
    """Read `graph.json` of the prepared graph in `path`. Raises RunIncomplete, RunError."""
    file, advice = path / COMMIT_FILE, AGAIN.format(path=path)
    try:
        return parse_record(read_plain(file), str(file), advice)
    except FileNotFoundError as error:
        raise RunIncomplete(f"{file} is missing, so {path} holds no finished graph. {advice}") from error


def parse_record(text: bytes, where: str, advice: str) -> GraphRecord:
    """What the `graph.json` at `where` says. Raises RunError, which ends with the advice."""
    try:
        record = GraphRecord.model_validate_json(text)
    except ValidationError as error:
        raise RunError(f"{where} cannot be read: {first_error(error)}. {advice}") from error
    if record.format_version not in READ_VERSIONS:
        known = " and ".join(map(str, READ_VERSIONS))
        raise RunError(f"{where} has format {record.format_version}, this program reads {known}. {advice}")
    if record.format_version > 1 and (record.hash != HASH or not record.shards):
        raise RunError(f"{where} names the hash {record.hash}, expected {HASH}. {advice}")
    return record

"""What a prepared graph was made from: the graph file and its edge files, so that unchanged input is not read twice."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from bundle.disk import read_plain, write_text
from bundle.graph_record import COMMIT_FILE
from bundle.prepared import Part
from bundle.records import StrictRecord
from graph.files import InputFile, expand, input_status
from graph.schema import FileSplit, GraphFile

SOURCE_FILE = "source.json"
SOURCE_VERSION = 1


@dataclass(frozen=True, slots=True)
class EdgeInput:
    """The files of one entry of `relations` that make one part of it."""

    position: int
    part: Part
    paths: tuple[InputFile, ...]
    repeats: tuple[InputFile, ...]  # further names of some of them, by which they are not read again

    @property
    def size(self) -> int:
        """Bytes of all the files."""
        return sum(input_status(path)[0] for path in self.paths)


@dataclass(frozen=True, slots=True)
class AttributeInput:
    """The files with the attributes of one entity type."""

    entity: str
    paths: tuple[InputFile, ...]
    repeats: tuple[InputFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all the files."""
        return sum(input_status(path)[0] for path in self.paths)


class InputRecord(StrictRecord):
    """One file of edges or attributes as it was when it was read."""

    path: str
    size: int
    mtime_ns: int


class SourceRecord(StrictRecord):
    """The whole of `source.json`."""

    format_version: int
    graph_file_sha256: str
    inputs: list[InputRecord]

    def without_times(self) -> tuple[str, list[tuple[str, int]]]:
        """What differs only between different files: a copy has another time of change."""
        return self.graph_file_sha256, [(each.path, each.size) for each in self.inputs]


def find_inputs(graph: GraphFile, graph_toml: Path) -> list[EdgeInput]:
    """All edge files of the graph, those of a split by files last. Raises GraphFileError, EdgeFileError."""
    inputs: list[EdgeInput] = []

    def add(position: int, part: Part, patterns: Sequence[str], key: str) -> None:
        files = expand(graph_toml.parent, patterns, f"{graph_toml}: {key}")
        inputs.append(EdgeInput(position, part, files.paths, files.repeats))

    for i, relation in enumerate(graph.relations):
        add(i, "edges", relation.files, f"relations[{i}] ({relation.name}).files")
    if isinstance(graph.split, FileSplit):
        position = graph.split_relations[0]
        if graph.split.valid is not None:
            add(position, "valid", graph.split.valid, "split.valid")
        add(position, "test", graph.split.test, "split.test")
    return inputs


def find_attributes(graph: GraphFile, graph_toml: Path) -> list[AttributeInput]:
    """The files of attributes, by entity type. Raises GraphFileError, EdgeFileError."""
    inputs = []
    for name, entity in graph.entities.items():
        if entity.attributes is not None:
            files = expand(graph_toml.parent, entity.attributes, f"{graph_toml}: entities.{name}.attributes")
            inputs.append(AttributeInput(name, files.paths, files.repeats))
    return inputs


def source_of(graph_toml: Path, inputs: Sequence[EdgeInput | AttributeInput]) -> SourceRecord:
    """Sizes and times of change of all inputs as they are now."""
    return SourceRecord(
        format_version=SOURCE_VERSION,
        graph_file_sha256=hashlib.sha256(graph_toml.read_bytes()).hexdigest(),
        inputs=[_input(graph_toml.parent, path) for edge_input in inputs for path in edge_input.paths],
    )


def _input(base: Path, file: InputFile) -> InputRecord:
    size, mtime_ns = input_status(file)
    name = file.relative_to(base) if isinstance(file, Path) and file.is_relative_to(base) else file
    told = os.fsencode(str(name)).decode(errors="backslashreplace")  # a name need not be text
    return InputRecord(path=told, size=size, mtime_ns=mtime_ns)


def write_source(directory: Path, source: SourceRecord) -> None:
    """Write `source.json`."""
    write_text(directory / SOURCE_FILE, source.model_dump_json(indent=1) + "\n")


def is_made_from(directory: Path, source: SourceRecord) -> bool:
    """Whether `directory` holds a finished graph made from exactly these inputs."""
    try:
        return (directory / COMMIT_FILE).exists() and parse_source(read_plain(directory / SOURCE_FILE)) == source
    except OSError:
        return False


def parse_source(text: bytes) -> SourceRecord | None:
    """What a `source.json` says, None where it cannot be read."""
    try:
        return SourceRecord.model_validate_json(text)
    except ValidationError:
        return None

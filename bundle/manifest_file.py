"""Reading `manifest.json`: of a format that is known, complete, and without contradictions between its parts."""

from collections.abc import Iterator, Mapping

from pydantic import ValidationError

from bundle.errors import BundleFormatUnsupported, BundleInvalid
from bundle.manifest import (
    FORMAT_VERSION,
    READ_VERSIONS,
    ClustersEntry,
    Manifest,
    RelationEntry,
    RelationStrategies,
    SpaceEntry,
)
from bundle.records import Record, first_error


def parse_manifest(text: bytes, where: str) -> Manifest:
    """Read a manifest. Raises BundleFormatUnsupported for another format, BundleInvalid for a bad field."""
    try:
        stamp = _FormatStamp.model_validate_json(text)
    except ValidationError as error:
        raise BundleInvalid(f"{where} is not a manifest. Build or copy the version again.") from error
    if stamp.format_version not in READ_VERSIONS:
        raise BundleFormatUnsupported(
            f"{where} is bundle format {stamp.format_version}; this release reads formats up to {FORMAT_VERSION}. "
            "Serve it with a newer release, or build the version again."
        )
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BundleInvalid(f"{where}: {first_error(error)}. Build or copy the version again.") from error
    for name, space in manifest.spaces.items():
        for fault in _contradictions(space):
            raise BundleInvalid(f"{where}: spaces.{name}: {fault}. Build or copy the version again.")
    for relation, joint in manifest.together.items():
        spaces = [manifest.spaces.get(name) for name in joint.weights]
        if not all(space and any(one.name == relation for one in space.relations) for space in spaces):
            fault = f"together.{relation!a:.80} names a space that is not there or has no such relation"
            raise BundleInvalid(f"{where}: {fault}. Build or copy the version again.")
    return manifest


def _contradictions(space: SpaceEntry) -> Iterator[str]:
    """What names an entity type, a relation or a strategy that is not there, does not fit or says nothing."""
    entities = [entity.name for entity in space.entities]
    relations = {relation.name: relation for relation in space.relations}
    ends = {end for relation in space.relations for end in (relation.source, relation.target)}
    clustered = {*space.clusters.types, *(one.user_type for one in space.clusters.all_interests)}
    default = {space.default.user_type, space.default.candidate_type}
    named = {*space.compression, *space.indexes, *space.rows, *space.candidates}
    unknown = {*ends, *clustered, *default, *named} - set(entities)
    if unknown:
        yield f"{min(unknown)!r} is no entity type of the space"
    if len(relations) < len(space.relations) or len(set(entities)) < len(entities):
        yield "two relations or two entity types have one name"
    chosen = relations.get(space.default.relation)
    if chosen is None:
        yield f"default.relation is {space.default.relation!a:.80}, which is no relation of the space"
    elif (chosen.source, chosen.target) != (space.default.user_type, space.default.candidate_type):
        yield "default.relation does not lead from default.user_type to default.candidate_type"
    for entity in space.entities:
        if len({attribute.name for attribute in entity.attributes}) < len(entity.attributes):
            yield f"two attributes of {entity.name!r} have one name"
    if space.columns[:1] != ("embedding",) or len(set(space.columns)) < len(space.columns):
        yield "columns does not begin with the embedding, or has one twice"
    if any(space.dim % entry.subquantizers for entry in space.compression.values()):
        yield f"subquantizers do not divide dim, which is {space.dim}"
    yield from _elsewhere_faults(relations)
    yield from _interest_faults(space.clusters)
    yield from _strategy_faults(space)


def _elsewhere_faults(relations: Mapping[str, RelationEntry]) -> Iterator[str]:
    for relation in relations.values():
        for name in relation.elsewhere:
            other = relations.get(name, relation)
            if other is relation or (other.source, other.target) != (relation.source, relation.target):
                yield f"elsewhere of {relation.name!a:.80} has {name!a:.80}, no other relation between the same types"


def _interest_faults(clusters: ClustersEntry) -> Iterator[str]:
    interests = clusters.all_interests
    types = [name for one in interests for name in one.types]
    if tuple(types) != clusters.types or len(set(types)) < len(types) or not all(one.types for one in interests):
        yield "clusters.interests has other types than clusters.types, one twice or none"
    if sum(one.count for one in interests) != clusters.count:
        yield "clusters.interests has another number of clusters than clusters.count"
    if interests[0].user_type != clusters.mixture_type:
        yield "the first of clusters.interests is of other users than clusters.mixture_type"


def _strategy_faults(space: SpaceEntry) -> Iterator[str]:
    yield from _choice_faults("", space, "the space")
    relations = {relation.name for relation in space.relations}
    for relation, own in space.relation_strategies.items():
        if relation not in relations or relation == space.default.relation:
            yield f"relation_strategies has {relation!a:.80}, which is no relation of the space besides the default"
        yield from _choice_faults(f"relation_strategies.{relation}.", own, "the relation")


def _choice_faults(where: str, chosen: SpaceEntry | RelationStrategies, of: str) -> Iterator[str]:
    for key, name in (("auto", chosen.auto), ("auto_newcomer", chosen.auto_newcomer)):
        if name is not None and name not in chosen.strategies:
            yield f"{where}{key} is {name!r}, which is no strategy of {of}"
    for name, strategy in chosen.strategies.items():
        if strategy.merge != "popular" and not any(
            strategy.weights.model_dump(exclude={"reciprocity", "elsewhere", "recency"}).values()
        ):
            yield f"{where}strategies.{name} has no weight but 0, so that every candidate would be as good"


class _FormatStamp(Record, extra="ignore"):
    """The one field every format has: read first, so that a newer format is named and not misread."""

    format_version: int

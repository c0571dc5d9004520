"""`twhin publish`, `twhin rollback` and `twhin bundle show|verify|diff|history|prune`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bundle.errors import BundleError
from cli.compose import named_by_experiments, publish_in_store
from cli.output import JsonFlag, emit, line, table
from cli.progress import progress, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bundle.manifest import Gate, Manifest, SpaceEntry
    from bundle.space import Bundle

# What `show` has of many relations and ancestors, and of the figures of a strategy; --all has the others.
MOST_RELATIONS, MOST_ANCESTORS = 10, 5
MEASURED = ("recall@10", "recall@50")
# Keys of what matters most, in the order in which it is shown.
FIRST = (
    r"\.default\.(relation|user_type|candidate_type)$",
    r"\.auto$",
    r"\.auto_newcomer$",
    r"^evaluation\.gates\.",
    r"\.recall\.",
    r"\.recall@10$",
)
# The numbers of learnt networks, which --json has.
NETWORK = re.compile(r"\.rescoring\.(mean|scale|hidden|bias|out)\.")

app = typer.Typer(
    help="Look at the versions in a bundles directory, check them, remove old ones.", no_args_is_help=True
)

BundlesOption = Annotated[Path, typer.Option("--bundles", help="Directory of versions.", metavar="DIR")]
ExperimentsOption = Annotated[
    Path | None,
    typer.Option(
        "--experiments",
        envvar="TWHIN_EXPERIMENTS",
        help="The service's file of experiments, whose versions stay; DIR/experiments.toml by default.",
        metavar="FILE",
    ),
]
VersionArgument = Annotated[str, typer.Argument(help="A version's name, as `twhin build` printed it.")]


def publish(
    version: Annotated[str, typer.Argument(help="A version's name, or `latest` for the newest one built.")],
    bundles: BundlesOption,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", help="Publish in this object store in place of DIR: s3://, gs:// or az://.", metavar="URL"
        ),
    ] = None,
    force: Annotated[
        str | None,
        typer.Option("--force", help="Publish although a gate refuses; the reason is kept.", metavar="REASON"),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="How far recall may fall below the active version's, as a share; 0.05 if not said.", min=0, max=1
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a version the one that is served.

    Every byte is checked against the manifest, the version's own measurements against their floors, and its recall
    against the active version's. Running services change over by themselves, without a failed request.
    """
    from functools import partial

    from bundle.reader import open_bundle
    from bundle.successor import TOLERANCE, compare
    from bundle.verify import refusing
    from bundle.versions import publish as publish_version
    from bundle.versions import version_path
    from index.search.probe import probe_bundle

    name = resolve(bundles, version)
    path = version_path(bundles, name)
    with refusing(path):
        bundle = open_bundle(path)
        probe_bundle(bundle)
    judge = partial(compare, tolerance=TOLERANCE if tolerance is None else tolerance)
    if to is None:
        gone = _lost_since_current(bundles, bundle)
        manifest = publish_version(bundles, name, force_reason=force, judge=judge)
    else:
        manifest, gone = publish_in_store(to, bundles, name, force, judge, progress())
    for sentence in gone:
        say(f"Warning: {sentence}")
    answer = {**_summary(manifest), "lost": gone}
    emit(answer, as_json, lambda: line(f"Published {name}: it is what {to or bundles} serves now."))


def _lost_since_current(bundles: Path, bundle: "Bundle") -> list[str]:
    """What requests can name in the version that is served and not in `bundle`, in sentences."""
    from bundle.lost import lost
    from bundle.reader import open_bundle
    from bundle.versions import current_version

    current = current_version(bundles)
    if current in (None, bundle.version):
        return []
    try:
        return list(lost(open_bundle(path_of(bundles, str(current))), bundle))
    except BundleError:  # it is gone or damaged, which is no reason not to publish a better one
        return []


def rollback(bundles: BundlesOption, as_json: JsonFlag = False) -> None:
    """Go back to the version that was published before the current one."""
    from bundle.versions import rollback as roll_back

    name = roll_back(bundles)
    emit({"version": name}, as_json, lambda: line(f"Rolled back: {bundles} serves {name} now."))


@app.command()
def show(
    bundles: BundlesOption,
    version: Annotated[str | None, typer.Argument(help="A version's name; all versions by default.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every statement of the version's manifest.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the versions, or show what one holds and was measured to do."""
    from bundle.reader import read_manifest
    from bundle.versions import current_version, list_versions, require_directory

    require_directory(bundles)
    if version is not None:
        manifest = read_manifest(path_of(bundles, version))
        facts = _facts(manifest)
        rows = [(key, facts[key]) for key in _for_people(facts)] if everything else list(_in_short(manifest))
        emit(manifest, as_json, lambda: table(f"Version {manifest.version}", ("what", "value"), rows))
        return
    current = current_version(bundles)
    answer = [{**_listed(bundles, name), "current": name == current} for name in list_versions(bundles)]
    columns = ("version", "created (UTC)", "current", "MB", "entities", "gates", "fault")
    lines = [
        [
            row["version"],
            _moment(row),
            row["current"],
            row.get("MB"),
            row.get("entities"),
            _outcome(row),
            row.get("fault"),
        ]
        for row in answer
    ]
    emit({"versions": answer}, as_json, lambda: table(f"Versions in {bundles}", columns, lines))


@app.command()
def verify(bundles: BundlesOption, version: VersionArgument, as_json: JsonFlag = False) -> None:
    """Check every byte of a version against its manifest, and that its numbers are finite and agree."""
    from bundle.verify import verify_bundle
    from bundle.versions import open_version

    opened = open_version(bundles, resolve(bundles, version))
    manifest = opened.manifest
    total = sum(entry.size_bytes for entry in manifest.files.values())
    with progress().stage("Checking digests", total, "B") as stage:
        verify_bundle(opened, advance=stage.advance)
    answer = {"version": manifest.version, "files": len(manifest.files), "size_bytes": total, "intact": True}
    emit(answer, as_json, lambda: line(f"{manifest.version} is intact: {len(manifest.files)} files, {total:,} bytes."))


@app.command()
def diff(
    bundles: BundlesOption,
    old: Annotated[str, typer.Argument(help="The version to begin with.")],
    new: Annotated[str, typer.Argument(help="The version to compare it with.")],
    as_json: JsonFlag = False,
) -> None:
    """What changed between two versions: entities, edges, settings, measurements."""
    from bundle.reader import read_manifest

    before, after = (read_manifest(path_of(bundles, name)) for name in (old, new))
    facts_before, facts_after = _facts(before), _facts(after)
    changed = [
        {"what": key, "old": facts_before.get(key), "new": facts_after.get(key)}
        for key in sorted({*facts_before, *facts_after})
        if facts_before.get(key) != facts_after.get(key)
    ]
    told = _for_people(str(row["what"]) for row in changed)
    rows = [[key, facts_before.get(key), facts_after.get(key)] for key in told]
    emit({"changed": changed}, as_json, lambda: table("Changes", ("what", before.version, after.version), rows))


@app.command()
def history(bundles: BundlesOption, as_json: JsonFlag = False) -> None:
    """Which version was published when, oldest first: what examples of a ranker are joined by."""
    from datetime import UTC, datetime

    from bundle.versions import list_versions, require_directory, timeline

    require_directory(bundles)
    kept = set(list_versions(bundles))
    told = [
        {
            "published": datetime.fromtimestamp(one.at, UTC).isoformat(timespec="seconds"),
            "at": one.at,
            "version": one.version,
            "kept": one.version in kept,
        }
        for one in timeline(bundles)
    ]
    columns = ("published", "version", "kept")
    rows = [[row[name] for name in columns] for row in told]
    emit({"history": told}, as_json, lambda: table(f"Publications in {bundles}", columns, rows))


@app.command()
def prune(
    bundles: BundlesOption,
    keep: Annotated[int, typer.Option(help="How many of the newest versions to keep.", min=1)] = 3,
    experiments: ExperimentsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Remove old versions and what dead builders left; the current one, the one before it and those that arms of
    experiments name always stay."""
    from bundle.versions import is_to_come, list_versions
    from bundle.versions import prune as prune_versions

    removed = prune_versions(bundles, keep, named_by_experiments(bundles, experiments))
    to_come = [name for name in list_versions(bundles) if is_to_come(bundles, name)]
    if to_come:
        say(
            f"Kept beside the newest, as a clock is or was wrong: {', '.join(to_come)}, dated as to come. Remove the "
            "directory of what nobody needs."
        )
    emit(
        {"removed": removed}, as_json, lambda: line(f"Removed {len(removed)}: {', '.join(removed) or 'nothing to do'}.")
    )


def resolve(bundles: Path, version: str) -> str:
    """The name that `version` stands for: `latest` is the newest finished one, `current` the published one.

    Raises BundleError where dates do not tell which is the newest, or nothing is published.
    """
    from bundle.versions import current_path, latest_version

    if version == "current":
        return current_path(bundles).name
    return (latest_version(bundles) if version == "latest" else None) or version


def path_of(bundles: Path, version: str) -> Path:
    """The directory of the version that `version` stands for. Raises BundleError for a name that is none."""
    from bundle.versions import version_path

    return version_path(bundles, resolve(bundles, version))


def _listed(bundles: Path, version: str) -> dict[str, object]:
    """A version's line in the list; one that cannot be read does not hide the others."""
    from bundle.reader import read_manifest

    try:
        return _summary(read_manifest(bundles / version))
    except BundleError as error:
        return {"version": version, "fault": str(error)}


def _summary(manifest: "Manifest") -> dict[str, object]:
    gates = manifest.evaluation.gates
    return {
        "version": manifest.version,
        "created": manifest.created.isoformat(timespec="seconds"),
        "MB": round(sum(entry.size_bytes for entry in manifest.files.values()) / 1e6, 1),
        "entities": sum(entity.count for space in manifest.spaces.values() for entity in space.entities),
        "gates": "; ".join(map(_in_words, gates)),
        "passed": sum(gate.passed for gate in gates),
        "below": [_in_words(gate) for gate in gates if not gate.passed],
    }


def _in_words(gate: "Gate") -> str:
    forced = f"; published nevertheless: {gate.forced}" if gate.forced else ""
    return f"{gate.metric} {gate.measured:.3f} (floor {gate.floor:.3g}{forced})"


def _moment(listed: "Mapping[str, Any]") -> str:
    """When a version was created, as text that may be broken between day and time."""
    return str(listed.get("created", "")).removesuffix("+00:00").replace("T", " ")


def _outcome(listed: "Mapping[str, Any]") -> str:
    """Of many gates, what a list has room for: how many are passed, or those that are not."""
    below = "; ".join(listed.get("below", ()))
    return below or (f"{listed['passed']} passed" if listed.get("passed") else "")


def _in_short(manifest: "Manifest") -> "Iterator[tuple[str, object]]":
    """What a version holds, where it comes from and what it was measured to do, a line each."""
    megabytes = sum(entry.size_bytes for entry in manifest.files.values()) / 1e6
    yield "created", manifest.created.isoformat(timespec="seconds")
    yield "size", f"{megabytes:,.1f} MB in {len(manifest.files)} files"
    yield from _origins(manifest)
    for gate in manifest.evaluation.gates:
        forced = f"; published nevertheless: {gate.forced}" if gate.forced else ""
        yield f"gate {gate.metric}", f"{gate.measured:.3f}, floor {gate.floor:.3g}{forced}"
    for name, space in manifest.spaces.items():
        of = f" of {name}" if len(manifest.spaces) > 1 else ""
        yield from _default_of(space, of)
        for entity in space.entities:
            index = space.indexes.get(entity.name)
            searched = "not searched" if index is None else f"{index.kind}, depth {index.depth}"
            yield f"type {entity.name}{of}", f"{entity.count:,} entities, {space.dim} dimensions; {searched}"
        for relation in space.relations[:MOST_RELATIONS]:
            what = f"{relation.source} to {relation.target}, {relation.edges:,} edges"
            yield f"relation {relation.name}{of}", what + _answered(space, relation.name)
        if len(space.relations) > MOST_RELATIONS:
            yield f"relations{of}", f"{len(space.relations)} in all; --all lists them"
        each = [f"{one.count:,} of {' and '.join(one.types)}" for one in space.clusters.all_interests]
        yield f"clusters{of}", ", ".join(each)
    evaluation = manifest.evaluation
    if not evaluation.strategies:
        space = next(iter(manifest.spaces.values()))
        yield (
            "recall of the answers",
            f"not measured: {space.fallback or 'built with --quick, or nothing was held out'}",
        )
    for kind, rows in (("strategy", evaluation.strategies), ("baseline", evaluation.baselines)):
        for name, measured in rows.items():
            figures = [f"{metric} {measured[metric]:.3f}" for metric in MEASURED if metric in measured]
            yield f"{kind} {name}", ", ".join(figures)


def _origins(manifest: "Manifest") -> "Iterator[tuple[str, object]]":
    """The run of each space, and what that was warm started from, the nearest first."""
    from bundle.run import run_name

    first = next(iter(manifest.spaces))
    for name, origin in {first: manifest.lineage, **manifest.lineage.others}.items():
        of = f" of {name}" if len(manifest.spaces) > 1 else ""
        yield f"run{of}", run_name(origin.graph_digest, origin.training_config_digest, origin.parent)
        if origin.line:
            more = len(origin.line) - MOST_ANCESTORS
            beyond = f", and {more:,} before" if more > 0 else ""
            yield f"warm start from{of}", ", before that ".join(origin.line[:MOST_ANCESTORS]) + beyond


def _default_of(space: "SpaceEntry", of: str) -> "Iterator[tuple[str, object]]":
    default = space.default
    yield f"default{of}", f"{default.relation}: {default.user_type} to {default.candidate_type}, by {space.auto}"
    if space.auto_newcomer is not None:
        yield f"default for newcomers{of}", f"by {space.auto_newcomer}"
    if space.fallback is not None:
        yield f"default not learnt{of}", space.fallback


def _answered(space: "SpaceEntry", relation: str) -> str:
    """How a relation besides the default one is answered, and why so where nothing was learnt."""
    own = space.relation_strategies.get(relation)
    if own is None:
        return ""
    newcomers = f" ({own.auto_newcomer} for newcomers)" if own.auto_newcomer is not None else ""
    return f"; by {own.auto}{newcomers}" + (f", not learnt: {own.fallback}" if own.fallback else "")


def _for_people(keys: "Iterable[str]") -> list[str]:
    """What matters most first, and without the numbers of learnt networks, which --json has."""

    def rank(key: str) -> int:
        return next((place for place, pattern in enumerate(FIRST) if re.search(pattern, key)), len(FIRST))

    return sorted((key for key in keys if not NETWORK.search(key)), key=rank)


def _facts(manifest: "Manifest") -> dict[str, object]:
    """The manifest's statements, one a line, without the files."""
    facts: dict[str, object] = {}
    _flatten("", manifest.model_dump(mode="json", exclude={"files", "version"}), facts)
    facts["files"] = len(manifest.files)
    return facts


def _flatten(prefix: str, value: object, into: dict[str, object]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _flatten(f"{prefix}.{key}" if prefix else str(key), item, into)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            name = item.get("name", position) if isinstance(item, dict) else position
            _flatten(f"{prefix}.{name}", item, into)
    else:
        into[prefix] = value

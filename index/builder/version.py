"""From a finished run to a complete version: everything is staged, measured in place, then named in one rename."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from bundle.allocator import give_back_freed_memory
from bundle.assessment import Assessment, Assessments, Unlearnt
from bundle.disk import full_disk_named
from bundle.errors import ConfigError, RunError
from bundle.layout import SpaceLayout
from bundle.manifest import (
    DefaultQuery,
    Drift,
    Evaluation,
    Lineage,
    Manifest,
    Origin,
    RelationStrategies,
    SpaceEntry,
    SpaceWeights,
)
from bundle.progress import SILENT, Progress, Stage
from bundle.run import Run, open_run
from bundle.strategies import DEFAULT_AUTO, default_strategies, unlearnt_blend
from bundle.versions import is_to_come, list_versions
from bundle.writer import BundleWriter
from index.builder.candidates import Candidates
from index.builder.clusters import Clustering
from index.builder.config import BuildConfig
from index.builder.devices import find_device
from index.builder.edges import Work
from index.builder.memory import BuildEstimate, BuildNeed, build_need, estimate
from index.builder.searchers import ChosenSearcher, SearcherStage
from index.builder.stage import SpaceStage
from index.search.probe import index_file, probe

Assess = Callable[[Path], Assessments]
AssessTogether = Callable[[Path], Mapping[str, SpaceWeights]]
MeasureDrift = Callable[[Path], Drift | None]
NO_OTHERS: Mapping[str, "SpaceSource"] = {}
# Why a version has nothing learnt where nobody was asked to learn.
NOT_ASKED = "it was built without learning"


@dataclass(frozen=True, slots=True)
class SpaceSource:
    """Where a space comes from: its run, and who learns about it on the staged version (nobody: nothing is learnt)."""

    run: Path
    assess: Assess | None = None


@dataclass(frozen=True, slots=True)
class BuiltVersion:
    """A version that now exists but is not published; `searchers` has what was tried for each type, `warnings` are
    sentences for whoever builds."""

    path: Path
    manifest: Manifest
    device: str
    searchers: tuple[ChosenSearcher, ...]
    warnings: tuple[str, ...]


def build_version(
    run_dir: Path,
    bundles: Path,
    config: BuildConfig,
    *,
    version: str | None = None,
    space: str = "default",
    assess: Assess | None = None,
    measure_drift: MeasureDrift | None = None,
    others: Mapping[str, SpaceSource] = NO_OTHERS,
    assess_together: AssessTogether | None = None,
    progress: Progress = SILENT,
) -> BuiltVersion:
    """Build a version from the run in `run_dir` into the directory `bundles`.

    `others` are further spaces of the version, by name, built by the same settings; lineage, measurements and drift are
    those of the first. `assess_together` is given the staged version when every space has its strategies, and answers
    for each relation with what the spaces weigh together.

    `assess` is given the staged version, which can be opened like any other, and answers for each relation with what
    its strategies measured on held-out edges, the strategies to ship and the best of them, or why there is nothing to
    learn; `measure_drift` is given it too, and answers how far it is from the version before. Raises RunError for a run
    that is not whole, ConfigError for settings that do not fit it, DiskFull.
    """
    if space in others:
        raise ConfigError(f"The space {space!a:.80} is named twice. Give each run of a version a name of its own.")
    if config.memory is not None:
        give_back_freed_memory()
    sources = {space: SpaceSource(run_dir, assess), **others}
    layouts = {name: SpaceLayout(name) for name in sources}
    runs = {name: open_run(source.run, progress) for name, source in sources.items()}
    defaults = _default_queries(runs, config)
    run, device = runs[space], find_device()
    needs = {
        name: build_need(one, config, defaults[name], learns=sources[name].assess is not None, cagra=device.has_cagra)
        for name, one in runs.items()
    }
    if config.threads:
        faiss.omp_set_num_threads(config.threads)
    created = datetime.now(UTC)
    begin = (
        partial(BundleWriter, version=version)
        if version
        else partial(BundleWriter.of_free_name, version=_version_name(created, run, config))
    )
    with full_disk_named(bundles, "Make room, then build again."), begin(bundles) as writer:
        stages, staged = {}, {}
        for name, one in runs.items():
            with tempfile.TemporaryDirectory(prefix=".scratch-", dir=writer.root) as scratch:
                work = Work(Path(scratch), config.thread_count, needs[name].sorted_edges)
                stages[name] = SpaceStage(one, writer, layouts[name], config, defaults[name], device, work)
                staged[name] = _stage_space(stages[name], progress, needs[name].index_room)
        chosen = [each for _, searchers in staged.values() for each in searchers]
        gates = [
            gate.model_copy(update={"metric": _of_space(name, space) + gate.metric})
            for name, (_, searchers) in staged.items()
            for each in searchers
            for gate in each.gates
        ]
        manifest = Manifest(
            version=writer.version,
            created=created,
            lineage=Lineage(
                **_origin(run),
                build_config_digest=config.digest(),
                others={name: Origin(**_origin(one)) for name, one in runs.items() if name != space},
            ),
            spaces={name: entry for name, (entry, _) in staged.items()},
            files=writer.files,
            evaluation=Evaluation(gates=tuple(gates)),
        )
        writer.stage(manifest)
        for name, source in sources.items():
            if source.assess is not None:
                manifest = _assessed(manifest, name, source.assess(writer.root))
        if assess_together is not None:
            writer.stage(manifest)
            manifest = manifest.model_copy(update={"together": dict(assess_together(writer.root))})
        drift = None if measure_drift is None else measure_drift(writer.root)
        evaluation = manifest.evaluation.model_copy(update={"drift": drift})
        manifest = manifest.model_copy(update={"evaluation": evaluation})
        warnings = tuple(
            _of_space(name, space) + warning
            for name, stage in stages.items()
            for warning in (*_left_out(needs[name]), *stage.warnings(manifest.spaces[name].clusters))
        )
        warnings += tuple(_dated_later(bundles))
        return BuiltVersion(writer.commit(manifest), manifest, device.name, tuple(chosen), warnings)


def plan_build(run_dir: Path, config: BuildConfig, *, learns: bool, progress: Progress = SILENT) -> BuildEstimate:
    """What building a version from the run would take; writes nothing. Raises as `build_version`."""
    run = open_run(run_dir, progress)
    return estimate(run, config, _default_query(run, config), learns=learns, cagra=find_device().has_cagra)


def _origin(run: Run) -> dict[str, Any]:
    """The fields of `Origin`."""
    return {
        "graph_digest": run.graph.digest,
        "training_config_digest": run.record.config_digest,
        "parent": run.record.parent,
        "ancestors": run.record.ancestors,
        "code_revision": run.record.code_revision,
    }


def _left_out(need: BuildNeed) -> Iterator[str]:
    """What the limit kept from being tried."""
    if need.left_out:
        yield f"{', '.join(need.left_out)}: not tried, a limit on memory leaves no room for such an index."


def _dated_later(bundles: Path) -> Iterator[str]:
    """What a clock that was put back leaves: a version of which its date does not tell that it is older."""
    for newest in list_versions(bundles)[-1:]:
        if is_to_come(bundles, newest):
            yield (
                f"{newest} has a date to come, as when a clock was put back: dates do not tell that this one is newer. "
                "Publish it by its name: `latest` is refused while that one is there."
            )


def _of_space(name: str, first: str) -> str:
    """What begins the words about a space: nothing for the first one."""
    return "" if name == first else f"{name}: "


def _default_queries(runs: Mapping[str, Run], config: BuildConfig) -> dict[str, DefaultQuery]:
    """The default of each space; where the first one's relation is a relation of another run, it is the default there
    too. Raises ConfigError.
    """
    found: dict[str, DefaultQuery] = {}
    for name, run in runs.items():
        wanted = config.default_relation
        if found:
            first = next(iter(found.values())).relation
            wanted = first if first in {relation.name for relation in run.graph.relations} else None
        found[name] = _default_query(run, config.model_copy(update={"default_relation": wanted}))
    return found


def _version_name(created: datetime, run: Run, config: BuildConfig) -> str:
    mark = hashlib.sha256(f"{run.graph.digest} {run.record.config_digest} {config.digest()}".encode()).hexdigest()
    return f"{created:%Y%m%dT%H%M%SZ}-{mark[:6]}"


def _stage_space(
    stage: SpaceStage, progress: Progress, index_room: int | None
) -> tuple[SpaceEntry, list[ChosenSearcher]]:
    with progress.stage("Sorting edges", sum(len(one.train) for one in stage.run.graph.relations), "edges") as bar:
        entities, relations = stage.ids(), stage.edges(bar)
    with progress.stage("Writing vectors", sum(stage.counts.values()), "vectors") as bar:
        candidates = stage.candidates()
        stage.vectors(bar)
    with progress.stage("Clustering", None, "vectors") as bar:
        clustering = stage.clusters(bar)
    with progress.stage("Mixtures", sum(stage.counts[one.user_type] for one in stage.groups()), "users") as bar:
        clusters = stage.mixtures(clustering, relations, bar)
    types = [entity.name for entity in entities if entity.count]
    with progress.stage("Candidate lists and codes", sum(stage.counts.values()), "vectors") as bar:
        compression = {}
        for name in types:
            bar.note(f"lists of {name}")
            stage.lists(clustering, name, candidates[name].bitmap if name in candidates else None)
            bar.note(f"codes of {name}")
            compression[name] = stage.compression(name, bar)
    stage.map(progress)
    with progress.stage("Indexes", len(types), "types") as bar:
        chosen = _choose_searchers(stage, clustering, types, candidates, index_room, bar)
    entry = SpaceEntry(
        dim=stage.run.dim,
        entities=entities,
        relations=relations,
        default=stage.default,
        clusters=clusters,
        compression=compression,
        indexes={each.entity_type: each.entry for each in chosen},
        candidates={name: each.entry for name, each in candidates.items()},
        rows={each.entity_type: each.rows for each in chosen if each.rows is not None},
        **_unlearnt(stage),
    )
    return entry, chosen


def _unlearnt(stage: SpaceStage) -> dict[str, Any]:
    """How every relation is answered where nothing was learnt: fields of a space."""
    strategies = default_strategies(stage.config.mixtures.modes)
    others = {}
    for position, relation in enumerate(stage.run.graph.relations):
        blend = {DEFAULT_AUTO: unlearnt_blend(stage.returned_share(position))}
        if relation.name == stage.default.relation:
            strategies |= blend
        else:
            others[relation.name] = RelationStrategies(strategies=blend, auto=DEFAULT_AUTO, fallback=NOT_ASKED)
    return {
        "strategies": strategies,
        "auto": DEFAULT_AUTO,
        "fallback": NOT_ASKED,
        "relation_strategies": others,
    }


def _choose_searchers(
    stage: SpaceStage,
    clustering: Clustering,
    types: Sequence[str],
    candidates: Mapping[str, Candidates],
    index_room: int | None,
    bar: Stage,
) -> list[ChosenSearcher]:
    """The searcher of every candidate type, each judged on its own real queries."""
    maker = stage.query_maker(clustering)
    searchers = SearcherStage(stage.writer, stage.layout, stage.config, stage.device, index_room, bar)
    rng = np.random.default_rng(stage.config.seed)
    chosen = []
    for name in types:
        draw = partial(maker.make, name, rng=rng)
        with_hnsw = name == stage.default.candidate_type
        bar.note(name)
        rows = candidates[name].bitmap if name in candidates else None
        chosen.append(searchers.build(name, stage.staged_vectors(name), draw, rows, with_hnsw=with_hnsw))
        bar.advance()
    _probe(stage, chosen)
    return chosen


def _probe(stage: SpaceStage, chosen: Sequence[ChosenSearcher]) -> None:
    """Let a child process open what was written, before the manifest signs it. Raises BundleInvalid."""
    probe(
        [
            index_file(stage.writer.path(each.entry.file), each.entry, *stage.staged_vectors(each.entity_type).shape)
            for each in chosen
            if each.entry.file is not None
        ]
    )


def _default_query(run: Run, config: BuildConfig) -> DefaultQuery:
    """The configured relation, else the one with held-out edges, else the first of high coverage."""
    relations = {relation.name: relation for relation in run.graph.relations}
    if not relations:
        raise RunError(f"{run.path} has no relations.")
    name = config.default_relation
    if name is not None and name not in relations:
        known = ", ".join(list(relations)[:20])
        raise ConfigError(f"default_relation {name!a:.80} is no relation of the run; it has: {known}.")
    split = () if run.graph.split is None else run.graph.split.relations
    if name is None and split and split[0] in relations:
        name = split[0]
    if name is None:
        high = [relation.name for relation in run.graph.relations if relation.coverage == "high"]
        name = (high or list(relations))[0]
    return DefaultQuery(relation=name, user_type=relations[name].source, candidate_type=relations[name].target)


def _assessed(manifest: Manifest, space: str, assessments: Assessments) -> Manifest:
    """The manifest with what was learnt and measured of each relation, or why nothing was; gates of indexes stay.

    Of spaces after the first what was measured is not kept, but their gates are.
    """
    entry, evaluation = manifest.spaces[space], manifest.evaluation
    first = next(iter(manifest.spaces))
    for relation, found in assessments.items():
        entry = _with_answers(entry, relation, found)
        if isinstance(found, Assessment) and space == first:
            evaluation = _with_measured(evaluation, relation, entry.default.relation, found)
        elif isinstance(found, Assessment):
            gates = [gate.model_copy(update={"metric": f"{space}: {gate.metric}"}) for gate in found.gates]
            evaluation = evaluation.model_copy(update={"gates": (*evaluation.gates, *gates)})
    return manifest.model_copy(update={"spaces": {**manifest.spaces, space: entry}, "evaluation": evaluation})


def _with_answers(entry: SpaceEntry, relation: str, found: Assessment | Unlearnt) -> SpaceEntry:
    default = relation == entry.default.relation
    update: dict[str, Any]
    if isinstance(found, Unlearnt):
        update = {"fallback": found.reason}
        if found.auto is not None:
            own = entry.answers(relation)
            update |= {
                "auto": found.auto,
                "strategies": {**({} if own is None else own.strategies), **found.strategies},
            }
    else:
        update = {
            "strategies": found.strategies,
            "auto": found.auto,
            "auto_newcomer": found.auto_newcomer,
            "fallback": None,
        }
    if default:
        return entry.model_copy(update=update)
    answers = entry.relation_strategies[relation].model_copy(update=update)
    return entry.model_copy(update={"relation_strategies": {**entry.relation_strategies, relation: answers}})


def _with_measured(evaluation: Evaluation, relation: str, default: str, found: Assessment) -> Evaluation:
    measured = found.measured
    update: dict[str, Any] = {"gates": (*evaluation.gates, *found.gates)}
    if relation == default:
        update |= {name: getattr(measured, name) for name in type(measured).model_fields}
    else:
        update["relations"] = {**evaluation.relations, relation: measured}
    return evaluation.model_copy(update=update)

"""`twhin build`: from a run directory to a version."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bundle.errors import UsageError
from cli.output import JsonFlag, emit, line, next_command, size, table
from cli.progress import progress, say
from cli.settings import BuildConfigOption, BuildSetOption, merged
from cli.versions import BundlesOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bundle.manifest import Manifest, Measured, RelationStrategies, RowsEntry
    from index.builder.choose import Trial
    from index.builder.filtered import FilteredSearch
    from index.builder.searchers import ChosenSearcher
    from index.builder.version import BuiltVersion

# A simple method that leads the default by more than this is told of.
WORTH_A_WORD = 1.02
# Relations that are named of those answered alike: a graph may have thousands.
NAMED = 5


def build(
    run: Annotated[Path, typer.Argument(help="The run directory that `twhin train` wrote.", metavar="RUN_DIR")],
    bundles: BundlesOption,
    config: BuildConfigOption = None,
    settings: BuildSetOption = None,
    version: Annotated[str | None, typer.Option(help="Name of the version; time and digest by default.")] = None,
    space: Annotated[str, typer.Option(help="Name of the embedding space.")] = "default",
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=RUN_DIR", help="Another run as a further space of the version; may be repeated."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Learn and measure no strategies: minutes sooner.")] = False,
    no_map: Annotated[
        bool, typer.Option("--no-map", help="Leave out the map of all entities that the studio shows.")
    ] = False,
    memory: Annotated[
        str | None,
        typer.Option("--memory", help="Private memory the process may use; the rest lies in files.", metavar="8GiB"),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print memory by stage and disk; build nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Build a version from a run: clusters, mixtures, codebooks, indexes, and what they measure.

    The version is complete when its name is printed; it is served once it is published.
    """
    given = merged(config, [*(settings or ()), *(["map.points=0"] if no_map else [])])
    if memory is not None:
        given |= _memory(memory)
    if plan and also:
        raise UsageError("--plan tells of one run: leave --also out, and plan each run by itself.")
    if plan:
        _plan(run, given, str(config or "--set"), as_json, learns=not quick)
        return
    where, others = str(config or "--set"), _spaces(also)
    built = build_assessed(run, bundles, given, where, version, space, others, quick=quick)
    name = built.manifest.version
    say(f"Built on the {built.device}.")
    for warning in built.warnings:
        say(f"Warning: {warning}")
    answer: dict[str, object] = {
        "version": name,
        "path": built.path,
        "device": built.device,
        "evaluation": built.manifest.evaluation,
        "warnings": built.warnings,
    }
    answer["searchers"] = {each.entity_type: [_trial(trial, each) for trial in each.trials] for each in built.searchers}
    emit(answer, as_json, lambda: _show(built, bundles))


def _memory(size: str) -> dict[str, object]:
    from index.builder.config import parse_config

    return {"memory": parse_config({"memory": size}, "--memory").memory}


def _plan(run: Path, settings: dict[str, object], where: str, as_json: bool, *, learns: bool) -> None:
    from index.builder.config import parse_config
    from index.builder.version import plan_build

    answer = plan_build(run, parse_config(settings, where), learns=learns, progress=progress())
    stages = {f"{name}, beyond the process": size(n_bytes) for name, n_bytes in answer.stage_bytes.items()}
    told: dict[str, object] = {
        "entities": answer.entities,
        "relations": answer.relations,
        "edges": answer.edges,
        "private memory at the most": size(answer.memory_bytes),
        "the process as it is": size(answer.process_bytes),
        **stages,
        "disk at the most": size(answer.disk_bytes),
        "indexes without room": ", ".join(answer.indexes_left_out) or "none",
    }
    emit(answer, as_json, lambda: table("Plan", ("what", "value"), [*told.items()]))


def _spaces(also: "list[str] | None") -> dict[str, Path]:
    """The further spaces that were named, and their runs. Raises UsageError."""
    named: dict[str, Path] = {}
    for given in also or ():
        name, _, run = given.partition("=")
        if not name or not run or name in named:
            raise UsageError(
                f"--also {given!a:.80}: give a name and a run directory, each name once: --also NAME=RUN_DIR"
            )
        named[name] = Path(run)
    return named


def _trial(trial: "Trial", chosen: "ChosenSearcher") -> dict[str, object]:
    """One configuration that was tried, for a program."""
    return {
        "plan": trial.spec,
        "recall": trial.measurement.recall,
        "recall_by_kind": trial.measurement.recall_by_kind,
        "recall_standard_error": trial.measurement.standard_error,
        "cpu_us_per_query": trial.measurement.cpu_us_per_query,
        "bytes_per_vector": trial.bytes_per_vector,
        "build_cpu_seconds": trial.build_cpu_seconds,
        "chosen": trial is chosen.trial,
        "missed": trial in chosen.missed,
    }


def _show(built: "BuiltVersion", bundles: Path) -> None:
    """For each type the searchers that no other beats, the one that was taken and how surely it reaches its floor, and
    what to do next."""
    from index.builder.choose import pareto

    columns = ("searcher", "depth", "refine", "lists", "recall", "CPU µs a query", "bytes a vector", "build CPU s", "")
    for each in built.searchers:
        best = pareto(each.trials)
        worth_telling = [trial for trial in each.trials if trial in best or trial is each.trial or trial in each.missed]
        rows = [
            (
                trial.spec.kind,
                trial.spec.depth,
                trial.spec.refine,
                trial.spec.lists or None,
                trial.measurement.recall,
                trial.measurement.cpu_us_per_query,
                trial.bytes_per_vector,
                trial.build_cpu_seconds,
                "taken" if trial is each.trial else "missed the floor" if trial in each.missed else "",
            )
            for trial in sorted(worth_telling, key=lambda trial: trial.measurement.recall)
        ]
        table(f"Searchers of {each.entity_type}: {recall_in_words(each)}", columns, rows)
        if each.filtered is not None:
            line(filtered_in_words(each.filtered))
        if each.rows is not None:
            line(rows_in_words(each.rows))
    words_of = (candidates_in_words, defaults_in_words, together_in_words)
    for words in (words for part in words_of for words in part(built.manifest)):
        line(words)
    name = built.manifest.version
    line(f"Built {name}. {next_command('twhin', 'publish', name, '--bundles', bundles)}")


def recall_in_words(chosen: "ChosenSearcher") -> str:
    """What the searcher finds on queries that had no part in the choice, its floor, and what lies between."""
    gate, error = chosen.gate, chosen.judgement.standard_error
    margin = gate.measured - gate.floor
    return f"{gate.metric} is {gate.measured:.4f} ± {error:.4f}, floor {gate.floor:g}, margin {margin:+.4f}"


def filtered_in_words(filtered: "FilteredSearch") -> str:
    """Recall and CPU time of a query under filters that keep few."""
    parts = [f"{share:.1%}: {recall:.3f}, {filtered.cpu_us[share]:.0f} µs" for share, recall in filtered.recall.items()]
    return f"Under filters that keep so many rows, recall among them and CPU time of a query: {'; '.join(parts)}."


def rows_in_words(rows: "RowsEntry") -> str:
    """What scores are made of where it is not float32, and what that costs."""
    return f"Scored in {rows.kind}: {rows.bytes_per_vector:g} bytes a vector, recall {-rows.recall_loss:+.4f}."


def candidates_in_words(manifest: "Manifest") -> "Iterator[str]":
    """How many entities may be answered, of the types where these are not all."""
    for space in manifest.spaces.values():
        counts = {entity.name: entity.count for entity in space.entities}
        for name, one in space.candidates.items():
            yield f"Candidates of {name}: {one.count:,} of {counts[name]:,}, with at least {one.min_in_degree} edges."


def defaults_in_words(manifest: "Manifest") -> "Iterator[str]":
    """Which strategy answers by default, relation by relation, whom, and its recall@10 on the users that chose it."""
    space = next(iter(manifest.spaces.values()))
    alike: dict[tuple[str, str], list[str]] = {}
    for relation in (space.default.relation, *space.relation_strategies):
        answers = space.answers(relation)
        if answers is not None and answers.fallback is None:
            measured = manifest.evaluation.of(relation, space.default.relation)
            yield from _default_in_words(relation, answers, measured)
        elif answers is not None and answers.fallback is not None:
            alike.setdefault((answers.auto, answers.fallback), []).append(relation)
    for (auto, fallback), names in alike.items():
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        yield f"{', '.join(names[:NAMED])}{more}: {auto} by default, not learnt: {fallback}."


def together_in_words(manifest: "Manifest") -> "Iterator[str]":
    """What several spaces weigh together, relation by relation, and recall@10 of each alone and of all."""
    for relation, joint in manifest.together.items():
        shares = ", ".join(f"{name} {weight:.2f}" for name, weight in joint.weights.items())
        if joint.fallback is not None:
            yield f"{relation}: together {shares}, not learnt: {joint.fallback}."
            continue
        recalls = ", ".join(f"{name} {row['recall@10']:.4f}" for name, row in joint.measured.items() if row)
        yield f"{relation}: together {shares}; recall@10 on validation edges: {recalls}."


def _default_in_words(relation: str, answers: "RelationStrategies", measured: "Measured") -> "Iterator[str]":
    defaults = (
        (answers.auto, "users in training", measured.strategies),
        (answers.auto_newcomer, "newcomers", measured.newcomers),
    )
    for strategy, whom, rows in defaults:
        recall = rows.get(strategy or "", {}).get("recall@10")
        if strategy is not None:
            known = "not measured" if recall is None else f"recall@10 on validation edges is {recall:.4f}"
            yield f"{relation}: {strategy} by default for {whom}; {known}."
    found = measured.strategies.get(answers.auto, {}).get("recall@10")
    simple = {name: row["recall@10"] for name, row in measured.baselines.items() if "recall@10" in row}
    best = max(simple, key=lambda name: simple[name], default=None)
    if best is not None and found is not None and simple[best] > WORTH_A_WORD * found:
        yield f"{relation}: the simple method {best} finds more of these edges than {answers.auto}: {simple[best]:.4f}."


def build_assessed(
    run: Path,
    bundles: Path,
    settings: dict[str, object],
    where: str = "the settings",
    version: str | None = None,
    space: str = "default",
    also: "Mapping[str, Path] | None" = None,
    *,
    quick: bool = False,
) -> "BuiltVersion":
    """Build a version from a run, and from those that are `also` named, and, unless `quick`, learn its strategies.

    Raises RunError, ConfigError.
    """
    from cli.compose import assessor, assessor_together, drift_measure
    from index.builder.config import parse_config
    from index.builder.version import SpaceSource, build_version

    config = parse_config(settings, where)
    assess = None if quick else assessor(run, config.seed, progress())
    others = {
        name: SpaceSource(other, None if quick else assessor(other, config.seed, progress(), name))
        for name, other in (also or {}).items()
    }
    together = None if quick or not others else assessor_together(run, config.seed, progress())
    drift = drift_measure(run, bundles, progress())
    return build_version(
        run,
        bundles,
        config,
        version=version,
        space=space,
        assess=assess,
        measure_drift=drift,
        others=others,
        assess_together=together,
        progress=progress(),
    )

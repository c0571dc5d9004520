"""How much private memory a build takes, stage by stage; what a limit leaves to it, or why it leaves nothing.

Vectors, edges and everything made of them row by row are files that are mapped or written in blocks: their pages are
the system's, which takes them back when it needs them, and are no private memory. What is counted here is the rest.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundle.errors import ConfigError
from bundle.manifest import DefaultQuery
from bundle.prepared import EntityTable, PreparedRelation
from bundle.run import Run
from index.builder.clocks import may_need_times
from index.builder.clusters import default_count
from index.builder.config import BuildConfig
from index.builder.edges import DEALING_BYTES, SCAN_EDGES, SORTED_EDGES, SORTING_BYTES, most_together
from index.builder.filtered import SHARES
from index.builder.interests import groups_of
from index.builder.mixtures import BLOCK_EDGES, ENGAGEMENT_BYTES
from index.builder.room import BLOCK_BYTES
from index.builder.spec import IndexSpec, specs_for
from index.search.exact import BLOCK_QUERIES as EXACT_QUERIES
from index.search.exact import BLOCK_ROWS as EXACT_ROWS

MIB = 2**20
FLOAT_BYTES = 4
# Libraries that are loaded on the way, their threads, and what the heap cannot give back.
WORK_BYTES = 96 * MIB
# Vectors that are worked on together: as they are, as they become, and between.
BLOCK_COPIES = 4
# Edges sorted at a time at the least.
LEAST_SORTED = 1 << 18
# Of a point that lists or clusters are learnt from: where it belongs, how far it is, its place by list.
LEARNT_POINT_BYTES = 24
POINTS_A_LIST = 32
# Points that FAISS learns an index from, which it holds.
FAISS_POINTS_A_LIST, LEAST_FAISS_POINTS = 64, 1 << 16
# FAISS's lists grow by doubling.
GROWING = 2
# A laid-out entity: neighbours, affinities, gradients.
POINT_BYTES = 4 << 10
# Of the relations that are learnt: an edge in the baselines' matrices by both ends and in their products; an entity in
# the scores that they give together.
LEARNT_EDGE_BYTES, LEARNT_ENTITY_BYTES = 96, 512


@dataclass(frozen=True, slots=True)
class BuildNeed:
    """Bytes of private memory: what the process holds before, and beyond that what each stage takes at the most.

    `index_room` is what a limit leaves to one index, None without a limit; `left_out` are the kinds that it has no
    room for. `sorted_edges` are in memory together.
    """

    process: int
    stages: Mapping[str, int]
    sorted_edges: int
    index_room: int | None
    left_out: tuple[str, ...]

    @property
    def total(self) -> int:
        """What the whole process takes at the most."""
        return self.process + WORK_BYTES + max(self.stages.values())


@dataclass(frozen=True, slots=True)
class BuildEstimate:
    """The answer of `twhin build --plan`: bytes of private memory in all, of the process as it is, and of each stage
    beyond that; bytes on disk at the most, of the version and of what lies beside it while it is built."""

    entities: int
    relations: int
    edges: int
    memory_bytes: int
    process_bytes: int
    stage_bytes: Mapping[str, int]
    indexes_left_out: tuple[str, ...]
    disk_bytes: int


def private_bytes() -> int:
    """Private memory of this process, now: what is mapped from files is not in it. Raises ConfigError where the system
    does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))
    except (OSError, StopIteration) as error:
        raise ConfigError(f"{sys.platform} does not tell how much memory a process has. Leave memory out.") from error


def held_bytes(spec: IndexSpec, rows: int, width: int, threads: int) -> int:
    """What building and asking the index of `spec` holds in memory, of `rows` vectors of `width` columns."""
    vector = width * FLOAT_BYTES
    learning = max(FAISS_POINTS_A_LIST * spec.lists, LEAST_FAISS_POINTS) * vector
    each = {
        "exact": 0,
        "ivf4": spec.lists * (9 * width + POINTS_A_LIST * LEARNT_POINT_BYTES),
        # A row's vector, its links and those above, its label; who was seen, for each thread.
        "hnsw": rows * (vector + 10 * spec.links + 32 + 2 * threads),
        "pq": GROWING * rows * (width // 4 + 1) + learning,
        "ivf_pq": GROWING * rows * (width // 4 + 9) + learning,
        "ivf_sq8": GROWING * rows * (width + 8) + learning,
    }
    return each[spec.kind]


def affordable(specs: Sequence[IndexSpec], rows: int, width: int, threads: int, room: int | None) -> list[IndexSpec]:
    """Those of `specs` that `room` bytes hold; all without a limit."""
    return [spec for spec in specs if room is None or held_bytes(spec, rows, width, threads) <= room]


def build_need(run: Run, config: BuildConfig, default: DefaultQuery, *, learns: bool, cagra: bool = False) -> BuildNeed:
    """What building this run takes in this process.

    With a limit as many edges are sorted at a time as it allows, and kinds of index that do not fit are left out.
    Raises ConfigError where it cannot be kept.
    """
    process = 0 if config.memory is None and sys.platform != "linux" else private_bytes()
    room = None if config.memory is None else config.memory - process - WORK_BYTES
    stages, groups = _stages(run, config, default, learns), groups_of(run, default, config.clusters.types)
    most = SORTED_EDGES if room is None else max(LEAST_SORTED, min(SORTED_EDGES, room // SORTING_BYTES))
    # The edges of one row are never apart.
    together = {one.name: most_together(one.train, _ends(run, one), one.symmetric) for one in run.graph.relations}
    hub = max((max(both) for both in together.values()), default=0)
    if room is not None and hub > most // config.thread_count:
        most = max(LEAST_SORTED, most - hub)
    stages["edges"] = _sorting_bytes(run, most + max(0, hub - most // config.thread_count))
    engaged = max(
        sum(
            together[one.name][0]
            for one in run.graph.relations
            if one.source == group.user_type and one.target in group.types
        )
        for group in groups
    )
    stages["mixtures"] += max(0, engaged - BLOCK_EDGES) * ENGAGEMENT_BYTES
    judging = stages["judging"]
    index_room = None if room is None else room - judging
    left_out, largest = [], 0
    for entity in run.graph.entities:
        with_hnsw = cagra or entity.name == default.candidate_type
        specs = specs_for(entity.count, config.index, with_hnsw=with_hnsw, cagra=cagra)
        fit = affordable(specs, entity.count, run.dim + 1, config.thread_count, index_room)
        kinds = {spec.kind for spec in fit}
        left_out += [f"{kind} of {entity.name}" for kind in dict.fromkeys(s.kind for s in specs) if kind not in kinds]
        tried = fit or specs
        largest = max([largest, *(held_bytes(spec, entity.count, run.dim + 1, config.thread_count) for spec in tried)])
    stages["indexes"] = judging + largest
    need = BuildNeed(process, stages, most, index_room, tuple(left_out))
    if config.memory is not None and need.total > config.memory:
        raise ConfigError(_too_little(need, config.memory))
    return need


def estimate(run: Run, config: BuildConfig, default: DefaultQuery, *, learns: bool, cagra: bool) -> BuildEstimate:
    """Size the build of a run; writes nothing. Raises ConfigError as the build would."""
    need = build_need(run, config, default, learns=learns, cagra=cagra)
    return BuildEstimate(
        entities=sum(entity.count for entity in run.graph.entities),
        relations=len(run.graph.relations),
        edges=sum(len(relation.train) for relation in run.graph.relations),
        memory_bytes=need.total,
        process_bytes=need.process,
        stage_bytes=need.stages,
        indexes_left_out=need.left_out,
        disk_bytes=_disk_bytes(run, config),
    )


def _stages(run: Run, config: BuildConfig, default: DefaultQuery, learns: bool) -> dict[str, int]:
    """What does not depend on the limit, by stage."""
    counts = {entity.name: entity.count for entity in run.graph.entities}
    vector, largest = (run.dim + 1) * FLOAT_BYTES, max(counts.values(), default=0)
    clusters, block = _clusters(run, config, default), BLOCK_BYTES * BLOCK_COPIES
    scores = EXACT_QUERIES * EXACT_ROWS * FLOAT_BYTES
    found = clusters * config.clusters.list_length * 2 * 8
    points = min(config.map.points, sum(counts.values()))
    stages = {
        "vectors": block,
        "clusters": block + clusters * (4 * vector + config.clusters.points_per_centroid * LEARNT_POINT_BYTES),
        "mixtures": BLOCK_EDGES * ENGAGEMENT_BYTES + _smoothing_bytes(run, config),
        "lists": block + found + scores,
        "codes": block + config.compression.training_vectors * vector * 4,
        "map": block + points * (POINT_BYTES + 2 * vector),
        # Bitmaps of filters and candidates, queries that exact search answers together.
        "judging": block + largest * (2 * len(SHARES) + 4) // 8 + scores * 2,
    }
    if learns:
        stages["learning"] = _learning_bytes(run, largest)
    return stages


def _ends(run: Run, relation: PreparedRelation) -> tuple[int, int]:
    return run.graph.count(relation.source), run.graph.count(relation.target)


def _sorting_bytes(run: Run, most: int) -> int:
    """Of `most` edges and rows at a time, where there are so many; of edges that are dealt."""
    edges = sum(len(relation.train) for relation in run.graph.relations)
    rows = max((entity.count for entity in run.graph.entities), default=0)
    return max(min(most, 2 * edges + rows) * SORTING_BYTES, min(SCAN_EDGES, edges) * DEALING_BYTES)


def _clusters(run: Run, config: BuildConfig, default: DefaultQuery) -> int:
    """Of the group of types that has most; the others are made after it."""
    groups = groups_of(run, default, config.clusters.types)
    sizes = [sum(entity.count for entity in run.graph.entities if entity.name in group.types) for group in groups]
    return config.clusters.count or default_count(max(sizes))


def _smoothing_bytes(run: Run, config: BuildConfig) -> int:
    """The users' vectors as codes, and who has engagements."""
    if config.mixtures.smoothing is None:
        return 0
    users = max((entity.count for entity in run.graph.entities), default=0)
    return users * (GROWING * (run.dim + 8) + 24)


def _learning_bytes(run: Run, largest: int) -> int:
    edges = max((len(relation.train) for relation in run.graph.relations), default=0)
    return edges * LEARNT_EDGE_BYTES + largest * LEARNT_ENTITY_BYTES


def _disk_bytes(run: Run, config: BuildConfig) -> int:
    """Of the version, of the trials of its indexes, and of edges on their way."""
    entities = sum(map(_entity_bytes, run.graph.entities))
    rows = sum(entity.count for entity in run.graph.entities)
    stored = {one.name: len(one.train) * (1 + one.symmetric) for one in run.graph.relations}
    edges = sum(stored.values())
    dated = sum(stored[one.name] for one in run.graph.relations if may_need_times(one, run.graph, config.mixtures))
    ends = sum(sum(_ends(run, one)) for one in run.graph.relations)
    vectors = rows * (run.dim + 1) * FLOAT_BYTES
    trials = rows * (run.dim + 24)  # of any two kinds but a graph
    graph = rows * (run.dim * FLOAT_BYTES + 160) if config.index.kind in ("auto", "hnsw") else 0
    edges_bytes = 8 * ends + 28 * edges + 16 * dated  # the times twice: as they are staged, and in the version
    return entities + 2 * vectors + rows * (run.dim // 4 + 104) + edges_bytes + trials + graph


def _entity_bytes(entity: EntityTable) -> int:
    """Of ids: 8 bytes, and of text as much as there is."""
    text = getattr(entity.ids, "utf8", None)
    return 8 * entity.count + (0 if text is None else len(text))


def _too_little(need: BuildNeed, memory: int) -> str:
    stage = max(need.stages, key=lambda name: need.stages[name])
    least = need.total
    advice = "Allow more memory"
    if stage == "learning":
        others = max(value for name, value in need.stages.items() if name != stage)
        advice += f", or build with --quick, which needs {(need.process + WORK_BYTES + others) // MIB + 1} MiB"
    return (
        f"memory is {memory / MIB:.0f} MiB, but this build needs {least // MIB + 1} MiB: the process itself holds "
        f"{(need.process + WORK_BYTES) // MIB} MiB, the stage {stage} takes the rest. {advice}."
    )

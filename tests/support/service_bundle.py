"""A small version with planted interests, written to disk by the real writer: what the service's tests load.

400 users in 8 communities follow mostly inside their own and one other; 60 hashtags are used likewise.
User ids are spread over 0 … 2^63 - 1, both ends included; hashtag ids are strings, some of them awkward.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle.arrays import map_array
from bundle.attributes import Attribute, AttributeEntry, Categories, Labels, Scalars, arrays_of, concatenated, packed
from bundle.csr import Csr, csr_from_pairs
from bundle.ids import MAX_INT_ID, string_ids
from bundle.layout import SpaceLayout
from bundle.manifest import (
    Clock,
    ClustersEntry,
    CompressionEntry,
    DefaultQuery,
    EntityEntry,
    Evaluation,
    Gate,
    IndexEntry,
    InterestsEntry,
    Lineage,
    Manifest,
    QueryWeights,
    RelationEntry,
    SpaceEntry,
    Strategy,
)
from bundle.pq import ProductQuantizer
from bundle.space import CandidateLists, Interests, Space
from bundle.writer import BundleWriter
from recommend.mixtures import mixture_of

N_USERS, N_TAGS, DIM, CLUSTERS, PARTS, MODES, LENGTH = 400, 60, 16, 8, 4, 4, 120
AWKWARD = [
    *["1", "1,2", "2", "a/b", "..", "hello world", "ünïcødé", "100%", "?x=1", "\u202eabc", "tab\there"],
    *["<img src=x onerror=alert(1)>", "\u05d0\u05d1\u05d2 \u0627\u0644\u0639", "é" * 128],
]
STRATEGIES = {
    "centroids": Strategy(merge="proportional", mode_vector="centroid", modes=3, weights=QueryWeights(mode=1)),
    "medoids": Strategy(merge="proportional", mode_vector="medoid", modes=3, weights=QueryWeights(mode=1)),
    "mixture": Strategy(
        merge="proportional",
        mode_vector="personal",
        modes=3,
        weights=QueryWeights(mode=0.5, fold_in=0.5, relation=1, popularity=0.05),
    ),
    "unimodal": Strategy(merge="single", weights=QueryWeights(user=1, relation=1)),
    "fold_in": Strategy(merge="single", weights=QueryWeights(fold_in=1, relation=1)),
    "blend": Strategy(
        merge="single", weights=QueryWeights(user=0.3, fold_in=0.7, relation=1, popularity=0.05, reciprocity=0.5)
    ),
    "popular": Strategy(merge="popular"),
}


def user_ids() -> list[str]:
    """The users' ids by row."""
    step = MAX_INT_ID // (N_USERS - 1)
    return [str(i * step) for i in range(N_USERS - 1)] + [str(MAX_INT_ID)]


def tag_ids() -> list[str]:
    """The hashtags' ids by row."""
    texts = AWKWARD + [f"tag{i}" for i in range(N_TAGS - len(AWKWARD))]
    return sorted(texts, key=lambda text: text.encode())


def _categories(of_row: list[list[str]]) -> Categories:
    """A category attribute from the values of each row."""
    vocabulary = string_ids(sorted({value for values in of_row for value in values}))
    pairs = [(row, vocabulary.row(value) or 0) for row, values in enumerate(of_row) for value in values]
    rows, codes = np.array(pairs, dtype=np.int32).T
    return Categories(vocabulary, csr_from_pairs(rows, codes, len(of_row)))


_ROWS = np.arange(N_USERS)
ATTRIBUTES: dict[str, dict[str, Attribute]] = {
    "user": {
        "country": _categories(
            [["at", "ch", "de"][row % 3 : row % 3 + 1] if row % 10 else [] for row in range(N_USERS)]
        ),
        "speaks": _categories([["de", "en"][row % 2 :] for row in range(N_USERS)]),
        "age": Scalars("number", 18 + (_ROWS % 50) / 2, packed(_ROWS % 7 != 0)),
        "joined": Scalars("timestamp", 1_700_000_000 + 86_400 * _ROWS, packed(_ROWS >= 0)),
        "bot": Scalars("boolean", (_ROWS % 20 == 0).astype(np.uint8), packed(_ROWS % 4 != 3)),
    },
    "hashtag": {"title": Labels(*concatenated([f"Tag {row}".encode() if row % 5 else b"" for row in range(N_TAGS)]))},
}


def write_toy_bundle(bundles: Path, version: str, seed: int = 1, recall: float = 1.0, *, places: bool = True) -> Path:
    """Write the version called `version`; another `seed` gives other vectors and edges for the same entities."""
    rng = np.random.default_rng(seed)
    with BundleWriter(bundles, version) as writer:
        _write_space(writer, rng)
        if places:
            _write_places(writer)
        return writer.commit(_manifest(writer, version, recall))


def _write_places(writer: BundleWriter) -> None:
    layout = SpaceLayout("main")
    for name in ("user", "hashtag"):
        vectors = map_array(writer.path(layout.vectors(name)))
        writer.array(layout.coordinates(name), np.clip(vectors[:, :2] / 4, -1, 1))


def _write_space(writer: BundleWriter, rng: np.random.Generator) -> None:
    layout = SpaceLayout("main")
    centres = rng.normal(size=(CLUSTERS, DIM)).astype(np.float32)
    home = {"user": np.arange(N_USERS) % CLUSTERS, "hashtag": np.arange(N_TAGS) % CLUSTERS}
    follows = _edges(rng, home["user"], home["user"], per_user=12, drop_self=True)
    uses = _edges(rng, home["user"], home["hashtag"], per_user=3, drop_self=False)
    vectors = {
        name: (centres[homes] + 0.3 * rng.normal(size=(len(homes), DIM))).astype(np.float32)
        for name, homes in home.items()
    }
    popularity = {
        "user": np.log1p(np.bincount(follows[1], minlength=N_USERS)),
        "hashtag": np.zeros(N_TAGS),
    }
    tables = {name: np.column_stack([vectors[name], popularity[name]]).astype(np.float32) for name in home}
    _write_entities(writer, layout, tables, rng)
    writer.array(layout.relations, (0.05 * rng.normal(size=(2, 2, DIM))).astype(np.float32))
    _write_edges(writer, layout, 0, follows, N_USERS, N_USERS, weights=None)
    _write_edges(writer, layout, 1, uses, N_USERS, N_TAGS, weights=rng.integers(1, 5, len(uses[0])).astype(np.float32))
    _write_clusters(writer, layout, centres, vectors["user"], follows)


def _edges(
    rng: np.random.Generator,
    sources: npt.NDArray[np.int64],
    targets: npt.NDArray[np.int64],
    per_user: int,
    drop_self: bool,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Random edges, mostly into the source's own community and the next; the last user has none at all."""
    pairs = set()
    members = [np.flatnonzero(targets == community).tolist() for community in range(CLUSTERS)]
    for source, home in enumerate(sources[:-1].tolist()):
        for _ in range(per_user):
            of_community = members[(home + int(rng.random() < 0.3)) % CLUSTERS]
            target = of_community[int(rng.integers(len(of_community)))]
            if not (drop_self and target == source):
                pairs.add((source, target))
    array = np.array(sorted(pairs), dtype=np.int32)
    return array[:, 0], array[:, 1]


def _write_entities(
    writer: BundleWriter, layout: SpaceLayout, tables: dict[str, npt.NDArray[np.float32]], rng: np.random.Generator
) -> None:
    writer.array(layout.ids("user", "int64")[0], np.array([int(text) for text in user_ids()], dtype=np.int64))
    tags = string_ids(tag_ids())
    writer.array(layout.ids("hashtag", "string")[0], tags.offsets)
    writer.array(layout.ids("hashtag", "string")[1], tags.utf8)
    for name, attributes in ATTRIBUTES.items():
        for number, attribute in enumerate(attributes.values()):
            for part, array in arrays_of(attribute).items():
                writer.array(layout.attribute(name, number, part), array)
    for name, table in tables.items():
        writer.array(layout.vectors(name), table)
        codebooks = rng.normal(size=(PARTS, 256, DIM // PARTS)).astype(np.float32)
        codes = rng.integers(0, 256, size=(len(table), PARTS)).astype(np.uint8)
        writer.array(layout.pq(name, "codebooks"), codebooks)
        writer.array(layout.pq(name, "codes"), codes)
        writer.array(layout.pq(name, "golden"), ProductQuantizer(codebooks).decode(codes[:32]))


def _write_edges(
    writer: BundleWriter,
    layout: SpaceLayout,
    position: int,
    edges: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]],
    n_sources: int,
    n_targets: int,
    weights: npt.NDArray[np.float32] | None,
) -> None:
    source, target = edges
    _write_csr(writer, layout.edges(position, "targets"), csr_from_pairs(source, target, n_sources, weights))
    _write_csr(writer, layout.edges(position, "sources"), csr_from_pairs(target, source, n_targets))
    degrees = np.bincount(target, minlength=n_targets)
    writer.array(layout.popular(position), np.argsort(-degrees, kind="stable")[:100].astype(np.int32))


def _write_csr(writer: BundleWriter, files: tuple[str, str, str], csr: Csr) -> None:
    writer.array(files[0], csr.indptr)
    writer.array(files[1], csr.indices)
    if csr.weights is not None:
        writer.array(files[2], csr.weights)


def _write_clusters(
    writer: BundleWriter,
    layout: SpaceLayout,
    centres: npt.NDArray[np.float32],
    vectors: npt.NDArray[np.float32],
    follows: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]],
) -> None:
    assignment = (np.arange(N_USERS) % CLUSTERS).astype(np.int32)
    members = [np.flatnonzero(assignment == cluster) for cluster in range(CLUSTERS)]
    medoids = np.array([rows[np.argmax(vectors[rows] @ centres[c])] for c, rows in enumerate(members)], dtype=np.int32)
    writer.array(layout.clusters("centroids"), centres)
    writer.array(layout.clusters("medoid_types"), np.zeros(CLUSTERS, dtype=np.uint8))
    writer.array(layout.clusters("medoid_rows"), medoids)
    writer.array(layout.clusters("sizes"), np.array([len(rows) for rows in members], dtype=np.int64))
    writer.array(layout.assignment("user"), assignment)
    _write_mixtures(writer, layout, csr_from_pairs(follows[0], follows[1], N_USERS), assignment)
    for query, points in (("centroid", centres), ("medoid", vectors[medoids])):
        scores = points @ vectors.T
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :LENGTH].astype(np.int32)
        writer.array(layout.candidate_list("user", query, "rows"), rows)  # type: ignore[arg-type]
        ordered = np.take_along_axis(scores, rows.astype(np.int64), axis=1)
        writer.array(layout.candidate_list("user", query, "scores"), ordered)  # type: ignore[arg-type]


def _write_mixtures(writer: BundleWriter, layout: SpaceLayout, follows: Csr, assignment: npt.NDArray[np.int32]) -> None:
    mixtures = [mixture_of(assignment[follows.row(user)], follows.row_weights(user), MODES) for user in range(N_USERS)]
    lengths = [len(clusters) for clusters, _ in mixtures]
    writer.array(layout.mixtures("indptr"), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    writer.array(layout.mixtures("clusters"), np.concatenate([clusters for clusters, _ in mixtures]))
    writer.array(layout.mixtures("weights"), np.concatenate([weights for _, weights in mixtures]))


def with_tags(space: Space, clusters: npt.NDArray[np.int32]) -> Space:
    """The space with its hashtags in `clusters` of the users, so that both are counted together."""
    first = space.clusters.interests[0]
    entry = first.entry.model_copy(update={"types": ("user", "hashtag")})
    return replace(
        space,
        clusters=replace(
            space.clusters,
            assignment={**space.clusters.assignment, "hashtag": clusters},
            interests=(replace(first, entry=entry),),
        ),
    )


def with_interests_in_tags(space: Space, rng: np.random.Generator, count: int = 5, length: int = 50) -> Space:
    """The space with clusters of its hashtags besides, `count` of them, the users' mixtures over these, and lists."""
    clusters, tags, first = space.clusters, space.table("hashtag"), len(space.clusters.centroids)
    of_tag = first + rng.permutation(np.arange(len(tags)) % count).astype(np.int32)
    members = [np.flatnonzero(of_tag == first + number) for number in range(count)]
    centres = np.array([tags.embeddings[rows].mean(axis=0) for rows in members], dtype=np.float32)
    uses = space.relation("uses").targets
    made = [mixture_of(of_tag[uses.row(user)], uses.row_weights(user), MODES) for user in range(len(uses))]
    indptr = np.cumsum([0, *(len(modes) for modes, _ in made)])
    mixtures = Csr(indptr, np.concatenate([one[0] for one in made]), np.concatenate([one[1] for one in made]))
    scores = centres @ tags.embeddings.T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :length]
    lists = CandidateLists(best.astype(np.int32), np.take_along_axis(scores, best, axis=1), first)
    entry = InterestsEntry(types=("hashtag",), count=count, user_type="user")
    return replace(
        space,
        clusters=replace(
            clusters,
            centroids=np.concatenate([clusters.centroids, centres]),
            medoid_types=np.concatenate([clusters.medoid_types, np.ones(count, np.uint8)]),
            medoid_rows=np.concatenate([clusters.medoid_rows, np.array([rows[0] for rows in members], np.int32)]),
            sizes=np.concatenate([clusters.sizes, np.array([len(rows) for rows in members])]),
            types=("user", "hashtag"),
            assignment={**clusters.assignment, "hashtag": of_tag},
            interests=(*clusters.interests, Interests(entry, first, mixtures)),
            lists={**clusters.lists, ("hashtag", "centroid"): lists},
        ),
    )


def _entries(entity_type: str) -> tuple[AttributeEntry, ...]:
    return tuple(AttributeEntry(name=name, kind=one.kind) for name, one in ATTRIBUTES[entity_type].items())


def _manifest(writer: BundleWriter, version: str, recall: float) -> Manifest:
    compression = CompressionEntry(subquantizers=PARTS, rotated=False, ratio=16.0, mse=0.1, cosine=0.9)
    space = SpaceEntry(
        dim=DIM,
        entities=(
            EntityEntry(name="user", id="int64", count=N_USERS, attributes=_entries("user")),
            EntityEntry(name="hashtag", id="string", count=N_TAGS, attributes=_entries("hashtag")),
        ),
        relations=(
            RelationEntry(name="follows", source="user", target="user"),
            RelationEntry(name="uses", source="user", target="hashtag", coverage="low"),
        ),
        default=DefaultQuery(relation="follows", user_type="user", candidate_type="user"),
        clusters=ClustersEntry(count=CLUSTERS, types=("user",), modes=MODES, mixture_type="user", list_length=LENGTH),
        compression={"user": compression, "hashtag": compression},
        indexes={
            "user": IndexEntry(kind="exact", depth=64, recall={"at_50": recall}),
            "hashtag": IndexEntry(kind="exact", depth=64, recall={"at_50": recall}),
        },
        strategies=STRATEGIES,
        auto="blend",
    )
    return Manifest(
        version=version,
        created=datetime.now(UTC),
        lineage=Lineage(graph_digest="0" * 64, training_config_digest="1" * 64, build_config_digest="2" * 64),
        spaces={"main": space},
        files=writer.files,
        evaluation=Evaluation(gates=(Gate(metric="recall_at_50", floor=0.95, measured=recall),)),
    )


def with_views(space: Space, *names: str) -> Space:
    """With further relations between users, of some whom a user follows and of others, that tell of `follows`; the
    first of them with times, days after 14 November 2023, many of them the same.
    """
    follows, rng = space.relation("follows"), np.random.default_rng(7)
    relations, shares = dict(space.relations), {}
    for share, name in zip((0.3, 0.05), names, strict=False):
        src, dst = rng.integers(0, N_USERS, (2, 8 * N_USERS)).astype(np.int32)
        seen = rng.random(len(follows.targets.indices)) < 0.2
        sources = np.repeat(np.arange(N_USERS, dtype=np.int32), follows.targets.degrees())[seen]
        ends = np.unique(np.stack([np.append(src, sources), np.append(dst, follows.targets.indices[seen])]), axis=1)
        forth = csr_from_pairs(*ends, N_USERS)
        entry = follows.entry.model_copy(update={"name": name, "edges": ends.shape[1]})
        times = None if shares else 1_700_000_000 + 86_400 * rng.integers(0, 12, ends.shape[1])
        relations[name] = replace(
            follows, entry=entry, position=len(relations), targets=forth, sources=forth.transposed(N_USERS), times=times
        )
        shares[name] = share
    entry = follows.entry.model_copy(update={"elsewhere": shares})
    relations["follows"] = replace(follows, entry=entry)
    entries = tuple(one.entry for one in relations.values())
    clocks = space.entry.clusters.model_copy(update={"clocks": {names[0]: Clock(number=1, per_second=1)}})
    changed = space.entry.model_copy(update={"relations": entries, "clusters": clocks})
    return replace(space, entry=changed, relations=relations)

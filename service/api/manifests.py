"""GET /v1/manifests: what each version on disk holds and was measured to do, from the manifests."""

import asyncio
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from bundle.errors import TwhinError
from bundle.manifest import Manifest, SpaceEntry
from bundle.reader import read_manifest
from bundle.run import run_name
from bundle.versions import Identity, identity_of, list_versions
from service.call import Call, Reply
from service.versions.versions import Versions
from service.wire.map import ManifestItem, ManifestsAnswer

_encode = msgspec.json.Encoder().encode
MOST = 50


async def manifests(call: Call) -> Reply:
    """The versions on disk, newest first, with their gates and measurements."""
    held = call.runtime.versions
    serving = held.serving().version
    items = await asyncio.to_thread(_items, call.runtime.settings.bundles, held)
    return Reply(_encode(ManifestsAnswer(version=serving, request_id=call.request_id, versions=items)))


def _items(bundles: Path, held: Versions) -> list[ManifestItem]:
    return [_item(bundles, name, held) for name in reversed(list_versions(bundles)[-MOST:])]


def _item(bundles: Path, name: str, held: Versions) -> ManifestItem:
    known = {
        "version": name,
        "serving": held.active is not None and name == held.active.version,
        "published": name == held.published,
        "refused": held.refused.get(name),
    }
    try:
        return ManifestItem(**known, **_measured_of(bundles / name, identity_of(bundles / name)))  # type: ignore[arg-type]
    except TwhinError as error:
        return ManifestItem(**known, fault=error.code)  # type: ignore[arg-type]


@lru_cache(maxsize=2 * MOST)
def _measured_of(path: Path, _: Identity | None) -> dict[str, Any]:
    """What the manifest at `path` says, read again only when it is another file."""
    return _measured(read_manifest(path))


def _measured(manifest: Manifest) -> dict[str, Any]:
    return {
        "created": manifest.created.isoformat(),
        "parent": manifest.lineage.parent,
        "run": run_name(
            manifest.lineage.graph_digest, manifest.lineage.training_config_digest, manifest.lineage.parent
        ),
        "code_revision": manifest.lineage.code_revision,
        "graph_digest": manifest.lineage.graph_digest,
        "size_bytes": sum(entry.size_bytes for entry in manifest.files.values()),
        "evaluation": manifest.evaluation.model_dump(),
        "spaces": {name: _space(entry) for name, entry in manifest.spaces.items()},
    }


def _space(entry: SpaceEntry) -> dict[str, object]:
    return {
        "dim": entry.dim,
        "entities": {entity.name: entity.count for entity in entry.entities},
        "relations": {relation.name: relation.edges for relation in entry.relations},
        "default": entry.default.model_dump(),
        "auto": entry.auto,
        "auto_newcomer": entry.auto_newcomer,
        "answers": {
            relation.name: {"auto": own.auto, "auto_newcomer": own.auto_newcomer}
            for relation in entry.relations
            if (own := entry.answers(relation.name)) is not None
        },
        "clusters": entry.clusters.count,
        "indexes": {name: index.model_dump(exclude={"file"}) for name, index in entry.indexes.items()},
        "compression": {name: one.model_dump() for name, one in entry.compression.items()},
    }

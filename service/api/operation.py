"""Probes, metrics, /v1/info."""

import importlib.metadata
import time

import orjson

from bundle.manifest import RelationEntry
from bundle.space import Space
from recommend.plan import auto_under, strategies_of
from service import metrics
from service.api.feedback import acceptance
from service.call import Call, Reply
from service.problems import Problem, not_ready


async def livez(call: Call) -> Reply:
    """The process answers, and what works in its background lives: restart it if not."""
    ended = call.runtime.ended
    if ended:
        raise Problem("internal", f"ended by a fault: {', '.join(ended)}")
    return _status("ok")


async def readyz(call: Call) -> Reply:
    """A version is loaded and the process is not on its way out: send traffic, or do not."""
    if call.runtime.draining:
        raise not_ready("draining")
    if call.runtime.versions.active is None:
        raise not_ready(_why_not_ready(call))
    degraded: list[str] = []
    answer: dict[str, object] = {"status": "ok", "degraded": degraded}
    if call.runtime.versions.behind:
        degraded.append("published_version_refused")
    state = call.runtime.state.describe()
    if not state["healthy"]:
        degraded.append("engagements_unavailable")
        answer["reasons"] = {"engagements_unavailable": state["reason"]}
    if degraded:
        answer["status"] = "degraded"
    return Reply(orjson.dumps(answer))


def _why_not_ready(call: Call) -> str:
    refused = call.runtime.versions.refused
    return "no version is loaded; the published one was refused" if refused else "no version is published yet"


async def startupz(call: Call) -> Reply:
    """The first version has been loaded."""
    if call.runtime.versions.active is None:
        raise not_ready(_why_not_ready(call))
    return _status("ok")


def _status(text: str) -> Reply:
    return Reply(orjson.dumps({"status": text}))


async def exposition(call: Call) -> Reply:
    """Prometheus metrics of all workers."""

    async def written() -> bytes:
        call.runtime.measure()
        return call.runtime.metrics.exposition() + await acceptance(call)

    return Reply(await call.runtime.exposition.result(written), metrics.CONTENT_TYPE)


async def info(call: Call) -> Reply:
    """What is served, within which limits, and what was refused."""
    runtime = call.runtime
    loaded = runtime.versions.serving()
    document = {
        "version": loaded.version,
        "request_id": call.request_id,
        "service": {
            "release": importlib.metadata.version("twhin"),
            "uptime_seconds": round(time.time() - runtime.started_at, 1),
            "draining": runtime.draining,
        },
        "limits": runtime.settings.limits.model_dump(),
        "versions": {
            "serving": loaded.version,
            "published": runtime.versions.published,
            "kept": runtime.versions.names(),
            "refused": runtime.versions.refused,
        },
        "state": runtime.state.describe(),
        "created": loaded.manifest.created.isoformat(),
        "lineage": loaded.manifest.lineage.model_dump(),
        "metric": loaded.manifest.metric,
        "self_test_recall": round(loaded.recall, 4),
        "load_seconds": round(loaded.seconds, 3),
        "evaluation": loaded.manifest.evaluation.model_dump(),
        "spaces": {name: _space(space) for name, space in loaded.bundle.spaces.items()},
    }
    return Reply(orjson.dumps(document))


def _relation(space: Space, relation: RelationEntry) -> dict[str, object]:
    own = space.entry.answers(relation.name)
    return {
        "name": relation.name,
        "source": relation.source,
        "target": relation.target,
        "edges": relation.edges,
        "strategies": list(strategies_of(space, relation.name)),
        "auto": auto_under(space, relation.name),
        "auto_newcomer": None if own is None else own.auto_newcomer,
        "fallback": None if own is None else own.fallback,
    }


def _space(space: Space) -> dict[str, object]:
    entry = space.entry
    return {
        "dim": entry.dim,
        "entities": {entity.name: {"id": entity.id, "count": entity.count} for entity in entry.entities},
        "relations": [_relation(space, relation) for relation in entry.relations],
        "default": entry.default.model_dump(),
        "strategies": {name: strategy.model_dump() for name, strategy in strategies_of(space).items()},
        "auto": entry.auto,
        "auto_newcomer": entry.auto_newcomer,
        "clusters": entry.clusters.count,
        "modes": entry.clusters.modes,
        "indexes": {name: index.model_dump(exclude={"file"}) for name, index in entry.indexes.items()},
        "compression": {name: compression.model_dump() for name, compression in entry.compression.items()},
    }

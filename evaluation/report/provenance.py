"""What a report was made from and with: version, run, graph, settings, machine and code."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from bundle.manifest import Manifest
from bundle.records import Record
from bundle.release import code_revision, release
from bundle.run import Run
from bundle.text import printable


class Provenance(Record):
    """Everything that somebody needs who wants to make the numbers again. What a report had no part of is None.

    `settings` are those of the measurement, `training` those of the run. Revisions are commits: of the code that
    measured, of the one that trained the run.
    """

    version: str | None = None
    service: str | None = None
    run: str | None = None
    graph_digest: str | None = None
    graph: str | None = None
    training: dict[str, str] = {}
    training_config_digest: str | None = None
    build_config_digest: str | None = None
    measured_by_build: bool | None = None
    trained_by: str | None = None
    settings: dict[str, str] = {}
    release: str
    code_revision: str | None
    machine: str

    def lines(self) -> list[tuple[str, str]]:
        """Heading and text of everything that is there."""
        digest = f"digest {self.graph_digest:.12}" if self.graph_digest else None
        code = f"twhin {self.release}" + (f", commit {self.code_revision}" if self.code_revision else "")
        build = f"settings {self.build_config_digest:.12}" if self.build_config_digest else None
        if build is not None and self.measured_by_build is False:
            build += "; recall not measured by the build, its strategies not learnt (--quick, or no held-out edges)"
        everything = {
            "version": self.version,
            "served at": self.service,
            "run": self.run,
            "graph": " · ".join(text for text in (self.graph, digest) if text),
            "training": _pairs(self.training),
            "trained by": self.trained_by and f"commit {self.trained_by}",
            "build": build,
            "measured with": _pairs(self.settings),
            "code": code,
            "machine": self.machine,
        }
        return [(heading, text) for heading, text in everything.items() if text]


def provenance(
    settings: Mapping[str, object],
    *,
    run: Run | None = None,
    version: str | None = None,
    manifest: Manifest | None = None,
    service: str | None = None,
) -> Provenance:
    """Describe what was measured, with which settings, and where: this process and this machine."""
    sources: dict[str, object] = {"version": version, "service": service}
    if manifest is not None:
        lineage = manifest.lineage
        sources |= lineage.model_dump(include={"graph_digest", "training_config_digest", "build_config_digest"})
        sources |= {"version": manifest.version, "trained_by": lineage.code_revision}
        sources["measured_by_build"] = bool(manifest.evaluation.strategies)
    if run is not None:
        record = run.record
        given = [(name, value) for name, value in record.config.items() if value is not None]
        sources |= {"run": printable(str(run.path)), "graph": _counts(run), "graph_digest": run.graph.digest}
        sources |= {"training": {name: _setting(value) for name, value in given}}
        sources |= {"training_config_digest": record.config_digest, "trained_by": record.code_revision}
    asked = {name: printable(str(value)) for name, value in settings.items() if value is not None}
    code = {"release": release(), "code_revision": code_revision(), "machine": machine()}
    return Provenance.model_validate({**sources, **code, "settings": asked})


def machine() -> str:
    """This machine in words: processor, cores that this process may use, memory, system, Python."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = f"Python {platform.python_version()}"
    return f"{_processor()}, {cores} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}, {python}"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _counts(run: Run) -> str:
    entities = [f"{entity.count:,} {entity.name}" for entity in run.graph.entities]
    relations = [f"{len(relation.train):,} {relation.name}" for relation in run.graph.relations[:8]]
    more = len(run.graph.relations) - len(relations)
    return ", ".join(entities + relations) + (f" and {more} further relations" if more > 0 else "")


def _setting(value: object) -> str:
    """A setting as TOML and `--set` have it."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(name)} = {_setting(one)}' for name, one in value.items())}}}"
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())

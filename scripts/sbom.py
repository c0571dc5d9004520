"""Writes what a Python environment holds as a CycloneDX 1.6 bill of materials: the interpreter's own environment.

    python scripts/sbom.py OUT [LOCK]

With the standard library alone, so that it runs in the image's environment. `LOCK`, a file of requirements with hashes,
adds the digests of the files that a package may have been installed from. The same environment gives the same bytes.
"""

import json
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any


def name_of(text: str) -> str:
    """A distribution's name as an index has it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s;\[(<>=!~]", text, maxsplit=1)[0]).lower()


def digests(lock: Path) -> dict[str, list[str]]:
    """The SHA-256 digests that the lock allows for each distribution."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in lock.read_text(encoding="utf-8").splitlines():
        if pinned := re.match(r"([\w.-]+)==", line):
            name = name_of(pinned[1])
        found.setdefault(name, []).extend(re.findall(r"sha256:([0-9a-f]{64})", line))
    return found


def component(distribution: metadata.Distribution, allowed: list[str]) -> dict[str, Any]:
    """One distribution: name, version, package URL, licence as it states it, digests."""
    name, about = name_of(distribution.name), distribution.metadata
    purl = f"pkg:pypi/{name}@{distribution.version}"
    stated: dict[str, Any] = {"type": "application" if name == "twhin" else "library", "bom-ref": purl}
    stated |= {"name": distribution.name, "version": distribution.version, "purl": purl}
    if summary := about.get("Summary"):
        stated["description"] = summary
    if expression := about.get("License-Expression"):
        stated["licenses"] = [{"expression": expression}]
    else:
        classes = [
            line.rpartition(" :: ")[2] for line in about.get_all("Classifier") or [] if line.startswith("License")
        ]
        named = classes or [line for line in [about.get("License", "").partition("\n")[0]] if line]
        if named:
            stated["licenses"] = [{"license": {"name": one}} for one in named]
    if allowed:
        hashes = [{"alg": "SHA-256", "content": digest} for digest in allowed]
        stated["externalReferences"] = [{"type": "distribution", "url": purl, "hashes": hashes}]
    return stated


def bill(allowed: dict[str, list[str]]) -> dict[str, Any]:
    """The document: every installed distribution, and who needs whom."""
    installed = {name_of(one.name): one for one in metadata.distributions()}
    components = {name: component(one, allowed.get(name, [])) for name, one in sorted(installed.items())}
    references = {name: one["bom-ref"] for name, one in components.items()}
    dependencies = [
        {
            "ref": references[name],
            "dependsOn": sorted(
                {references[need] for text in one.requires or () if (need := name_of(text)) in references}
            ),
        }
        for name, one in sorted(installed.items())
    ]
    interpreter = {"name": "python:version", "value": platform.python_version()}
    described = components.pop("twhin", None)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {**({"component": described} if described else {}), "properties": [interpreter]},
        "components": list(components.values()),
        "dependencies": dependencies,
    }


def main() -> None:
    """Write the file."""
    out, *lock = map(Path, sys.argv[1:])
    document = bill(digests(lock[0]) if lock else {})
    out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"{out}: {len(document['components'])} components")


if __name__ == "__main__":
    main()

"""Changing a written version so that it stays well signed: what a faulty writer would have made."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bundle.layout import MANIFEST
from bundle.verify import digest_of


def rewrite_array(version: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Replace the array `name` by what `change` makes of a copy of it, and sign it."""
    file = version / name
    changed = change(np.load(file, allow_pickle=False))
    np.save(file, changed, allow_pickle=False)

    def sign(manifest: Any) -> None:
        entry = {"sha256": digest_of(file), "size_bytes": file.stat().st_size}
        manifest["files"][name] = entry | {"dtype": changed.dtype.str, "shape": list(changed.shape)}

    rewrite_manifest(version, sign)


def rewrite_manifest(version: Path, change: Callable[[Any], None]) -> None:
    """Let `change` change the manifest's JSON in place."""
    file = version / MANIFEST
    manifest = json.loads(file.read_text(encoding="utf-8"))
    change(manifest)
    file.write_text(json.dumps(manifest), encoding="utf-8")

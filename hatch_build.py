"""The build hook: compiles the engine when the package is installed, and installs without it where that cannot be."""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EngineHook(BuildHookInterface[Any]):
    """Puts the compiled engine beside its sources in a wheel, and into the user's cache for an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it writes the archive."""
        sys.path.insert(0, self.root)
        from bundle.errors import EngineUnavailable
        from engine.build import build_library, library

        try:
            if version == "editable":
                library()
                return
            path = build_library(Path(self.directory).resolve() / "engine")
        except (EngineUnavailable, OSError) as error:
            self.app.display_warning(f"Installed without the compiled engine; Python does its work. {error}")
            return
        finally:
            sys.path.remove(self.root)
        build_data["force_include"][str(path)] = f"engine/{path.name}"
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

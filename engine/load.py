"""Loading the library once a process: the one that was built of exactly these sources, never another.

`TWHIN_ENGINE` chooses: `off` does without the library; `plain`, `neon`, `avx2`, `avxvnni` or `avx512` fixes its
instruction set, which is otherwise the best that the processor has.
"""

import os
import sys
from functools import cache
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import cast

from bundle.errors import EngineUnavailable
from engine.build import library
from engine.native import Native

_NAME = "engine._native"


def native() -> Native:
    """The library, compiled first where it is not there yet and a compiler is. Raises EngineUnavailable."""
    loaded = _loaded()
    if isinstance(loaded, str):
        raise EngineUnavailable(loaded)
    return loaded


def available() -> bool:
    """Whether `native()` has a library to give."""
    return not isinstance(_loaded(), str)


def why_unavailable() -> str | None:
    """Why there is no library, in one sentence; None where there is one."""
    loaded = _loaded()
    return loaded if isinstance(loaded, str) else None


@cache
def _loaded() -> Native | str:
    """The library, or why there is none."""
    wanted = os.environ.get("TWHIN_ENGINE", "")
    if wanted == "off":
        return "The engine is switched off by TWHIN_ENGINE=off."
    try:
        module = _load(library())
        if wanted:
            module.set_level(wanted.encode())
    except EngineUnavailable as error:
        return str(error)
    except (ImportError, OSError) as error:
        return f"The engine cannot be loaded: {error}."
    except ValueError as error:
        return f"TWHIN_ENGINE: {error}."
    return module


def _load(path: Path) -> Native:
    spec = spec_from_file_location(_NAME, path, loader=ExtensionFileLoader(_NAME, str(path)))
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no library")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[_NAME] = module
    return cast(Native, module)

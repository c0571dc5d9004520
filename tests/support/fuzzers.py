"""The fuzzers of the engine: everything of it that knows no Python, compiled with a program that asks it at random."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engine.build import SOURCES

PROGRAMS = Path(__file__).parent.parent / "unit" / "engine"
# What a unit that speaks Python includes: it cannot be part of a program of its own.
BINDING = '#include "binding.h"'


def compile_fuzzers(names: tuple[str, ...], compiler: str, flags: tuple[str, ...], directory: Path) -> dict[str, Path]:
    """`fuzz_NAME.cpp` for each name, as programs in `directory`."""
    units = [PROGRAMS / f"fuzz_{name}.cpp" for name in names]
    units += [unit for unit in SOURCES.rglob("*.cpp") if BINDING not in unit.read_text()]
    objects = [directory / f"{i}.o" for i in range(len(units))]

    def compile_one(pair: tuple[Path, Path]) -> None:
        subprocess.run([compiler, *flags, "-I", SOURCES, "-c", pair[0], "-o", pair[1]], check=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, zip(units, objects, strict=True)))
    shared = objects[len(names) :]
    for name, own in zip(names, objects, strict=False):
        subprocess.run([compiler, *flags, own, *shared, "-o", directory / name], check=True)
    return {name: directory / name for name in names}

"""`python -m faults`: runs the parts of the campaign one after the other and prints one table of promises.

Ends with status 1 where a promise did not hold. Every part is seeded; with `--long` the parts that have more to try
than fits twenty minutes try all of it.
"""

import argparse
import importlib
import platform
import sys
import tempfile
import time
from pathlib import Path

from faults.outcome import Outcome

PARTS = ("reading", "gates", "damage", "runs", "http", "overload", "state", "browser", "processes")


def main() -> int:
    """Run the parts that are asked for; the number of promises that did not hold decides the exit status."""
    options = _options()
    table: list[tuple[str, Outcome, float]] = []
    for part in options.only or PARTS:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"twhin-faults-{part}-") as scratch:
            for outcome in importlib.import_module(f"faults.{part}").run(Path(scratch), options.seed, options.long):
                seconds, started = time.monotonic() - started, time.monotonic()
                table.append((part, outcome, seconds))
                print(
                    f"{part}: {'held' if outcome.held else 'BROKEN'}: {outcome.promise}: {outcome.figure}", flush=True
                )
    where = f"{platform.machine()}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    print(f"\nseed {options.seed}, {where}\n")
    print("| part | promise | seen | held | s |\n|---|---|---|---|---|")
    for part, outcome, seconds in table:
        print(
            f"| {part} | {outcome.promise} | {outcome.figure} | {'yes' if outcome.held else '**no**'} | {seconds:.0f} |"
        )
    broken = sum(not outcome.held for _, outcome, _ in table)
    print(f"\n{len(table) - broken} passed, {broken} failed")
    return 1 if broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--seed", type=int, default=1, help="the seed of everything that is drawn (default 1)")
    parser.add_argument("--long", action="store_true", help="try all there is: takes hours")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

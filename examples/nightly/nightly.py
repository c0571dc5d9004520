"""One night of a service that learns every night: what users do is stored, exported, learnt and served.

    python examples/nightly/nightly.py --dir .demo

It begins with what `twhin demo` leaves (and makes that where it is missing), and runs the commands that a scheduler
would run: serve, ingest, data export-engagements, train --warm-start, build, publish. The service answers all the while
and changes over by itself. In the end it says whether the loop has closed: the new version serves, knows people who
came during the day, and has their edges. Run it again for the next night. With `--from kafka://broker/topic` the day's
events come from there instead, which needs twhin[kafka]. Needs twhin[train] and twhin-client.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bundle.text import read_toml, toml_of
from twhin_client import Client, TwhinError
from twhin_client.problems import EntityNotFound

NEWCOMERS, EVENTS_EACH = 20, 12
# What a grown graph is learnt with: docs/training.md, "The next version".
WARM = ("--set", "epochs=5", "--set", "warm_shrink=0.7")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and the service with it
    arguments = parsed()
    root: Path = arguments.dir.resolve()  # the night's graph.toml is read from another folder
    bundles, graph = root / "bundles", root / "graph" / "graph.toml"
    step("before", "a graph, a first version")
    size = [] if (root / "graph").exists() else ["--users", arguments.users]
    twhin("demo", "--dir", root, *size, "--no-serve")
    night = root / f"night-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    night.mkdir()

    step("day", "a service, and what users do")
    with serving(bundles) as url, Client(url) as client, Asker(url) as asker:
        old = str(client.info()["version"])
        newcomers = [] if arguments.source else write_day(graph.parent, night / "day.jsonl")
        source = arguments.source or night / "day.jsonl"
        twhin("ingest", source, "--to", url, "--until-end", "--dead-letters", night / "dead-letters.jsonl")
        assert not known(client, newcomers), "nobody has a vector before there is a version that learnt it"

        step("night", "the next version, while the service answers")
        exported = twhin("data", "export-engagements", "--bundles", bundles, "--out", night / "engagements", "--json")
        tonight = with_engagements(graph, night, json.loads(exported)["files"])
        settings = [*WARM, "--set", f"dim={dimensions(bundles / old)}", *sets(arguments.set)]
        twhin("train", tonight, "--run", night / "run", "--warm-start", bundles / old, *settings)
        quick = ("--quick", "--no-map") if arguments.quick else ()
        built = json.loads(twhin("build", night / "run", "--bundles", bundles, "--json", *quick))
        twhin("publish", built["version"], "--bundles", bundles)
        wait_for(client, built["version"])

        step("morning", "has the loop closed?")
        told = {
            "version": {"before": old, "now": str(client.info()["version"])},
            "edges": {"before": edges(bundles / old), "now": edges(bundles / built["version"])},
            "newcomers": {"with_vector": known(client, newcomers), "all": len(newcomers)},
            "meanwhile": asker.told(),
        }
    print(json.dumps(told, indent=1))
    if asker.failed or told["version"]["now"] != built["version"]:
        sys.exit("the loop has not closed: see above")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=Path(".demo"), help="directory of the demo")
    parser.add_argument("--users", type=int, default=20_000, help="users of the graph, where it is to be made")
    parser.add_argument("--from", dest="source", help="kafka://broker/topic, or a file of events; else some are made")
    parser.add_argument("--quick", action="store_true", help="learn no strategies and lay out no map: to try it")
    parser.add_argument("--set", action="append", default=[], help="further settings of the training")
    return parser.parse_args()


def write_day(graph: Path, path: Path) -> list[int]:
    """Write what a few people do on their first day, each within one community, as lines of JSON; who they are."""
    rng = np.random.default_rng(int(time.time()))
    planted = pq.read_table(graph / "planted.parquet").to_pylist()
    of_type = {kind: [row for row in planted if row["type"] == kind] for kind in ("user", "item")}
    # Whoever came another night has an id already.
    first = max(int(row["id"]) for row in of_type["user"]) + 1 + int(time.time()) % 10**6 * NEWCOMERS
    newcomers = list(range(first, first + NEWCOMERS))
    with path.open("w", encoding="utf-8") as file:
        for person in newcomers:
            community = of_type["user"][rng.integers(len(of_type["user"]))]["community"]
            for kind, relation in (("user", "follows"), ("item", "likes")):
                near = [row["id"] for row in of_type[kind] if row["community"] == community]
                for target in rng.choice(near, min(EVENTS_EACH, len(near)), replace=False):
                    event = {"user": str(person), "target": str(target), "relation": relation, "at": time.time()}
                    file.write(json.dumps(event) + "\n")
    return newcomers


def with_engagements(graph: Path, night: Path, exported: dict[str, str]) -> Path:
    """The graph file of the night: the one of always, and beside its files those of the engagements, by relation."""
    tables = read_toml(graph)
    for table, key in places_of_files(tables):
        table[key] = [one if "://" in one else str(graph.parent / one) for one in listed(table[key])]
    entries = {entry["name"]: entry for entry in tables["relations"]}
    # The edges that were there before say what a weight and a time are.
    described = json.loads(twhin("data", "describe", graph, "--json"))["relations"] if exported else []
    relations = {relation["name"]: relation for relation in described}
    for name, file in exported.items():
        if name not in relations:
            sys.exit(f"{file} has edges of {name!r}, of which {graph} has none: add the relation, or keep the file")
        entry = entries.get(name) or entries["*"]
        write_as(entry, Path(file).resolve(), relations[name])
        entry["files"].append(str(Path(file).resolve()))
    text = "".join(f"{key} = {toml_of(value)}\n" for key, value in tables.items())
    (night / "graph.toml").write_text(text, encoding="utf-8")
    return night / "graph.toml"


def places_of_files(tables: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where a graph file names files, which it does relative to itself."""
    for table in (*tables["relations"], *tables["entities"].values(), tables.get("split", {})):
        for key in ("files", "attributes", "test", "valid"):
            if key in table:
                yield table, key


def listed(files: str | list[str]) -> list[str]:
    return [files] if isinstance(files, str) else files


def write_as(entry: dict[str, Any], file: Path, relation: dict[str, Any]) -> None:
    """Write an exported file anew, as the relation's own: its columns, its unit of time, the mean of its weights."""
    new = pq.read_table(file)
    columns = {entry.get(end, end): new[end] for end in ("src", "dst")}
    if "time" in entry:
        columns[entry["time"]] = pc.multiply(new["time"], per_second(relation))
    if "weight" in entry:
        columns[entry["weight"]] = pa.array(np.full(len(new), relation["weights"]["mean"]))
    if "relation_column" in entry:
        columns[entry["relation_column"]] = pa.array([relation["name"]] * len(new))
    pq.write_table(pa.table(columns), file)


def per_second(relation: dict[str, Any]) -> int:
    """How many units of a relation's times are a second, told by its last one: dates from 1973 to 5138."""
    last = relation["times"][1]
    for scale in (1, 10**3, 10**6, 10**9):
        if scale * 10**8 <= last < scale * 10**11:
            return scale
    sys.exit(f"the times of {relation['name']} go up to {last}, no date: write what the time of an edge of the day is")


class Asker:
    """Somebody who asks the service for candidates all the time, and counts what fails."""

    def __init__(self, url: str) -> None:
        self.answered, self.failed, self.slowest, self.versions = 0, 0, 0.0, set[str]()
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        with Client(self._url, retries=0, timeout=10) as client:
            while not self._over.wait(0.02):
                began = time.monotonic()
                try:
                    self.versions.add(client.recommend(str(self.answered % 1000), k=10).version)
                    self.answered += 1
                except TwhinError as error:
                    print(f"failed: {error}", file=sys.stderr)
                    self.failed += 1
                self.slowest = max(self.slowest, time.monotonic() - began)

    def told(self) -> dict[str, object]:
        """What it met, the slowest answer in milliseconds."""
        known = {"answered": self.answered, "failed": self.failed, "slowest_ms": round(1000 * self.slowest)}
        return {**known, "versions": sorted(self.versions)}

    def __enter__(self) -> "Asker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def known(client: Client, people: list[int]) -> int:
    """How many of them have a vector in the version that serves."""
    found = 0
    for person in people:
        with contextlib.suppress(EntityNotFound):
            client.embedding("user", str(person))
            found += 1
    return found


def edges(version: Path) -> dict[str, int]:
    """Edges by relation, as a version's manifest has them."""
    spaces = json.loads((version / "manifest.json").read_text(encoding="utf-8"))["spaces"]
    return {one["name"]: one["edges"] for space in spaces.values() for one in space["relations"]}


def dimensions(version: Path) -> int:
    """How long its vectors are: those that start from them must be as long."""
    spaces = json.loads((version / "manifest.json").read_text(encoding="utf-8"))["spaces"]
    return int(next(iter(spaces.values()))["dim"])


@contextlib.contextmanager
def serving(bundles: Path) -> Iterator[str]:
    """A service on a free port, looking for new versions every second."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*COMMAND, "serve", "--bundles", str(bundles), "--port", str(port)]
    environment = {**os.environ, "TWHIN_WATCH_SECONDS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            with Client(url) as client:
                deadline = time.monotonic() + 120
                while process.poll() is None and time.monotonic() < deadline:
                    with contextlib.suppress(TwhinError):
                        client.readyz()
                        break
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()


def wait_for(client: Client, version: str) -> None:
    """Until the service has changed over."""
    deadline = time.monotonic() + 300
    while client.info()["version"] != version:
        if time.monotonic() > deadline:
            sys.exit(f"the service does not change over to {version}")
        time.sleep(0.2)


def step(when: str, what: str) -> None:
    print(f"== {when}: {what}", file=sys.stderr, flush=True)


COMMAND = [sys.executable, "-m", "twhin_command"]


def twhin(*words: object) -> str:
    """Run one command as a scheduler would; what it printed. One that fails ends the night: yesterday's serves on."""
    print(f"$ twhin {' '.join(map(str, words))}", file=sys.stderr, flush=True)
    done = subprocess.run([*COMMAND, *map(str, words)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"twhin {words[0]} ended with {done.returncode}")
    return done.stdout


def sets(given: list[str]) -> list[str]:
    return [word for one in given for word in ("--set", one)]


if __name__ == "__main__":
    main()

"""Two machines for torchrun: network namespaces joined by a cable where they may be made, else this machine twice."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.servers import free_port

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Hosts:
    """How a command is run on one of two machines, and where the first one is reached."""

    prefix: tuple[list[str], list[str]] = ([], [])
    address: str = "127.0.0.1"
    jobs: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start(self, host: int, command: list[str], log: Path, **environment: str) -> "subprocess.Popen[bytes]":
        """Run a command there; what it says goes to `log`."""
        path = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with log.open("wb") as out:
            job = subprocess.Popen(
                [*self.prefix[host], *command],
                env={**os.environ, **path, **environment},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.jobs.append(job)
        return job

    def torchrun(self, directory: Path, command: list[str], processes: int = 1) -> "list[subprocess.Popen[bytes]]":
        """Start a command by an agent on each machine, so often there, the machine's number for `{host}`.

        They log to `0.log` and `1.log`.
        """
        port = str(free_port())
        agents = []
        for host in range(2):
            where = ["--nnodes", "2", "--node-rank", str(host), "--master-addr", self.address, "--master-port", port]
            where += ["--nproc-per-node", str(processes), "--no-python", "--"]
            words = [word.replace("{host}", str(host)) for word in command]
            agents.append(self.start(host, ["torchrun", *where, *words], directory / f"{host}.log"))
        return agents

    def close(self) -> None:
        """End what still runs, and all that it started."""
        for job in self.jobs:
            if job.poll() is None:
                for each in [*psutil.Process(job.pid).children(recursive=True), psutil.Process(job.pid)]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        each.send_signal(signal.SIGKILL)
            job.wait()


def namespaces_allowed() -> bool:
    """Whether this system lets us make network namespaces."""
    probe = f"twhin-{os.getpid()}-probe"
    return _ip("netns", "add", probe) and _ip("netns", "del", probe)


@contextlib.contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Two namespaces and a cable."""
    first, second = (f"twhin-{os.getpid()}-{host}" for host in range(2))
    try:
        made = all(
            _ip(*words.split())
            for words in (
                f"netns add {first}",
                f"netns add {second}",
                f"-n {first} link add cable0 type veth peer name cable1 netns {second}",
                f"-n {first} addr add 10.201.77.1/24 dev cable0",
                f"-n {second} addr add 10.201.77.2/24 dev cable1",
                f"-n {first} link set cable0 up",
                f"-n {second} link set cable1 up",
                f"-n {first} link set lo up",
                f"-n {second} link set lo up",
            )
        )
        assert made
        enter = ["ip", "netns", "exec"]
        hosts = Hosts(([*enter, first], [*enter, second]), "10.201.77.1")
        try:
            yield hosts
        finally:
            hosts.close()
    finally:
        for name in (first, second):
            _ip("netns", "del", name)


@contextlib.contextmanager
def loopback() -> Iterator[Hosts]:
    """This machine twice."""
    hosts = Hosts()
    try:
        yield hosts
    finally:
        hosts.close()


def _ip(*words: str) -> bool:
    """Whether `ip` did it."""
    if shutil.which("ip") is None:
        return False
    return subprocess.run(["ip", *words], capture_output=True, check=False).returncode == 0

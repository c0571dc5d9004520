"""Trainers on several machines, started by torchrun: how one finds its place, meets the others, hears how they end."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from bundle.errors import RunError, TwhinError, UsageError
from training.distributed.group import LONGEST_ROUND, GlooGroup, Group, SoloGroup
from training.distributed.watch import Watch, interface_towards

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import PrefixStore

# How long trainers wait for one another at the beginning; torchrun itself has waited for the machines before.
PATIENCE = timedelta(minutes=5)
INTERFACE = (
    "Where the machines reach one another by another interface than their host names say, set GLOO_SOCKET_IFNAME, "
    "on each machine, to the interface's name."
)


@dataclass(frozen=True, slots=True)
class Place:
    """One process of a job: number `rank` of `size`, and `local_rank` of the `local_size` on its machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Place | None":
        """What torchrun, or whoever else starts processes for torch.distributed, says; None where nobody did.

        Raises UsageError for what is no place among others.
        """
        needed = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        if any(name not in environment for name in needed) or environment["WORLD_SIZE"] == "1":
            return None
        local = environment.get("LOCAL_RANK", "0"), environment.get("LOCAL_WORLD_SIZE", "1")
        try:
            place = cls(*map(int, (environment["RANK"], environment["WORLD_SIZE"], *local)))
            known = place.rank in range(place.size) and place.local_rank in range(place.local_size)
            if int(environment["MASTER_PORT"]) in range(1 << 16) and known:
                return place
        except ValueError:
            pass
        raise UsageError(
            f"The variables {', '.join(needed)}, LOCAL_RANK and LOCAL_WORLD_SIZE say which trainer this is, "
            "but are not what torchrun sets. Start it by torchrun, or to train alone unset them."
        )

    def in_order(self) -> bool:
        """Whether it is where it would be if all machines had as many trainers, ranked machine by machine."""
        return self.rank % self.local_size == self.local_rank and self.size % self.local_size == 0


@contextmanager
def met(environment: Mapping[str, str]) -> Iterator[Group]:
    """The group that this process belongs to, all of whose trainers have come; a process by itself is alone.

    What ends one with an error ends all of them with it. Raises RunError where some do not come.
    """
    place = Place.of(environment)
    if place is None:
        yield SoloGroup()
        return
    group = TorchrunGroup(place)
    try:
        yield group
    except BaseException as error:
        group.tell(error)
        raise
    group.leave()


class TorchrunGroup(GlooGroup):
    """See Group. It trains on `machines` of as many trainers each, ranked machine by machine; where they are not so,
    each trainer counts as a machine."""

    apart = True

    def __init__(self, place: Place, patience: timedelta = PATIENCE) -> None:
        """Wait for all trainers. Raises RunError naming those that do not come."""
        import torch.distributed as dist

        self.rank, self.size, self.local_rank, self.local_size = (
            place.rank, place.size, place.local_rank, place.local_size,
        )  # fmt: skip
        self.hosts, store = _present(place, patience)
        self._watch = Watch(place.rank, place.size, self.hosts, store, os.environ["MASTER_ADDR"])
        try:
            # Where the group of all found a way this does. It may wait for as long as a round takes.
            self._calls = dist.new_group(backend="gloo", timeout=LONGEST_ROUND)
        except RuntimeError as error:
            raise self.lost() from error
        alike = np.array([self.local_size, -self.local_size, int(not place.in_order())])
        self.most(alike)
        most, minus_least, disorder = alike.tolist()
        self.machines = self.size if disorder or most != -minus_least else self.size // most

    def check(self) -> None:
        """See Group."""
        if self._watch.failed():
            raise self.lost()

    def wait(self) -> None:
        """Return when all are here."""
        self.most(np.zeros(1, dtype=np.int64))

    def gathered(self, text: str) -> list[str]:
        """What every trainer says, by rank."""
        said = np.frombuffer(text.encode(), dtype=np.uint8)
        longest = np.array([len(said)])
        self.most(longest)
        rows = np.zeros((self.size, int(longest[0])), dtype=np.int64)
        rows[self.rank, : len(said)] = said
        self.most(rows)
        return [row.astype(np.uint8).tobytes().rstrip(b"\0").decode() for row in rows]

    def lost(self) -> TwhinError:
        """Why another trainer is gone, in its own words where it had any."""
        return self._watch.error()

    def tell(self, error: BaseException) -> None:
        """Let the others know why this one ends."""
        self._watch.tell(error)

    def leave(self) -> None:
        """Say goodbye, and return when all the others have."""
        self._watch.leave()
        super().leave()


def _present(place: Place, patience: timedelta) -> tuple[list[str], "PrefixStore"]:
    """Join the job; the host names of all trainers, when they have, and the store that they share.

    Raises RunError naming who does not come.
    """
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # torchrun's first agent keeps the store; without an agent the first trainer does.
    serves = place.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    missing = list(range(place.size))
    try:
        _choose_interface(address, port)
        server = dist.TCPStore(  # type: ignore[attr-defined]
            address, port, is_master=serves, timeout=patience, wait_for_workers=False, multi_tenant=True
        )
        store = PrefixStore("twhin", server)
        store.set(str(place.rank), socket.gethostname())
        for other in range(place.size):
            store.wait([str(other)], patience)
            missing.remove(other)
        hosts = [store.get(str(other)).decode() for other in range(place.size)]
        dist.init_process_group("gloo", store=store, rank=place.rank, world_size=place.size, timeout=patience)
    except (RuntimeError, OSError) as error:
        if not missing:
            raise RunError(f"Trainer {place.rank} found no way to the others: {error!s:.300} {INTERFACE}") from error
        names = ", ".join(map(str, missing))
        raise RunError(
            f"Trainer {place.rank} of {place.size} waited {patience.total_seconds():.0f} s for the trainers {names}. "
            "Start the same command on every machine, with its own --node-rank, and see that each reaches "
            "--master-addr by --master-port."
        ) from error
    return hosts, store


def _choose_interface(address: str, port: int) -> None:
    """Tell gloo the interface towards the first trainer: by itself it takes that of the machine's host name."""
    import psutil

    if "GLOO_SOCKET_IFNAME" in os.environ:
        return
    found = {name: [each.address for each in has] for name, has in psutil.net_if_addrs().items()}
    name = interface_towards(address, port, found)
    if name is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = name

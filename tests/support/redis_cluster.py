"""A real Redis Cluster of several redis-servers on free ports, whose nodes a test may kill and start again."""

import time
from collections.abc import Callable
from pathlib import Path

from tests.support.servers import RedisServer, free_port

NODE_TIMEOUT_MS = 1000


class RedisClusterServers:
    """`primaries` nodes that share the slots, and `replicas` more, of the first of them.

    A node that is down is down for its own slots alone.
    """

    def __init__(self, directory: Path, primaries: int = 3, replicas: int = 0) -> None:
        self._buses: list[int] = []
        self.nodes = [self._node(directory / f"node-{number}") for number in range(primaries + replicas)]
        self.primaries, self.replicas = self.nodes[:primaries], self.nodes[primaries:]
        first, step = self.nodes[0], 16_384 // primaries
        for number, node in enumerate(self.primaries):
            end = 16_383 if number == primaries - 1 else (number + 1) * step - 1
            node.command("CLUSTER", "ADDSLOTSRANGE", str(number * step), str(end))
            node.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for node in self.nodes[1:]:
            node.command("CLUSTER", "MEET", "127.0.0.1", str(first.port), str(self._buses[0]))
        self.wait_until(lambda: self._all_say("CLUSTER INFO", f"cluster_known_nodes:{len(self.nodes)}"))
        for replica in self.replicas:
            replica.command("CLUSTER", "REPLICATE", first.command("CLUSTER", "MYID"))
        self.wait_until(lambda: self._all_say("CLUSTER INFO", "cluster_state:ok"))
        self.wait_until(self.is_whole)

    def _node(self, directory: Path) -> RedisServer:
        directory.mkdir()
        self._buses.append(free_port())
        options = {
            "--cluster-enabled": "yes",
            "--cluster-port": str(self._buses[-1]),
            "--cluster-node-timeout": str(NODE_TIMEOUT_MS),
            "--cluster-require-full-coverage": "no",
            "--cluster-replica-validity-factor": "0",
            "--repl-diskless-sync-delay": "0",
        }
        return RedisServer(directory, [word for pair in options.items() for word in pair])

    @property
    def url(self) -> str:
        """Names two of the nodes."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    def is_whole(self) -> bool:
        """Every node says that every primary has its slots and every replica follows."""
        ports = [str(node.port) for node in self.nodes]
        told = [node.command("CLUSTER", "SLOTS").split() for node in self.nodes]
        following = all("master_link_status:up" in node.command("INFO", "replication") for node in self.replicas)
        return following and all(port in words for port in ports for words in told)

    def _all_say(self, command: str, words: str) -> bool:
        return all(words in node.command(*command.split()) for node in self.nodes)

    def own_lines(self) -> list[str]:
        """What each primary says of itself, with when others heard of it last."""
        told = [node.command("CLUSTER", "NODES").splitlines() for node in self.primaries]
        return [next(line for line in lines if "myself" in line) for lines in told]

    @staticmethod
    def wait_until(done: Callable[[], bool], seconds: float = 30) -> None:
        """Wait for the cluster to agree."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise RuntimeError("the Redis Cluster did not agree")
            time.sleep(0.05)

    def close(self) -> None:
        """Kill all that live."""
        for node in self.nodes:
            node.kill()

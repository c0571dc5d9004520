"""How many partitions follow from the host's memory, the device's, and the number of trainers."""

from collections import deque
from pathlib import Path

import numpy as np
import pytest

from bundle.errors import ConfigError
from bundle.ids import IntIds
from bundle.prepared import PreparedGraph
from bundle.sharded import deal
from tests.support.graphs import Links, distinct_pairs, ids, write_graph
from tests.support.memory import peak_bytes
from training.backends.torch_tables import DevicePlacement
from training.config import TrainConfig
from training.export import places_in_order
from training.memory import PLACE_BYTES, choose_partitions, device_need
from training.partition import group_shards

CONFIG = TrainConfig(dim=64, chunk=4, negatives_in_batch=0, negatives_uniform=4, threads=1)


@pytest.fixture
def graph(tmp_path: Path) -> PreparedGraph:
    """20,000 nodes of 64 floats, 5 MiB of tables, and 50,000 edges."""
    pairs = distinct_pairs(20_000, 20_000, 50_000, np.random.default_rng(1))
    return write_graph(tmp_path, {"node": ids(20_000)}, [Links("links", "node", "node", pairs)])


def test_a_device_with_room_for_everything_holds_one_partition(graph: PreparedGraph) -> None:
    assert choose_partitions(graph, CONFIG, None) == 1
    assert choose_partitions(graph, CONFIG, device_need(graph, CONFIG, 1)) == 1


def test_a_smaller_device_gets_as_few_partitions_as_it_can_hold(graph: PreparedGraph) -> None:
    room = device_need(graph, CONFIG, 1) // 3
    partitions = choose_partitions(graph, CONFIG, room)
    assert device_need(graph, CONFIG, partitions) <= room < device_need(graph, CONFIG, partitions - 1)
    with pytest.raises(ConfigError, match="needs at least"):
        choose_partitions(graph, CONFIG, 1000)
    with pytest.raises(ConfigError, match="needs at least"):
        choose_partitions(graph, CONFIG.model_copy(update={"partitions": 2}), room)


def test_trainers_get_two_partitions_each_or_a_multiple(graph: PreparedGraph) -> None:
    config = CONFIG.model_copy(update={"devices": 3})
    assert choose_partitions(graph, config, None) == 6
    partitions = choose_partitions(graph, config, device_need(graph, config, 6) - 1)
    assert partitions > 6
    assert partitions % 6 == 0
    assert choose_partitions(graph, config.model_copy(update={"partitions": 7}), None) == 7


def test_a_trainer_gets_its_share_of_the_machine() -> None:
    config = TrainConfig(device="cuda", devices=4, threads=9, memory=4_000)
    share = config.share(3, 4)
    assert (share.device, share.threads, share.memory) == ("cuda:3", 2, 1_000)
    assert CONFIG.share(0, 1) == CONFIG


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be used here: .*docs/gpu.md"):
        DevicePlacement.of(device)


def test_the_processor_has_no_room_of_its_own() -> None:
    assert DevicePlacement.of("cpu").free_bytes() is None


def test_writing_tables_in_the_order_of_rows_takes_what_is_counted() -> None:
    """The state of every row, four bytes, lies beside its place."""
    rows = 500_000
    groups = group_shards(deal(IntIds(np.arange(rows, dtype=np.int64)), 256).rows, 8, 1)
    written = sum(len(local) for _, _, local in places_in_order(groups, 1000))
    assert written == rows
    peak = peak_bytes(lambda: deque(places_in_order(groups, 1000), maxlen=0))
    assert peak < 1.1 * rows * (PLACE_BYTES - 4)

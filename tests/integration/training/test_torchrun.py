"""One graph on several machines, for real: processes started by torchrun's agents, that meet by gloo, in two network
namespaces where the system allows them."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import numpy as np
import psutil
import pytest

from bundle.errors import ConfigError, RunError, UsageError
from bundle.prepared import PreparedGraph
from bundle.run import RunRecord, open_run
from evaluation.links import evaluate_links
from graph.prepare import prepare
from tests.integration.training.conftest import circle_edges, write_circles
from tests.support.hosts import Hosts, loopback, namespaces_allowed, two_hosts
from tests.support.servers import free_port
from training.checkpoint import Checkpoint, read_checkpoint
from training.config import TrainConfig
from training.distributed.agreement import Report, check_alike, check_left, check_new
from training.distributed.torchrun import Place, _present
from training.memory import MIB, choose_blocks
from training.train import train

TABLES = Path("checkpoint/tables")
# An epoch's figures are even only by the hundreds of shards.
EVEN = 0.1
CHILD = """
import json, os, sys
from pathlib import Path
from bundle.errors import TwhinError
from bundle.prepared import load_prepared
from training.config import TrainConfig
from training.distributed.torchrun import met
from training.resume import only_trainer
from training.train import train_locked

graph, run, config = sys.argv[1:]
try:
    with met(os.environ) as group, only_trainer(Path(run)):
        train_locked(load_prepared(Path(graph)), Path(run), TrainConfig.model_validate_json(config), group=group)
except TwhinError as error:
    print(f"{error.code}: {error}")
    sys.exit(error.exit_status)
"""
TRAVEL = """
import os, sys
import numpy as np
from training.distributed.torchrun import met
from training.distributed.wire import Move, Wire

def moves(rank, size, letter):
    pairs = [(a, b) for a in range(size) for b in range(size) if a != b and rank in (a, b)]
    for source, target in pairs:
        for length in (3, 0, 100_000):
            value = 100 * letter + 10 * source + target if source == rank else -1
            yield Move(np.full((length, 2), value, dtype=np.float32), source, target)

with met(os.environ) as group:
    print(f"{group.machines} machines")
    for copies in (False, True):
        wire = Wire(group, "cpu", copies)
        letters = [list(moves(group.rank, group.size, letter)) for letter in range(3)]
        exchanges = [wire.exchange(letter) for letter in letters]
        for letter in (2, 0, 1):
            exchanges[letter].wait()
            for move in letters[letter]:
                assert (move.array == 100 * letter + 10 * move.source + move.target).all(), (copies, letter, move)
        print("sent", *wire.sent)
"""
SETTINGS = {"dim": 16, "chunk": 32, "negatives_in_batch": 0, "negatives_uniform": 64, "threads": 1}


def circles_as_files(path: Path) -> Path:
    """The small world as edge files and a graph.toml."""
    path.mkdir()
    for name, edges in circle_edges(np.random.default_rng(7)).items():
        lines = "".join(f"{src},{dst}\n" for src, dst in edges.tolist())
        (path / f"{name}.csv").write_text("src,dst\n" + lines, encoding="utf-8")
    relation = '[[relations]]\nname = "{0}"\nsource = "user"\ntarget = "{1}"\nfiles = "{0}.csv"\n'
    split = '[split]\nrelation = "follows"\nby = "random"\nfraction = 0.1\nseed = 1\n'
    types = '[entities.user]\nid = "int64"\n[entities.item]\nid = "int64"\n'
    text = types + relation.format("follows", "user") + relation.format("likes", "item") + split
    (path / "graph.toml").write_text(text, encoding="utf-8")
    return path / "graph.toml"


def command(graph: Path, run: Path, epochs: int, *more: str) -> list[str]:
    """`twhin train` on each host in its own run directory, with a checkpoint whenever trainers meet."""
    given = {**SETTINGS, "epochs": epochs, "checkpoint_seconds": 1e-6}
    words = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    return ["twhin", "train", str(graph), "--run", f"{run}-{{host}}", *words, *more]


def ended(agents: "list[subprocess.Popen[bytes]]") -> list[int]:
    return [agent.wait(300) for agent in agents]


def trainer_of(agent: "subprocess.Popen[bytes]", rank: int) -> psutil.Process:
    """A process that an agent started."""
    children = psutil.Process(agent.pid).children(recursive=True)
    return next(each for each in children if each.environ().get("RANK") == str(rank) and "train" in each.cmdline())


def killed_in_an_epoch(hosts: Hosts, directory: Path, graph: Path, run: Path, processes: int) -> int:
    """Train, end the second machine's last trainer when some epochs are done, and give the epoch of the checkpoint."""
    agents, last = hosts.torchrun(directory, command(graph, run, 10_000), processes), 2 * processes - 1
    while True:
        checkpoint = read_checkpoint(run.with_name(f"{run.name}-1") / TABLES)
        if checkpoint is not None and checkpoint.position.epoch >= 2 and checkpoint.position.step:
            break
        assert all(agent.poll() is None for agent in agents), said(directory)
        time.sleep(0.01)
    trainer_of(agents[1], last).kill()
    assert 0 not in ended(agents)
    log = said(directory)
    assert f"twhin: Trainer {last} of {last + 1} (" in log
    assert "is gone: its process was ended, or its machine. The last checkpoint is intact" in log
    found = read_checkpoint(run.with_name(f"{run.name}-0") / TABLES)
    assert found is not None
    return found.position.epoch


def expected_bytes(graph: PreparedGraph, dim: int, machines: int) -> tuple[float, float]:
    """What all machines together send in the first epoch, and in each further one, where shards change place before.

    A machine gets a block each day but the first; before, of the two that it begins with, what others had.
    """
    tables = sum(entity.count for entity in graph.entities) * (dim + 1) * 4
    days = (2 * machines - 2) / (2 * machines) * tables * machines
    return days, days + (machines - 1) / machines * tables


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("machines", [two_hosts if namespaces_allowed() else loopback], ids=lambda each: each.__name__)
def test_two_machines_learn_as_one_and_go_on_where_one_of_them_died(
    machines: Callable[[], AbstractContextManager[Hosts]], processes: int, tmp_path: Path
) -> None:
    """Killed and resumed in two network namespaces (where the system has none for us, on loopback), then undisturbed on
    loopback: bit for bit the same, learnt as well as by one process, with as many bytes sent as the order gives."""
    toml = circles_as_files(tmp_path / "data")
    graph = tmp_path / "prepared"
    prepared = prepare(toml, graph)
    for folder in ("killed", "resumed", "straight"):
        (tmp_path / folder).mkdir()
    with machines() as hosts:
        epochs = killed_in_an_epoch(hosts, tmp_path / "killed", graph, tmp_path / "run", processes) + 4
        for one, other in (("run-0", "aside"), ("run-1", "run-0"), ("aside", "run-1")):  # they have changed places
            (tmp_path / one).rename(tmp_path / other)
        again = command(graph, tmp_path / "run", epochs, "--resume")
        assert ended(hosts.torchrun(tmp_path / "resumed", again, processes)) == [0, 0], said(tmp_path / "resumed")
    with loopback() as hosts:  # prepared on each machine from the edge files
        alone = command(toml, tmp_path / "straight" / "run", epochs)
        assert ended(hosts.torchrun(tmp_path / "straight", alone, processes)) == [0, 0], said(tmp_path / "straight")
    run = tmp_path / "straight" / "run-0"
    learnt = open_run(run)
    assert learnt.record.edges_seen == epochs * sum(len(relation.train) for relation in prepared.relations)
    for file in [*sorted(run.glob("vectors/*.npy")), *sorted(run.glob("optimizer/*.npy")), run / "relations.npy"]:
        np.testing.assert_array_equal(np.load(tmp_path / "run-0" / file.relative_to(run)), np.load(file))
    left = {path.name for path in (tmp_path / "run-1").iterdir()}
    assert left.isdisjoint({"run.json", "vectors", "checkpoint"}), "the run is on the first machine alone"
    train(prepared, tmp_path / "one", TrainConfig(**SETTINGS, epochs=epochs, partitions=8 * processes))
    assert evaluate_links(run).overall.mean_rank < 1.1 * evaluate_links(tmp_path / "one").overall.mean_rank
    check_bytes(prepared, run / "metrics.jsonl", processes)


def said(directory: Path) -> str:
    """What the trainers of the first machine said."""
    return (directory / "0.log").read_text()


def check_bytes(graph: PreparedGraph, metrics: Path, processes: int) -> None:
    """Between machines as many as the order of machines gives, whatever they divide among their trainers."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    ends = [line for line in lines if "bytes_sent" in line]
    sent = np.diff([0, *(line["bytes_sent"] for line in ends)])
    first, further = expected_bytes(graph, SETTINGS["dim"], 2)
    assert abs(sent[0] / first - 1) < EVEN
    assert np.all(np.abs(sent[1:] / further - 1) < EVEN), sent
    assert (ends[-1]["bytes_within"] > 0) == (processes > 1)


def ends_of(script: str, run: Path, given: list[list[str]], local: list[tuple[int, int]]) -> list[tuple[int, str]]:
    """How trainers end that run a script, and what they say; nobody is their agent. `given`: what each is given,
    `local`: its number among those of its machine."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(len(given))}
    with loopback() as hosts:
        jobs = []
        for rank, (own, (number, count)) in enumerate(zip(given, local, strict=True)):
            mine = {"RANK": str(rank), "LOCAL_RANK": str(number), "LOCAL_WORLD_SIZE": str(count)}
            log = run.with_name(f"{run.name}-{rank}.log")
            jobs.append(hosts.start(0, [sys.executable, "-c", script, *own], log, **mine, **place))
        ends = ended(jobs)
    return [(end, run.with_name(f"{run.name}-{rank}.log").read_text()) for rank, end in enumerate(ends)]


def trained(graphs: list[Path], run: Path, config: TrainConfig) -> list[tuple[int, str]]:
    """How trainers with these copies of a graph end, each on a machine of its own."""
    given = [[str(graph), f"{run}-{rank}", config.model_dump_json()] for rank, graph in enumerate(graphs)]
    return ends_of(CHILD, run, given, [(0, 1)] * len(graphs))


@pytest.mark.parametrize(
    ("local", "machines", "within", "across"),
    [([(0, 2), (1, 2), (0, 2), (1, 2)], 2, 1, 2), ([(0, 2), (1, 2), (0, 1)], 3, 0, 2)],
    ids=["two levels", "unequal machines"],
)
def test_arrays_arrive_in_their_order_also_as_copies(
    local: list[tuple[int, int]], machines: int, within: int, across: int, tmp_path: Path
) -> None:
    """Several exchanges under way at once, to every other trainer, so many of them on the machine and elsewhere.

    Where machines are unequal each trainer counts as one.
    """
    to_each = 3 * (3 + 100_000) * 2 * 4
    sent = f"sent {within * to_each} {across * to_each}\n"
    ends = ends_of(TRAVEL, tmp_path / "run", [[]] * len(local), local)
    assert ends == [(0, f"{machines} machines\n{sent}{sent}")] * len(local)


@pytest.mark.slow
def test_three_machines_train_without_an_agent(circles: PreparedGraph, tmp_path: Path) -> None:
    """Whoever sets the variables may start them; three have rounds in which nobody gives back what it just got."""
    config = TrainConfig(**SETTINGS, epochs=5)
    assert trained([circles.path] * 3, tmp_path / "run", config) == [(0, "")] * 3
    record = open_run(tmp_path / "run-0").record
    assert record.edges_seen == 5 * sum(len(relation.train) for relation in circles.relations)
    train(circles, tmp_path / "one", config)
    assert evaluate_links(tmp_path / "run-0").overall.mrr > 0.8 * evaluate_links(tmp_path / "one").overall.mrr


def test_what_ends_one_trainer_ends_the_others_with_its_words(circles: PreparedGraph, tmp_path: Path) -> None:
    """A damaged copy is found after they have agreed, when the others have begun."""
    write_circles(tmp_path / "damaged")
    rows = np.load(tmp_path / "damaged" / "edges" / "000.src.npy")
    rows[5] = 10**6
    np.save(tmp_path / "damaged" / "edges" / "000.src.npy", rows)
    said = trained([circles.path, tmp_path / "damaged"], tmp_path / "run", TrainConfig(**SETTINGS))
    assert [end for end, _ in said] == [RunError.exit_status] * 2, said
    fault = r"The prepared graph is damaged: .*000\.src\.npy"
    assert re.match(rf"run_invalid: Trainer 1 of 2 \(.+\) failed: {fault}", said[0][1])
    assert re.match(rf"run_invalid: {fault}", said[1][1])


def report(**other: object) -> Report:
    same = {"release": "1", "graph": "a" * 64, "config": {"dim": 8}, "warm_start": None, "resume": False}
    return Report.model_validate({**same, "finished": None, "committed": False, "marks": [], **other})


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"release": "2"}, "runs release 2, trainer 0 1"),
        ({"graph": "b" * 64}, "has the graph bbbbbbbbbbbb…, trainer 0 aaaaaaaaaaaa…: prepare it once"),
        ({"config": {"dim": 4}}, "has other settings than trainer 0: dim"),
        ({"warm_start": "old"}, "has another --warm-start than trainer 0"),
        ({"resume": True}, "was started with --resume and trainer 0 without"),
    ],
)
def test_trainers_are_about_the_same(other: dict[str, object], said: str) -> None:
    check_alike([report(), report()], ["a", "b"])
    with pytest.raises(UsageError, match=rf"Trainer 2 \(c\) {said}.*Start the same command"):
        check_alike([report(), report(), report(**other)], ["a", "b", "c"])


def test_a_checkpoint_is_of_all_or_of_none() -> None:
    check_new([report(), report(marks=["next"])], ["a", "b"], resume=True)  # that nobody completed is not used
    lost = [report(committed=True, marks=["one"]), report()]
    with pytest.raises(RunError, match=r"no checkpoint in common: 1 \(b\) lacks what the others have"):
        check_new(lost, ["a", "b"], resume=True)
    with pytest.raises(UsageError, match="Add --resume"):
        check_new(lost, ["a", "b"], resume=False)


def test_a_finished_run_takes_no_checkpoint_of_another_with_it() -> None:
    """Machines changed places: the first has what was finished before, the second what is not finished."""
    graph, config = "a" * 64, TrainConfig(dim=16).model_dump(mode="json")
    done = RunRecord(format_version=1, graph_digest=graph, config=config, config_digest="", dim=16)
    state = {"config": config, "partitions": 4, "dealt": 0, "parent": None, "relations": 1, "generations": {}}
    left = Checkpoint.model_validate({**state, "graph_digest": graph, "position": {}})
    check_left(Path("run"), None, done)
    check_left(Path("run"), left, done)
    for other in ({"graph_digest": "b" * 64}, {"config": {**config, "dim": 8}}, {"parent": "old"}):
        with pytest.raises(UsageError, match="run holds an unfinished run, and another trainer's directory"):
            check_left(Path("run"), left.model_copy(update=other), done)


def test_a_trainer_that_nobody_joins_says_who_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    with pytest.raises(RunError, match=r"Trainer 0 of 3 waited 1 s for the trainers 1, 2\. Start the same command"):
        _present(Place(0, 3, 0, 1), timedelta(seconds=1))


def test_only_whom_somebody_started_with_others_is_one_of_several() -> None:
    given = {"RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "a", "MASTER_PORT": "1", "LOCAL_RANK": "1"}
    assert Place.of({**given, "LOCAL_WORLD_SIZE": "4"}) == Place(5, 8, 1, 4)
    assert Place.of({**given, "WORLD_SIZE": "1"}) is None
    assert Place.of({name: value for name, value in given.items() if name != "MASTER_ADDR"}) is None
    for wrong in ({"RANK": ""}, {"RANK": "8"}, {"WORLD_SIZE": "two"}, {"MASTER_PORT": "tcp"}, {"LOCAL_RANK": "2"}):
        with pytest.raises(UsageError, match="to train alone unset them"):
            Place.of({**given, **wrong})


def test_blocks_are_as_few_as_leave_one_travelling_and_as_many_as_shards_allow(circles: PreparedGraph) -> None:
    config = TrainConfig(dim=16)
    assert choose_blocks(circles, config, None, 2) == 8
    assert choose_blocks(circles, config, None, 32) == 64
    assert choose_blocks(circles, config.model_copy(update={"partitions": 4}), None, 2) == 4
    with pytest.raises(ConfigError, match=r"the graph's 256 shards allow 64 partitions\. Start 32 trainers or fewer"):
        choose_blocks(circles, config, None, 33)
    with pytest.raises(ConfigError, match="partitions is 6, expected a multiple of 4"):
        choose_blocks(circles, config.model_copy(update={"partitions": 6}), None, 2)
    with pytest.raises(ConfigError, match="One of 2 trainers needs"):
        choose_blocks(circles, config.model_copy(update={"memory": MIB}), None, 2)
    with pytest.raises(ConfigError, match="One of 2 trainers needs"):
        choose_blocks(circles, config, 1000, 2)

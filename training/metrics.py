"""What a run reports while it goes: `metrics.jsonl`, one object a line, and TensorBoard where it is asked for."""

import importlib.util
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from bundle.disk import append_line
from bundle.errors import ConfigError
from training.config import TrainConfig

Values = Mapping[str, float | int | str]


@runtime_checkable
class Sink(Protocol):
    """Takes measurements."""

    def write(self, values: Values) -> None:
        """Record one measurement; `edges` is its place on the axis."""
        ...


class JsonLines:
    """Appends to `metrics.jsonl`; every line is on disk when `write` returns, and none is cut short."""

    def __init__(self, path: Path, fresh: bool) -> None:
        self._path = path
        if fresh:
            path.unlink(missing_ok=True)

    def write(self, values: Values) -> None:
        """See Sink."""
        append_line(self._path, json.dumps({"time": round(time.time(), 3), **values}))


class TensorBoard:
    """Writes scalars for TensorBoard, which must be installed beside torch."""

    def __init__(self, path: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(path))

    def write(self, values: Values) -> None:
        """See Sink."""
        for name, value in values.items():
            if name != "edges" and not isinstance(value, str):
                self._writer.add_scalar(name, value, values["edges"])
        self._writer.flush()


class Sinks:
    """Several sinks as one."""

    def __init__(self, sinks: list[Sink]) -> None:
        self._sinks = sinks

    def write(self, values: Values) -> None:
        """See Sink."""
        for sink in self._sinks:
            sink.write(values)


def require_sinks(config: TrainConfig) -> None:
    """Raise ConfigError where a package is missing that the settings need to report."""
    if config.tensorboard and not all(importlib.util.find_spec(name) for name in ("torch", "tensorboard")):
        raise ConfigError("tensorboard = true needs the packages torch and tensorboard. Install them or leave it out.")


def open_sink(run_dir: Path, config: TrainConfig, *, fresh: bool) -> Sink:
    """Where a run's metrics go: always `metrics.jsonl`; `fresh` begins it anew."""
    require_sinks(config)
    sinks: list[Sink] = [JsonLines(run_dir / "metrics.jsonl", fresh)]
    if config.tensorboard:
        sinks.append(TensorBoard(run_dir / "tensorboard"))
    return Sinks(sinks)

"""The settings of a training run: one closed table, each field with its unit, its default and its limits."""

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ByteSize, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from bundle.errors import ConfigError
from bundle.prepared import PreparedGraph
from bundle.records import Settings, settings_faults


class TrainConfig(Settings):
    """Everything a run can be told; unknown keys are refused."""

    dim: int = Field(128, ge=1, le=4096, description="length of every vector (floats)")
    epochs: int = Field(8, ge=1, le=10_000, description="passes over all training edges")
    loss: Literal["softmax", "logistic"] = Field(
        "softmax", description="sampled softmax, or the paper's eq. 2 (logistic)"
    )
    inverse_relations: bool = Field(
        True, description="a second vector per relation for ranking sources; false: the paper's single one"
    )
    chunk: int = Field(64, ge=1, le=4096, description="edges that share one set of negatives")
    negatives_in_batch: int = Field(
        64, ge=0, le=4096, description="negatives per direction taken from the chunk's own edges (at most `chunk`)"
    )
    negatives_uniform: int = Field(
        448, ge=0, le=100_000, description="negatives per direction drawn uniformly from the entity type"
    )
    negatives_prevalence: int = Field(
        0, ge=0, le=100_000, description="negatives per direction drawn in proportion to their number of edges"
    )
    masks: Literal["all", "chunk"] = Field(
        "all",
        description="true pairs that are no negatives: all of the graph's, or those that the chunk's own edges show",
    )
    chunks_per_update: int = Field(
        1, ge=1, le=4096, description="chunks whose gradients are added up before the tables change"
    )
    learning_rate: float = Field(0.1, gt=0, description="step of row-wise Adagrad on entities")
    relation_learning_rate: float | None = Field(
        None, gt=0, description="step of Adagrad on relation vectors; default: the entities' learning rate"
    )
    l2: float = Field(0.0, ge=0, description="pull of every touched row to zero: adds l2·‖θ‖² to an update's loss")
    init_scale: float = Field(
        0.1, gt=0, description="standard deviation of a new entity's length: each coordinate has init_scale/sqrt(dim)"
    )
    relation_weights: dict[str, Annotated[float, Field(ge=0, le=1e9)]] = Field(
        default_factory=dict, description="factor on the loss of each named relation's edges; default 1"
    )
    edge_weights: bool = Field(
        True, description="multiply an edge's loss by its weight, scaled to mean 1 in its relation"
    )
    seed: int = Field(1, ge=0, lt=2**63, description="start of every random stream")
    threads: int = Field(0, ge=0, le=1024, description="threads that train; 0: one for each core")
    partitions: int = Field(0, ge=0, le=1024, description="P of Algorithm 1; 0: as few as `memory` allows")
    memory: ByteSize | None = Field(
        None, description='resident memory the process may use, such as "8GiB"; default: no limit'
    )
    checkpoint_seconds: float = Field(120.0, gt=0, description="seconds between checkpoints")
    l2_previous: float = Field(
        0.0,
        ge=0,
        description="pull to the warm start's vectors: adds l2_previous·‖θ − θ_prev‖² to an update's loss",
    )
    warm_shrink: float = Field(
        1.0,
        gt=0,
        le=1,
        description="factor on a warm start's vectors; below 1 a grown graph is learnt better, and vectors move more",
    )
    tensorboard: bool = Field(False, description="also write scalars for TensorBoard, which must be installed")
    backend: Literal["auto", "compiled", "torch"] = Field(
        "auto", description="the compiled kernel, plain torch, or the first of them that works here"
    )
    products: Literal["auto", "float32", "int16", "bfloat16"] = Field(
        "auto",
        description="numbers that are multiplied: int16 in the kernel, bfloat16 in torch, float32 in both; tables stay "
        "float32; auto: int16 where the processor has VNNI, else float32",
    )
    device: str = Field("cpu", description="cpu, or a torch device such as cuda or cuda:1")
    devices: int = Field(
        1, ge=1, le=64, description="processes that train together, each on a GPU or on its share of the cores"
    )

    @model_validator(mode="after")
    def _require_negatives(self) -> "TrainConfig":
        """Of a chunk's own edges each has the others' ends; of one edge alone there are none."""
        own = min(self.negatives_in_batch, self.chunk - 1)
        if not own and not self.negatives_uniform and not self.negatives_prevalence:
            raise PydanticCustomError(
                "negatives", "no edge has a negative: nothing would be learnt. Raise negatives_uniform"
            )
        return self

    @property
    def thread_count(self) -> int:
        """Threads that train."""
        return self.threads or os.cpu_count() or 1

    def share(self, rank: int, size: int, spoken_for: int = 0) -> "TrainConfig":
        """What one of `size` processes of a machine works with: its GPU, its threads, its part of the memory.

        `spoken_for`: bytes of the memory that the process which started them holds.
        """
        if size == 1:
            return self
        device = f"cuda:{rank}" if self.device == "cuda" else self.device
        memory = None if self.memory is None else max(0, self.memory - spoken_for) // size
        threads = max(1, self.thread_count // size)
        return self.model_copy(update={"device": device, "threads": threads, "memory": memory})

    def digest(self) -> str:
        """Sha256 of all fields in canonical JSON."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def parse_config(data: dict[str, object], where: str) -> TrainConfig:
    """Check settings that came from `where`. Raises ConfigError naming every bad key."""
    try:
        return TrainConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{where}: {settings_faults(TrainConfig, error)} See docs/training.md.") from error


def require_warm_start(config: TrainConfig, warm_start: Path | None) -> None:
    """Raise ConfigError for settings of a warm start without one."""
    if warm_start is None and (config.l2_previous or config.warm_shrink < 1):
        raise ConfigError(
            "l2_previous and warm_shrink are of warm starts: name a version with --warm-start, or leave them out."
        )


def relation_weights(prepared: PreparedGraph, config: TrainConfig) -> npt.NDArray[np.float32]:
    """The factor on each relation's loss. Raises ConfigError for a relation that the graph does not have."""
    unknown = set(config.relation_weights) - {relation.name for relation in prepared.relations}
    if unknown:
        raise ConfigError(f"relation_weights names {sorted(unknown)}, which the graph does not have.")
    weights = np.array([config.relation_weights.get(r.name, 1.0) for r in prepared.relations], dtype=np.float32)
    trained = [weight for weight, relation in zip(weights, prepared.relations, strict=True) if len(relation.train)]
    if trained and not any(trained):
        raise ConfigError("relation_weights makes every relation with training edges weigh 0: nothing would be learnt.")
    return weights

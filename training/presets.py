"""Settings for one kind of graph, chosen together on validation edges, to begin with in place of the defaults."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Preset(StrEnum):
    """The kinds of graphs that there are settings for."""

    knowledge_graph = "knowledge-graph"


# Where they come from: docs/experiments.md, "A preset for knowledge graphs".
SETTINGS: Mapping[Preset, Mapping[str, object]] = MappingProxyType(
    {
        Preset.knowledge_graph: MappingProxyType(
            {
                "epochs": 14,
                "learning_rate": 0.05,
                "init_scale": 0.01,
                "chunk": 256,
                "negatives_uniform": 1000,
                "negatives_in_batch": 0,
                "masks": "chunk",
            }
        )
    }
)

"""Which settings a search tries: those it starts with, then variations of them, drawn by a seed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from bundle.errors import ConfigError
from training.config import parse_config

Settings = Mapping[str, object]
# What each setting may be. `epochs` is no part: every trial tells after which number it was best.
SPACE: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "dim": (64, 128, 256),
        "loss": ("softmax", "logistic"),
        "inverse_relations": (True, False),
        "chunk": (64, 128, 256, 512),
        "negatives_in_batch": (0, 64),
        "negatives_uniform": (128, 256, 448, 1000, 2000),
        "negatives_prevalence": (0, 64, 256),
        "masks": ("all", "chunk"),
        "learning_rate": (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3),
        "relation_learning_rate": (None, 0.01, 0.03, 0.1, 0.3),
        "init_scale": (0.01, 0.1, 1.0),
        "l2": (0.0, 0.0001, 0.001, 0.01),
    }
)
# A variation differs from a start in one setting to so many: good ones are found near good ones.
CHANGES_MAX = 4
# So many draws in a row that bring nothing new end the search.
REPEATS_MAX = 1000


def searched(fixed: Settings) -> list[str]:
    """The settings that are searched when `fixed` ones are not. Raises ConfigError when none is left."""
    names = [name for name in SPACE if name not in fixed]
    if not names:
        raise ConfigError("Every setting that could be searched is given. Leave some out of --config and --set.")
    return names


def drawn(fixed: Settings, starts: Sequence[Settings], seed: int) -> Iterator[Settings]:
    """`starts`, then variations of them without end or until nothing new is left, each once, all with `fixed` on top.

    They name every searched setting. Raises ConfigError as `searched`, and for a start that is not valid.
    """
    names = searched(fixed)
    rng = np.random.default_rng(seed)
    known: set[str] = set()
    whole = [_whole(names, fixed, start) for start in starts]
    for start in whole:
        if _is_new(start, known):
            yield start
    repeats = 0
    while repeats < REPEATS_MAX:
        start = whole[int(rng.integers(len(whole)))]
        count = int(rng.integers(1, min(CHANGES_MAX, len(names)) + 1))
        changes = {
            name: SPACE[name][int(rng.integers(len(SPACE[name])))]
            for name in (names[i] for i in rng.choice(len(names), count, replace=False))
        }
        varied = {**start, **changes}
        if _is_new(varied, known):
            repeats = 0
            yield varied
        else:
            repeats += 1


def _whole(names: Sequence[str], fixed: Settings, start: Settings) -> Settings:
    """A start with every searched setting named."""
    config = parse_config({**start, **fixed}, "a start").model_dump(mode="json")
    return {name: config[name] for name in names}


def _is_new(settings: Settings, known: set[str]) -> bool:
    text = json.dumps(settings, sort_keys=True)
    if text in known:
        return False
    known.add(text)
    return True

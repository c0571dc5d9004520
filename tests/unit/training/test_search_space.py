"""What a search for settings tries."""

from itertools import islice

import pytest

from bundle.errors import ConfigError
from training.config import TrainConfig, parse_config
from training.presets import SETTINGS, Preset
from training.search_space import CHANGES_MAX, SPACE, drawn, searched


def test_a_seed_always_draws_the_same_and_nothing_twice() -> None:
    first, again, other = (list(islice(drawn({}, [{}], seed), 100)) for seed in (1, 1, 2))
    assert first == again
    assert first[0] == other[0]
    assert first[1:] != other[1:]
    assert len({str(settings) for settings in first}) == 100


def test_what_is_drawn_is_valid_near_a_start_and_leaves_out_what_is_given() -> None:
    starts = [{}, SETTINGS[Preset.knowledge_graph]]
    whole = [parse_config(dict(start), "a start").model_dump() for start in starts]
    for settings in islice(drawn({"dim": 32}, starts, 1), 200):
        assert set(settings) == set(SPACE) - {"dim"}
        parse_config({**settings, "dim": 32}, "drawn")
        assert min(sum(value != start[name] for name, value in settings.items()) for start in whole) <= CHANGES_MAX


def test_a_space_of_one_setting_ends() -> None:
    given = {name: value for name, value in TrainConfig().model_dump().items() if name != "l2" and value is not None}
    given["relation_learning_rate"] = 0.1
    assert [settings["l2"] for settings in drawn(given, [{}], 1)] != []
    assert {settings["l2"] for settings in drawn(given, [{}], 1)} == set(SPACE["l2"])


def test_a_search_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="Leave some out"):
        searched(dict.fromkeys(SPACE))


def test_every_preset_is_made_of_settings() -> None:
    for preset in Preset:
        assert parse_config(dict(SETTINGS[preset]), preset) != TrainConfig()


def test_a_search_that_begins_with_a_preset_begins_with_all_of_it() -> None:
    for preset in Preset:
        first = next(drawn({}, [SETTINGS[preset]], 1))
        chosen = {name: value for name, value in SETTINGS[preset].items() if name != "epochs"}
        assert chosen.items() <= first.items()
        assert all(value in SPACE[name] for name, value in chosen.items())

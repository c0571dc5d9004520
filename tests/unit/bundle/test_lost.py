"""What a version no longer lets requests name, told in sentences before it is served."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundle.attributes import Attribute, Categories, Scalars
from bundle.csr import csr_from_pairs
from bundle.ids import string_ids
from bundle.lost import lost
from bundle.reader import open_bundle
from bundle.space import Bundle
from tests.support.service_bundle import write_toy_bundle


@pytest.fixture
def toy(tmp_path: Path) -> Bundle:
    return open_bundle(write_toy_bundle(tmp_path, "v1"))


def changed(toy: Bundle, **attributes: Attribute | None) -> Bundle:
    """The toy with other attributes of its users, without those that are None."""
    space = toy.space()
    user = space.entities["user"]
    kept = {name: one for name, one in {**user.attributes, **attributes}.items() if one is not None}
    entities = {**space.entities, "user": replace(user, attributes=kept)}
    return replace(toy, spaces={**toy.spaces, "main": replace(space, entities=entities)})


def test_nothing_is_lost_between_a_version_and_itself(toy: Bundle) -> None:
    assert list(lost(toy, toy)) == []


def test_categories_that_went_are_counted_and_named(toy: Bundle) -> None:
    country = toy.space().entities["user"].attributes["country"]
    assert isinstance(country, Categories)
    n = len(country.codes.indptr) - 1
    only = Categories(string_ids(["at", "xx"]), csr_from_pairs(np.zeros(1, np.int32), np.zeros(1, np.int32), n))
    (said,) = lost(toy, changed(toy, country=only))
    assert said.startswith("Filters: attribute 'country' of user has lost 2 of its 3 categories: 'ch', 'de'.")
    assert list(lost(changed(toy, country=only), toy))[0].count("'xx'") == 1


def test_attributes_that_went_or_are_of_another_kind_are_named(toy: Bundle) -> None:
    age = toy.space().entities["user"].attributes["age"]
    assert isinstance(age, Scalars)
    said = list(lost(toy, changed(toy, age=None, bot=age)))
    assert [sentence.split(". ")[0] for sentence in said] == [
        "Filters: attribute 'age' of user is gone",
        "Filters: attribute 'bot' of user was a boolean and is a number now",
    ]


def test_relations_and_types_that_went_are_named(toy: Bundle) -> None:
    space = toy.space()
    relations = {name: one for name, one in space.relations.items() if name != "uses"}
    entities = {name: one for name, one in space.entities.items() if name != "hashtag"}
    later = replace(toy, spaces={"main": replace(space, relations=relations, entities=entities)})
    assert [sentence.split(". ")[0] for sentence in lost(toy, later)] == [
        "Relations that v1 has not: 'uses'",
        "Entity type that v1 has not: hashtag",
    ]


def test_strategies_and_spaces_that_went_are_named_with_what_answers_now(toy: Bundle) -> None:
    """What is built with `--quick` has none that are learnt."""
    space = toy.space()
    name = space.entry.default.relation
    taught = {**space.entry.strategies, "rescored": space.entry.strategies["blend"]}
    entry = space.entry.model_copy(update={"strategies": taught, "auto": "rescored"})
    spaces = {toy.space().name: replace(space, entry=entry)}
    manifest = toy.manifest.model_copy(update={"spaces": {"main": entry, "other": entry}})
    before = replace(toy, spaces=spaces, manifest=manifest)
    assert list(lost(before, toy)) == [
        "Spaces that v1 has not: 'other'. Requests that name them are refused.",
        f"Strategies of '{name}' that v1 has not: 'rescored'. Requests that name them are refused. `auto` is "
        f"{space.entry.auto} there.",
        "Strategies of 'uses' that v1 has not: 'rescored'. Requests that name them are refused.",
    ]
    assert list(lost(toy, before)) == []

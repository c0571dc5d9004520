"""What a ranking model predicts here: the labels of a user's own files, or which edges of a run were held out."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64

from bundle.arrays import AnyArray
from bundle.errors import UsageError
from bundle.prepared import Edges, PreparedGraph
from bundle.space import Space
from evaluation.ranking.examples import (
    ExampleFile,
    RelationMatch,
    examples_of_rows,
    matching_relations,
    number_examples,
    split_by_user,
    vectors_of,
)
from evaluation.ranking.models import Labelled, Vectors

# The share of the users that is measured on, when there is no file to test with.
HELD_BACK = 0.2
HELD_OUT: tuple[Literal["valid", "test"], ...] = ("valid", "test")  # to learn from, to measure on
Say = Callable[[str], None]
Sides = tuple[Vectors | None, Vectors | None]


class RankingTask(NamedTuple):
    """Examples to learn from and to test with; entity i of either side is `users[i]`, `items[i]`."""

    name: str
    train: Labelled
    test: Labelled
    user_type: str
    item_type: str
    users: Sequence[str]
    items: Sequence[str]


def task_of_files(
    examples: ExampleFile,
    test: ExampleFile | None,
    space: Space,
    relation: str | None,
    rng: np.random.Generator,
    say: Say,
) -> RankingTask:
    """The labels of `examples`, measured on `test` or on a fifth of the users. Raises UsageError.

    User and item are the ends of `relation`, or of the one that has most of their ids, which is then said.
    """
    numbered = number_examples([file for file in (examples, test) if file is not None])
    train, held_back = numbered.parts if test is not None else split_by_user(numbered.parts[0], HELD_BACK, rng)
    if not all(0 < part.labels.sum() < len(part) for part in (train, held_back)):
        raise UsageError(f"{examples.path} has too few users to hold a fifth of them back. Give --test FILE as well.")
    if test is not None and (repeated := int(np.count_nonzero(np.isin(_packed(held_back), _packed(train))))):
        say(
            f"{repeated:,} of {len(held_back):,} examples of {test.path} stand in {examples.path} too: "
            "figures measured on them mislead. Take them out of one of the two."
        )
    ends = _ends(space, relation, numbered.users, numbered.items)
    if relation is None:
        types = f"{ends.user_type} and {ends.item_type}"
        say(f"User and item are taken as the ends of {ends.relation}: {types}; see --relation.")
    name = f"the labels of {examples.path.name}"
    return RankingTask(name, train, held_back, ends.user_type, ends.item_type, numbered.users, numbered.items)


def _packed(examples: Labelled) -> AnyArray:
    """All that an example says as one value: equal for equal examples."""
    columns = (examples.users[:, None], examples.items[:, None], examples.labels[:, None], examples.others)
    packed = np.concatenate([np.ascontiguousarray(column).view(np.uint8) for column in columns], axis=1)
    return np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1])))[:, 0]


def task_of_run(graph: PreparedGraph, relation: str | None, rng: np.random.Generator) -> RankingTask:
    """Was an edge of `relation` (the one that was split otherwise) held out? Learnt on validation edges, measured on
    test edges. Raises UsageError when nothing was held out.
    """
    ends = graph.split_relation() if relation is None else graph.relation(relation)
    parts = [examples_from_graph(graph, ends.name, part, rng) for part in HELD_OUT]
    numbered = examples_of_rows(parts, graph.entity(ends.source).ids, graph.entity(ends.target).ids)
    name = f"does a {ends.source} have an edge of {ends.name}"
    train, test = numbered.parts
    return RankingTask(name, train, test, ends.source, ends.target, numbered.users, numbered.items)


def vectors_of_task(task: RankingTask, spaces: Sequence[tuple[str, Space]], say: Say) -> dict[str, Sides]:
    """Raw and decoded vectors of both sides in every space, by version; what is missing is said.

    Raises UsageError when no side has any.
    """
    tables: dict[str, Sides] = {}
    for version, space in spaces:
        users = _raw_and_decoded(space, task.user_type, task.users, version, say)
        items = _raw_and_decoded(space, task.item_type, task.items, version, say)
        for position, form in enumerate(("raw", "decoded")):
            name = f"{version}, {form}" if len(spaces) > 1 else form
            tables[name] = users[position], items[position]
    if not any(side is not None for sides in tables.values() for side in sides):
        raise UsageError(
            f"No {task.user_type} and no {task.item_type} of the examples has a vector. "
            "Give the graph's own ids, and with --relation a relation whose ends are the examples' user and item."
        )
    return tables


def _ends(space: Space, relation: str | None, users: Sequence[str], items: Sequence[str]) -> RelationMatch:
    """The relation that was asked for, else the one that has most ids. Raises UsageError when an end has none.

    A relation that was asked for may have one end alone, where no other has both: users can have vectors, and what
    they were offered none.
    """
    matches = matching_relations(space, users, items)
    name = matches[0].relation if relation is None else space.relation(relation).entry.name
    ends = next(one for one in matches if one.relation == name)
    if not ends.fits and (relation is None or matches[0].fits):
        raise UsageError(_nobody_known(ends, [one for one in matches if one.fits][:5]))
    return ends


def _nobody_known(ends: RelationMatch, fitting: Sequence[RelationMatch]) -> str:
    users = f"user of the examples has an id of type {ends.user_type}"
    items = f"item of the examples has an id of type {ends.item_type}"
    nobody = ", no ".join([users] * (ends.users == 0) + [items] * (ends.items == 0))
    others = ", ".join(f"--relation {one.relation} ({one.user_type} → {one.item_type})" for one in fitting)
    advice = f"These fit: {others}." if fitting else "Give the graph's own ids, or with --relation the side that fits."
    return f"No {nobody}: the ends of {ends.relation}. {advice}"


def _raw_and_decoded(space: Space, entity_type: str, ids: Sequence[str], version: str, say: Say) -> Sides:
    """The vectors of `ids` as they are and as codes give them back; None where the space has none of them."""
    entities = space.entities.get(entity_type)
    if entities is None:
        say(f"{version} has no entity type {entity_type}: that side is left out there.")
        return None, None
    raw, share = vectors_of(ids, entities.ids, entities.embeddings)
    if share < 1:
        say(f"{version}: {share:.1%} of {len(ids):,} {entity_type} ids have a vector; the others count with zeros.")
    if share == 0:
        return None, None
    if entities.quantizer is None or entities.codes is None:
        return raw, None
    return raw, vectors_of(ids, entities.ids, entities.quantizer.decode(entities.codes))[0]


def examples_from_graph(
    graph: PreparedGraph, relation: str, part: Literal["valid", "test"], rng: np.random.Generator, *, negatives: int = 4
) -> Labelled:
    """Held-out edges as positives and, for each, `negatives` non-edges of the same source as negatives.

    Negatives are targets of other held-out edges, so that popularity alone does not tell them apart; pairs that
    are an edge in any part are left out. Other features: ln(1 + degree) of either end in training.
    """
    chosen = graph.relation(relation)
    edges = chosen.part(part)
    n_targets = graph.count(chosen.target)
    positives = np.asarray(edges.src).astype(np.int64), np.asarray(edges.dst).astype(np.int64)
    users = np.repeat(positives[0], negatives)
    items = rng.choice(positives[1], len(users))
    known = np.concatenate([_keys(chosen.part(name), n_targets) for name in ("edges", "valid", "test")])
    fresh = ~np.isin(users * n_targets + items, known)
    pairs = np.unique((users * n_targets + items)[fresh])
    all_users = np.concatenate([positives[0], pairs // n_targets])
    all_items = np.concatenate([positives[1], pairs % n_targets])
    labels = np.arange(len(all_users)) < len(positives[0])
    degrees = (
        np.bincount(np.asarray(chosen.train.src), minlength=graph.count(chosen.source))[all_users],
        np.bincount(np.asarray(chosen.train.dst), minlength=n_targets)[all_items],
    )
    return Labelled(all_users, all_items, labels, np.log1p(np.stack(degrees, axis=1)).astype(np.float32))


def _keys(edges: Edges, n_targets: int) -> Int64[npt.NDArray[np.int64], " e"]:
    keys: npt.NDArray[np.int64] = np.asarray(edges.src).astype(np.int64) * n_targets + np.asarray(edges.dst)
    return keys

"""Which relations tell of each other: shared edges beyond chance, of whichever sample."""

import numpy as np
import numpy.typing as npt
import pytest

from bundle.csr import csr_from_pairs
from index.builder import elsewhere
from index.builder.elsewhere import MOST_TELLING, Staged, telling

USERS, ITEMS = 300, 200
Pairs = npt.NDArray[np.int32]


def staged(pairs: Pairs) -> Staged:
    forth = csr_from_pairs(*np.unique(pairs, axis=1), USERS)
    return Staged(forth, forth.transposed(ITEMS))


def drawn(rng: np.random.Generator, n: int, fame: float = 0.0) -> Pairs:
    """`n` edges by chance, popular items more often the larger `fame` is."""
    shares = (1.0 + np.arange(ITEMS)) ** -fame
    items = rng.choice(ITEMS, n, p=shares / shares.sum())
    return np.stack([rng.integers(0, USERS, n), items]).astype(np.int32)


def test_a_share_is_how_many_of_the_other_relation_s_edges_are_edges_here() -> None:
    rng = np.random.default_rng(1)
    viewed = np.unique(drawn(rng, 4000), axis=1)
    bought = viewed[:, rng.random(viewed.shape[1]) < 0.25]
    found = telling({"viewed": staged(viewed), "bought": staged(bought)}, seed=1)
    by_chance = 0.25 * 13 / ITEMS  # what a user bought, over the items
    assert found["bought"]["viewed"] == pytest.approx(0.25 - by_chance, abs=0.02)
    assert found["viewed"]["bought"] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("fame", [0.0, 1.0])
def test_what_popularity_and_activity_make_is_chance(fame: float) -> None:
    rng = np.random.default_rng(2)
    found = telling({name: staged(drawn(rng, 3000, fame)) for name in ("viewed", "bought", "returned")}, seed=1)
    assert found == {"viewed": {}, "bought": {}, "returned": {}}


def test_a_relation_without_edges_tells_nothing() -> None:
    rng, nothing = np.random.default_rng(3), np.empty((2, 0), dtype=np.int32)
    assert telling({"viewed": staged(drawn(rng, 100)), "bought": staged(nothing)}, 1) == {"viewed": {}, "bought": {}}


def test_of_many_relations_those_that_tell_most_are_kept_and_a_sample_tells_as_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(4)
    bought = np.unique(drawn(rng, 3000), axis=1)
    kept = np.linspace(0.3, 0.9, MOST_TELLING + 4)
    others = {f"r{i}": bought[:, rng.random(bought.shape[1]) < share] for i, share in enumerate(kept.tolist())}
    noisy = {name: np.concatenate([pairs, drawn(rng, 1000)], axis=1) for name, pairs in others.items()}
    relations = {"bought": staged(bought), **{name: staged(pairs) for name, pairs in noisy.items()}}
    found = telling(relations, seed=1)["bought"]
    assert list(found) == sorted(found, key=lambda name: -found[name])
    assert set(found) == {f"r{i}" for i in range(4, MOST_TELLING + 4)}
    monkeypatch.setattr(elsewhere, "SAMPLE", 20_000)
    sampled = telling(relations, seed=1)["bought"]
    assert sampled["r19"] == pytest.approx(found["r19"], abs=0.1)
    assert sampled["r19"] != found["r19"]

"""The map: what is alike lies together whatever its type, a seed makes the same map again, odd vectors have a place."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bundle.errors import BundleInvalid
from bundle.progress import SilentStage
from bundle.reader import open_bundle
from bundle.verify import verify_bundle
from index.builder.config import BuildConfig, MapConfig
from index.builder.coordinates import STEPS, TSNE_FROM, lay_out
from tests.support.toy import TOY_CONFIG, build_toy

Array = npt.NDArray[np.float32]
GROUPS = 4


class Steps(SilentStage):
    """Counts what it is told."""

    done = 0

    def advance(self, n: int = 1) -> None:
        Steps.done += n


def _world(n: int) -> tuple[dict[str, Array], dict[str, npt.NDArray[np.int64]]]:
    """Two types around the same directions, far from each other by an offset; and the group of each entity."""
    rng = np.random.default_rng(1)
    middles = rng.normal(0, 1, (GROUPS, 8))
    vectors, groups = {}, {}
    for offset, (name, count) in enumerate({"user": n, "item": n // 3}.items()):
        groups[name] = np.arange(count) % GROUPS
        vectors[name] = (middles[groups[name]] + rng.normal(0, 0.2, (count, 8)) + 9 * offset).astype(np.float32)
    return vectors, groups


def _share_near_own_group(places: dict[str, Array], groups: dict[str, npt.NDArray[np.int64]]) -> float:
    """How many items are nearer the middle of the users of their own group than that of any other."""
    middles = np.stack([places["user"][groups["user"] == group].mean(axis=0) for group in range(GROUPS)])
    apart = np.linalg.norm(places["item"][:, None] - middles, axis=2)
    return float(np.mean(np.argmin(apart, axis=1) == groups["item"]))


@pytest.mark.parametrize(("n", "points"), [(150, 10_000), (800, 10_000), (3000, 1000), (300, 100)])
def test_what_is_alike_lies_together_whatever_its_type(n: int, points: int) -> None:
    vectors, groups = _world(n)
    Steps.done = 0
    places = lay_out(vectors, points, 1, Steps())
    assert {name: one.shape for name, one in places.items()} == {"user": (n, 2), "item": (n // 3, 2)}
    everything = np.concatenate([*places.values()])
    assert np.abs(everything).max() == pytest.approx(1)
    # Two components do not tell four groups apart as well as t-SNE does.
    by_neighbours = min(points, n + n // 3) >= TSNE_FROM
    assert _share_near_own_group(places, groups) > (0.99 if by_neighbours else 0.8)
    assert Steps.done == (STEPS if by_neighbours else 0)


def test_the_same_seed_makes_the_same_map() -> None:
    vectors, _ = _world(1000)
    first, again = (lay_out(vectors, 1000, 1, SilentStage())["user"] for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("points", [1, 10_000])
@pytest.mark.parametrize("n", [0, 1, 2, 1000])
@pytest.mark.parametrize("kind", ["equal", "one coordinate"])
def test_every_entity_has_a_finite_place(points: int, n: int, kind: str) -> None:
    vectors = np.ones((n, 1 if kind == "one coordinate" else 4), dtype=np.float32)
    if kind == "one coordinate":
        vectors *= np.arange(n, dtype=np.float32)[:, None]
    places = lay_out({"few": vectors, "other": vectors[:1].copy()}, points, 1, SilentStage())
    assert places["few"].shape == (n, 2)
    assert all(np.isfinite(one).all() for one in places.values())


def test_a_version_has_the_map_unless_it_is_built_without(tmp_path: Path) -> None:
    bundle = open_bundle(build_toy(tmp_path).path)
    verify_bundle(bundle)
    items = bundle.space().table("item").coordinates
    assert items is not None
    jazz, chess = items[20:].mean(axis=0), items[:20].mean(axis=0)
    assert np.linalg.norm(jazz - chess) > 1
    without = TOY_CONFIG.model_copy(update={"map": MapConfig(points=0)})
    bundle = open_bundle(build_toy(tmp_path, "without", without).path)
    verify_bundle(bundle)
    assert bundle.space().table("item").coordinates is None
    assert BuildConfig().map.points == 10_000


def test_a_map_of_another_shape_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_short(*given: Any) -> dict[str, Array]:
        return {"item": given[-1]("item", np.float32, (39, 2))}

    monkeypatch.setattr("index.builder.stage.lay_out", one_short)
    path = build_toy(tmp_path).path
    with pytest.raises(
        BundleInvalid, match=r"coordinates/item.npy is float32 39×2; the manifest asks for float32 40×2"
    ):
        open_bundle(path)

"""Build settings that do not fit the run are named, not passed over."""

from pathlib import Path

import pytest

from bundle.errors import ConfigError
from index.builder.config import IndexConfig, parse_config
from index.builder.spec import specs_for
from index.builder.version import build_version
from tests.support.toy import write_toy_run


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"clusters": {"types": ["film"]}}, "clusters.types"),
        ({"clusters": {"types": ["item", "item"]}}, "clusters.types"),
        ({"mixtures": {"relation_weights": {"hates": 1.0}}}, "mixtures.relation_weights"),
        ({"index": {"hnsw_links": 1}}, "hnsw_links"),
        ({"mixtures": {"relation_weights": {"likes": float("inf")}}}, "mixtures.relation_weights.likes"),
        ({"mixtures": {"half_life": float("inf")}}, "mixtures.half_life"),
        ({"index": {"popularity_scale": float("nan")}}, "popularity_scale"),
    ],
)
def test_a_name_that_the_run_does_not_have_is_refused(tmp_path: Path, settings: dict[str, object], named: str) -> None:
    run = write_toy_run(tmp_path / "run")
    with pytest.raises(ConfigError, match=named):
        build_version(run, tmp_path / "bundles", parse_config(settings, "test"))
    assert not list((tmp_path / "bundles").glob("*"))


@pytest.mark.parametrize("kind", ["ivf4", "ivf_sq8", "ivf_pq"])
def test_a_small_type_has_specs_for_every_kind(kind: str) -> None:
    config = IndexConfig.model_validate({"kind": kind, "depth": 64})
    assert specs_for(300, config, with_hnsw=False)

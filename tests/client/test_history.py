"""Point-in-time features: examples get the vectors that were served at their time."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import twhin_client
from bundle.timeline import read_timeline
from bundle.versions import CURRENT, publish, rollback, timeline
from tests.support.service_bundle import user_ids, write_toy_bundle
from twhin_client import Client, History

USERS = user_ids()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v1, then v2, then v1 again by a rollback, then v3."""
    path = tmp_path_factory.mktemp("history")
    for seed, name in enumerate(("v1", "v2", "v3"), start=1):
        write_toy_bundle(path, name, seed=seed)
    for change in (lambda: publish(path, "v1"), lambda: publish(path, "v2"), lambda: rollback(path)):
        change()
        time.sleep(0.02)
    publish(path, "v3")
    return path


@pytest.fixture
def history(bundles: Path) -> History:
    return twhin_client.history(bundles)


def test_the_client_reads_the_record_as_the_product_does(bundles: Path, history: History) -> None:
    assert list(zip(history.times.tolist(), history.versions, strict=True)) == [
        (one.at, one.version) for one in timeline(bundles)
    ]
    assert history.versions == ("v1", "v2", "v1", "v3")


def test_a_time_has_the_version_published_last_before_it(history: History) -> None:
    first, second, third, fourth = history.times
    moments = [first - 1, first, second - 1e-3, second, third, fourth, fourth + 1e6]
    assert history.version_at(moments) == [None, "v1", "v1", "v2", "v1", "v3", "v3"]
    assert history.version_at(moments, lag=1e5)[:-1] == [None] * 6
    assert history.version_at([second + 0.01], lag=0.005) == ["v2"]
    nanoseconds = (np.array([first, fourth]) * 1e9).astype("int64") + 1000
    assert history.version_at(nanoseconds.astype("datetime64[ns]")) == ["v1", "v3"]


def test_examples_get_the_vectors_that_were_served(bundles: Path, history: History) -> None:
    first, second, third, fourth = history.times
    ids = [USERS[1], USERS[1], USERS[2], "nobody", USERS[3], USERS[1]]
    moments = [second, first, third, third, first - 10, fourth]
    got = history.vectors("user", ids, times=moments)
    opened = {name: twhin_client.open(bundles, name).entities("user").vectors for name in ("v1", "v2", "v3")}
    expected = [opened["v2"][1], opened["v1"][1], opened["v1"][2], None, None, opened["v3"][1]]
    assert got.missing.tolist() == [False, False, False, True, True, False]
    assert list(got.versions) == ["v2", "v1", "v1", "v1", None, "v3"]
    for row, vector in zip(got.values, expected, strict=True):
        np.testing.assert_array_equal(row, np.zeros(16) if vector is None else vector)
    named = history.vectors("user", ids, versions=got.versions)
    np.testing.assert_array_equal(named.values, got.values)


def test_a_version_that_was_pruned_is_told_and_its_rows_are_missing(bundles: Path, tmp_path: Path) -> None:
    shutil.copytree(bundles, tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "v2")
    history = twhin_client.history(tmp_path / "b")
    got = history.vectors("user", [USERS[1], USERS[1]], times=[history.times[1], history.times[3]])
    assert (got.gone, got.missing.tolist()) == (("v2",), [True, False])


def test_a_service_tells_the_same(client: Client, toy_bundles: Path) -> None:
    remote, local = twhin_client.history(client), twhin_client.history(toy_bundles)
    assert remote.versions == local.versions
    np.testing.assert_allclose(remote.times, local.times, atol=1e-6)
    moments = [local.times[0], local.times[1]]
    ours = local.vectors("user", USERS[:2], times=moments)
    theirs = remote.vectors("user", USERS[:2], times=moments)
    np.testing.assert_array_equal(ours.values, theirs.values)
    assert list(theirs.versions) == ["v1", "v2"]
    lost = remote.vectors("user", USERS[:2], versions=["gone", None])
    assert (lost.gone, lost.missing.tolist()) == (("gone",), [True, True])


def test_a_publication_that_a_kill_kept_from_the_record_counts_from_its_own_time(bundles: Path, tmp_path: Path) -> None:
    shutil.copytree(bundles, tmp_path / "b")
    (tmp_path / "b" / CURRENT).write_text("v2\n")
    moment = time.time_ns() // 1000
    os.utime(tmp_path / "b" / CURRENT, ns=(moment * 1000,) * 2)
    history = twhin_client.history(tmp_path / "b")
    assert (history.versions[-1], history.times[-1]) == ("v2", moment / 1e6)
    assert [one.version for one in timeline(tmp_path / "b")] == list(history.versions)


def test_what_cannot_be_joined_is_refused(history: History) -> None:
    with pytest.raises(ValueError, match="times of the examples, or the versions"):
        history.vectors("user", USERS[:1])
    with pytest.raises(ValueError, match="2 ids and 1 examples"):
        history.vectors("user", USERS[:2], times=[0.0])
    assert twhin_client.history(Path("/nonexistent")).versions == ()


def test_times_of_a_clock_that_was_wrong_are_those_of_the_service(tmp_path: Path) -> None:
    moments = ["2026-01-01T00:00:00", "2999-01-01T00:00:00", "2026-01-03T00:00:00", "2026-01-02T00:00:00"]
    lines = [f"{moment}.000000Z v{number}\n" for number, moment in enumerate(moments)]
    (tmp_path / "TIMELINE").write_text("".join(lines))
    history = twhin_client.history(tmp_path)
    assert list(zip(history.times.tolist(), history.versions, strict=True)) == read_timeline(tmp_path)
    assert history.version_at([1_767_225_600 + day * 86_400 for day in (0, 1, 2, 400)]) == ["v0", "v0", "v3", "v3"]

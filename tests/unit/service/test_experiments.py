"""Experiments: who is in which arm, as anybody can compute it; intervals; the file and what is wrong with it."""

import asyncio
import os
import resource
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.errors import ConfigError
from bundle.space import Bundle
from index.search.open import open_searchers
from recommend.recommender import Recommender
from service.answer_metrics import ANSWER_SERIES_MAX, ARM_SERIES_MAX
from service.experiments import file, live
from service.experiments.file import read_experiments
from service.experiments.live import Experiments
from service.experiments.split import Arm, Experiment, bucket_of, wilson
from service.metrics import Metrics
from service.settings import Settings
from service.state.feedback import mark_of
from service.versions.loaded import Loaded
from service.versions.versions import Versions
from tests.support.service_bundle import write_toy_bundle

HALVES = [Arm("control", "auto", 5000), Arm("mixture", "mixture", 5000)]
FILE = """
[[experiments]]
name = "interests"
relation = "follows"

[[experiments.arms]]
name = "control"
strategy = "auto"
share = 0.25

[[experiments.arms]]
name = "mixture"
strategy = "mixture"
share = 0.0333
"""


def experiments(path: Path, metrics: Metrics | None = None) -> Experiments:
    """Experiments of the file at `path`, of a service that has opened nothing yet."""
    metrics = metrics or Metrics()
    settings = Settings(bundles=path.parent)  # type: ignore[call-arg]
    return Experiments(path, metrics.experiments, Versions(settings, metrics.versions))


def loaded(bundle: Bundle) -> Loaded:
    """The version as one that serves."""
    return Loaded(bundle, Recommender(bundle, open_searchers(bundle)), 1.0, 0.0)


@pytest.mark.parametrize(
    # printf 'interests:42' | sha256sum | cut -c1-8, as a number, modulo 10,000
    ("user", "bucket"),
    [("42", 4211), ("7", 514), ("ünïcødé", 2747), ("9223372036854775807", 9739)],
)
def test_the_bucket_of_a_user_is_what_sha256sum_says(user: str, bucket: int) -> None:
    assert bucket_of("interests", user) == bucket


def test_arms_have_the_buckets_in_their_order_and_the_rest_take_no_part() -> None:
    experiment = Experiment("e", [Arm("a", "auto", 2500), Arm("b", "blend", 1), Arm("c", "popular", 333)], salt="s")
    assert experiment.starts() == [0, 2500, 2501]
    for number in range(3000):
        user, bucket = str(number), bucket_of("s", str(number))
        wanted = "a" if bucket < 2500 else "b" if bucket == 2500 else "c" if bucket < 2834 else None
        arm = experiment.arm_of(user)
        assert (None if arm is None else arm.name) == wanted


def test_users_are_split_by_share_and_two_experiments_split_them_apart() -> None:
    one, two = Experiment("one", HALVES), Experiment("two", HALVES)
    users = list(map(str, range(20_000)))
    pairs = Counter((one.arm_of(user), two.arm_of(user)) for user in users)
    assert len(pairs) == 4
    assert all(abs(count - 5000) < 250 for count in pairs.values())


def test_an_arm_that_grows_keeps_its_users() -> None:
    small = Experiment("e", [Arm("new", "mixture", 500), Arm("control", "auto", 9500)])
    large = Experiment("e", [Arm("new", "mixture", 2000), Arm("control", "auto", 8000)])
    for user in map(str, range(5000)):
        before, after = small.arm_of(user), large.arm_of(user)
        assert before is not None
        assert after is not None
        assert after.name == "new" or before.name == "control"


@pytest.mark.parametrize(
    # The roots of (p - k/n)² = z² p (1 - p) / n.
    ("clicks", "impressions", "low", "high"),
    [
        (10, 100, 0.05522914, 0.17436566),
        (0, 20, 0.0, 0.16112516),
        (20, 20, 0.83887484, 1.0),
        (512, 10_000, 0.04704986, 0.05569481),
    ],
)
def test_intervals_are_those_of_wilson(clicks: int, impressions: int, low: float, high: float) -> None:
    assert wilson(clicks, impressions) == pytest.approx((low, high), abs=1e-7)


@settings(deadline=None)
@given(st.integers(1, 10**9), st.floats(0, 1))
def test_a_rate_is_within_its_interval(impressions: int, share: float) -> None:
    clicks = round(share * impressions)
    interval = wilson(clicks, impressions)
    assert interval is not None
    assert 0 <= interval[0] <= clicks / impressions <= interval[1] <= 1


def test_no_interval_without_impressions_or_with_more_clicks_than_those() -> None:
    assert wilson(0, 0) is None
    assert wilson(3, 2) is None


def test_marks_differ_by_request_arm_kind_and_target() -> None:
    parts = [("r", "a", "impression", "1"), ("r2", "a", "impression", "1"), ("r", "b", "impression", "1")]
    parts += [("r", "a", "click", "1"), ("r", "a", "impression", "2"), ("r", "a", "impression", "\ud800")]
    assert len({mark_of(*part) for part in parts}) == len(parts)  # type: ignore[arg-type]
    assert all(0 <= mark_of(*part) < 2**63 for part in parts)  # type: ignore[arg-type]


def test_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "experiments.toml"
    assert read_experiments(path) == ()
    path.write_text(FILE)
    [experiment] = read_experiments(path)
    assert (experiment.name, experiment.salt, experiment.relation) == ("interests", "interests", "follows")
    assert experiment.arms == (Arm("control", "auto", 2500), Arm("mixture", "mixture", 333))
    path.write_text(FILE.replace('strategy = "mixture"', 'version = "v7"').replace('strategy = "auto"', ""))
    [experiment] = read_experiments(path)
    assert experiment.arms == (Arm("control", "auto", 2500), Arm("mixture", "auto", 333, "v7"))


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('name = "interests"', "", "missing required field `name`"),
        ('name = "interests"', 'name = "Inter ests"', "a name has 1 to 64 of a-z"),
        ("relation", "relatoin", "unknown field `relatoin`"),
        ("0.0333", "0.03333", "no multiple of 0.0001"),
        ("0.0333", "0.8", "add up to more than 1"),
        ("0.0333", "0", "> 0"),
        ("0.0333", '"half"', "Expected `float`"),
        ('name = "mixture"', 'name = "control"', "two arms have one name"),
        ("[[experiments]]", "[[experiments]", "line"),
        (FILE, FILE + FILE, "two experiments have one name"),
        (
            FILE,
            "".join(
                FILE.replace("interests", f"e{n}").replace('"mixture"', f'"mixture"\nversion = "v{n}"', 1)
                for n in range(3)
            ),
            "name more than 2 versions",
        ),
        (FILE, '[[experiments]]\nname = "a"\narms = []', "length >= 2"),
    ],
)
def test_what_is_wrong_with_the_file_is_told(tmp_path: Path, before: str, after: str, told: str) -> None:
    path = tmp_path / "experiments.toml"
    path.write_text(FILE.replace(before, after))
    with pytest.raises(ConfigError) as raised:
        read_experiments(path)
    assert str(path) in str(raised.value)
    assert told in str(raised.value)


def test_a_file_that_breaks_leaves_in_force_what_was_and_one_that_goes_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "experiments.toml"
    metrics = Metrics()
    live = experiments(path, metrics)
    live.look()
    assert (live.current, live.fault) == ((), None)
    path.write_text(FILE)
    live.look()
    assert [one.name for one in live.current] == ["interests"]
    path.write_text(FILE + "nonsense")
    live.look()
    assert [one.name for one in live.current] == ["interests"]
    assert live.fault is not None
    assert b"twhin_experiments_refused 1.0" in metrics.exposition()
    path.unlink()
    live.look()
    assert (live.current, live.fault) == ((), None)
    assert b"twhin_experiments_refused 0.0" in metrics.exposition()


def test_a_file_that_could_not_be_read_is_read_when_it_may_be_or_when_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "experiments.toml"
    path.write_text(FILE)
    live = experiments(path)

    def no_file_is_left(*_: object, **__: object) -> str:
        raise OSError(24, "Too many open files")

    for mended in (lambda: (path.chmod(0o600), live.look()), lambda: live.look(again=True)):
        with monkeypatch.context() as patch:
            patch.setattr(file, "read_plain", no_file_is_left)
            path.touch()
            live.look()
        live.look()
        assert live.fault is not None
        mended()
        assert (live.fault, [one.name for one in live.current]) == (None, ["interests"])


def test_a_file_that_is_nested_too_deeply_is_refused_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "experiments.toml").write_text("salt = " + "[" * 100_000)
    with pytest.raises(ConfigError, match="nested too deeply"):
        read_experiments(tmp_path / "experiments.toml")


def test_what_is_no_plain_file_or_has_no_end_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "experiments.toml"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="cannot be read: not a plain file"):
        read_experiments(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="cannot be read: not a plain file"):
        read_experiments(path)
    path.unlink()
    path.write_text("#" * (256 << 10) + "\n" + FILE)
    with pytest.raises(ConfigError, match="has more than 256 KiB"):
        read_experiments(path)


def test_a_request_takes_part_unless_it_is_of_nobody_or_names_a_strategy(tmp_path: Path, toy: Bundle) -> None:
    path = tmp_path / "experiments.toml"
    path.write_text(FILE.replace("0.25", "0.5").replace("0.0333", "0.5"))
    live, serving = experiments(path), loaded(toy)
    live.look()
    space = toy.space()
    entered = live.choose(serving, space, "follows", "42", "auto")
    assert entered is not None
    assert entered[1] is live.current[0].arm_of("42")
    assert live.choose(serving, space, "follows", None, "auto") is None
    assert live.choose(serving, space, "follows", "42", "blend") is None
    assert live.choose(serving, space, "uses", "42", "auto") is None
    assert live.state_of(live.current[0], serving) == (["follows"], None)


def test_a_version_that_lacks_an_arms_strategy_answers_nobody_by_the_experiment(tmp_path: Path, toy: Bundle) -> None:
    path = tmp_path / "experiments.toml"
    path.write_text(FILE.replace('strategy = "mixture"', 'strategy = "rescored"'))
    live, serving = experiments(path), loaded(toy)
    live.look()
    assert all(live.choose(serving, toy.space(), "follows", str(user), "auto") is None for user in range(99))
    relations, reason = live.state_of(live.current[0], serving)
    assert relations == []
    assert reason == "the version has no strategy rescored for follows, which the arm mixture needs"
    path.write_text(FILE.replace('"follows"', '"knows"'))
    live.look()
    assert live.state_of(live.current[0], serving) == ([], "the version has no relation knows")


def test_the_first_experiment_that_a_relation_has_is_its_only_one(tmp_path: Path, toy: Bundle) -> None:
    path = tmp_path / "experiments.toml"
    path.write_text(FILE + FILE.replace("interests", "all").replace('relation = "follows"', ""))
    live, serving = experiments(path), loaded(toy)
    live.look()
    space = toy.space()
    for relation, wanted in (("follows", "interests"), ("uses", "all")):
        entered = [live.choose(serving, space, relation, str(user), "auto") for user in range(99)]
        assert {one.experiment.name for one in entered if one} == {wanted}
    assert live.state_of(live.current[1], serving) == (
        ["uses"],
        "interests, which stands before it, has the users of follows",
    )


BETWEEN_VERSIONS = """
[[experiments]]
name = "nightly"
arms = [{name = "control", share = 0.5}, {name = "tonight", version = "v1", share = 0.5}]
"""


async def test_an_edit_counts_while_a_version_is_being_opened(tmp_path: Path) -> None:
    """Emptying the file ends an experiment at the next look, and what it named is not kept open after all."""
    write_toy_bundle(tmp_path, "v1")
    path, begun, go_on = tmp_path / "experiments.toml", threading.Event(), threading.Event()

    @contextmanager
    def turn() -> Iterator[None]:
        begun.set()
        go_on.wait(60)
        yield

    path.write_text(BETWEEN_VERSIONS)
    metrics = Metrics()
    versions = Versions(Settings(bundles=tmp_path), metrics.versions, turn)  # type: ignore[call-arg]
    live = Experiments(path, metrics.experiments, versions)
    live.look()
    watching = asyncio.create_task(live.watch(0.01))
    try:
        assert await asyncio.to_thread(begun.wait, 60)
        path.write_text("")
        async with asyncio.timeout(30):
            while live.current:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        go_on.set()
        async with versions._pinning:  # whoever asked before has gone through
            assert not versions.pinned
    finally:
        go_on.set()
        watching.cancel()
        versions.close()


async def test_a_look_that_fails_does_not_end_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, looks = tmp_path / "experiments.toml", list[Path]()
    watched = experiments(path)
    watched.look()

    def faulty(path: Path) -> tuple[Experiment, ...]:
        looks.append(path)
        if len(looks) == 1:
            raise MemoryError
        return read_experiments(path)

    monkeypatch.setattr(live, "read_experiments", faulty)
    path.write_text(FILE)
    watching = asyncio.create_task(watched.watch(0.01))
    try:
        async with asyncio.timeout(30):
            while not watched.current:
                assert not watching.done()
                await asyncio.sleep(0.01)
    finally:
        watching.cancel()
    assert len(looks) == 2


async def test_a_version_for_which_no_file_was_left_is_opened_at_the_next_look(tmp_path: Path) -> None:
    write_toy_bundle(tmp_path, "v1")
    versions = Versions(Settings(bundles=tmp_path), Metrics().versions)  # type: ignore[call-arg]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        await versions.pin(frozenset())
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            await versions.pin(frozenset({"v1"}))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert not versions.pinned
        assert versions.why("v1") == "cannot be opened: the log says why"
        async with asyncio.timeout(30):
            while not versions.pinned:  # after a rest as long as the try was
                await asyncio.sleep(0.02)
                await versions.pin(frozenset({"v1"}))
        assert set(versions.pinned) == {"v1"}
    finally:
        versions.close()


def test_series_of_names_that_others_choose_are_bounded() -> None:
    metrics = Metrics()
    for number in range(ANSWER_SERIES_MAX + 50):
        metrics.answers.count(f"relation-{number}", "auto", "search", "engine")
        metrics.answers.count(f"relation-{number}", "auto", "search", "engine")
    for number in range(ARM_SERIES_MAX + 50):
        metrics.experiments.begin(f"experiment-{number}", ["a"])
        metrics.experiments.fed_back(f"experiment-{number}", "a", 2, 1)
    lines = metrics.exposition().decode().splitlines()
    answers = [line for line in lines if line.startswith("twhin_answers_total")]
    shown = [line for line in lines if line.startswith("twhin_feedback_total") and "impression" in line]
    assert len(answers) == ANSWER_SERIES_MAX + 1
    assert sum(float(line.split()[-1]) for line in answers) == 2 * (ANSWER_SERIES_MAX + 50)
    assert len(shown) == ARM_SERIES_MAX + 1
    assert sum(float(line.split()[-1]) for line in shown) == 2 * (ARM_SERIES_MAX + 50)

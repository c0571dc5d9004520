"""Before Spark starts: Java is looked for; and its errors become ours."""

import signal
from pathlib import Path

import pytest

pytest.importorskip("pyspark", reason="Spark's library: `make test` installs it (group `spark`)")

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from bundle.errors import DiskFull, EdgeFileError, SparkFailed, UsageError
from graph.spark import session as spark_session
from graph.spark.reader import Refused
from graph.spark.session import in_our_words, session


def java(folder: Path, version: str) -> None:
    """A program that says it is Java of this version."""
    path = folder / "bin" / "java"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    path.chmod(0o755)


@pytest.mark.parametrize("home", [None, "nowhere"])
def test_a_missing_java_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str | None) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    if home is not None:
        monkeypatch.setenv("JAVA_HOME", str(tmp_path / home))
    with (
        pytest.raises(UsageError, match="Spark needs Java, which is not .* openjdk-17-jre-headless") as told,
        session(None),
    ):
        pass
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("version", "said"), [("11.0.2", "11"), ("1.8.0_292", "1"), ("", "none")])
def test_an_old_java_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, said: str) -> None:
    java(tmp_path, version)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=rf"Java 17 or later; .*/bin/java is {said}\."), session("local[1]"):
        pass


def fails(text: str) -> None:
    with in_our_words():
        raise PySparkException(text)


def test_errors_of_spark_are_ours() -> None:
    refused = Refused(EdgeFileError, "e.csv, line 3: a\nb")
    with pytest.raises(EdgeFileError, match="e.csv, line 3: a\nb"):
        fails(f"Job aborted.\nCaused by: graph.spark.reader.Refused: {refused}\n\tat org.apache")
    with pytest.raises(UsageError, match="executors cannot import graph.*docs/scale.md"):
        fails("Job aborted.\nModuleNotFoundError: No module named 'graph'\n")
    with pytest.raises(DiskFull):
        fails("Caused by: java.io.IOException: No space left on device")
    with pytest.raises(SparkFailed, match="did not finish: java.lang.OutOfMemoryError: Java heap space. "):
        fails("Job aborted.\n\tat org\nCaused by: java.lang.OutOfMemoryError: Java heap space\n\tat x\n")


def test_an_error_that_is_not_of_spark_stays_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError), in_our_words():
        raise ZeroDivisionError


def test_ctrl_c_is_as_before_where_spark_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyspark takes the signal over before it fails."""

    def fail(_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise PySparkException("no session")

    monkeypatch.setattr(spark_session, "_require_java", lambda: None)
    monkeypatch.setattr(SparkSession.Builder, "getOrCreate", fail)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SparkFailed), session("local[1]"):
            pass
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, before)

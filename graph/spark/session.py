"""A Spark session: where Java is, what its settings must be, and its failures in our words."""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from bundle.errors import DiskFull, SparkFailed, TwhinError, UsageError
from graph.spark.reader import refusal

JAVA = 17
# What Spark sets where it starts this program itself (spark-submit): master and settings are its business then.
_STARTED_BY_SPARK = "PYSPARK_GATEWAY_PORT"
# Ids are compared, hashed and told apart by their bytes; numbers too large are a fault and not another number.
_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.execution.arrow.useLargeVarTypes": "false",
}


@contextmanager
def session(master: str | None) -> Iterator[SparkSession]:
    """A session on `master`; without one on what spark-submit said, else on all cores of this machine.

    Raises UsageError where Java or the master is missing, and whatever fails in it as the error of ours that it is.
    """
    started = _STARTED_BY_SPARK in os.environ
    chosen = master or (None if started else "local[*]")
    if not started:
        _require_java()
    if chosen is not None and chosen.startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # not whichever python3 comes first
    with in_our_words():
        builder = SparkSession.builder.appName("twhin prepare")
        if chosen is not None:
            builder = builder.master(chosen)
        if chosen is not None and chosen.startswith("local"):
            builder = builder.config("spark.log.level", "OFF").config("spark.ui.enabled", "false")
        builder = builder.config("spark.ui.showConsoleProgress", "false")  # the steps are told by us
        with _interrupted_as_ever():
            spark = builder.getOrCreate()
    try:
        yield spark
    finally:
        stop(spark)


def stop(spark: SparkSession) -> None:
    """End the session and whatever its executors are at."""
    with quiet(), suppress(Exception):  # perhaps Spark is what failed
        spark.stop()


@contextmanager
def _interrupted_as_ever() -> Iterator[None]:
    """Without the handler of Ctrl-C that pyspark installs: it asks Spark something amid another question to it, which
    fails with a traceback."""
    before, main = signal.getsignal(signal.SIGINT), threading.current_thread() is threading.main_thread()
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what pyspark says by the way: a warning of each new pandas, and a log of errors that are told anyway,
    for which py4j takes the logger of all, too."""
    logs = [PySparkLogger.getLogger("DataFrameQueryContextLogger"), logging.getLogger()]
    py4j = logging.getLogger("py4j")
    before, handed_on = [log.disabled for log in logs], py4j.propagate
    for log in logs:
        log.disabled = True
    py4j.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
            yield
    finally:
        for log, was in zip(logs, before, strict=True):
            log.disabled = was
        py4j.propagate = handed_on


def settle(spark: SparkSession) -> None:
    """Set what the result depends on, whatever the session was started with."""
    for name, value in _SETTINGS.items():
        spark.conf.set(name, value)


def _require_java() -> None:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    advice = f"Install Java {JAVA} (apt-get install openjdk-{JAVA}-jre-headless) or name it by JAVA_HOME."
    if java is None or not Path(java).exists():
        raise UsageError(f"Spark needs Java, which is not {'in JAVA_HOME' if home else 'on the PATH'}. {advice}")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < JAVA:
        raise UsageError(f"Spark needs Java {JAVA} or later; {java} is {version[1] if version else 'none'}. {advice}")


@contextmanager
def in_our_words() -> Iterator[None]:
    """Errors of Spark as errors of ours: the fault of an input that an executor found, no room, else Spark's own."""
    try:
        with quiet():
            yield
    except TwhinError:
        raise
    except Exception as error:
        if not isinstance(error, PySparkException) and not type(error).__module__.startswith("py4j"):
            raise
        raise _ours(str(error)) from error


def _ours(text: str) -> TwhinError:
    found = refusal(text)
    if found is not None:
        return found
    if missing := re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", text):
        return UsageError(
            f"Spark's executors cannot import {missing[1]}: they read the files with this package. Install the same "
            "twhin there, with its extra train, and name its Python by PYSPARK_PYTHON. See docs/scale.md."
        )
    if "No space left on device" in text:
        return DiskFull("The disk of an executor, or the output's, is full. Free some space and run it again.")
    causes = re.findall(r"^Caused by: ([^\n]+)", text, re.MULTILINE)
    words = causes[-1] if causes else (text.splitlines() or ["no reason was given"])[0]
    return SparkFailed(f"Spark did not finish: {words:.300}. Its own log has the whole.")

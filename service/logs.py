"""Logs: one JSON object a line, or text. No keys, no vectors, no ids of users."""

import logging
import select
import sys
import time
from contextlib import suppress
from typing import Any, Literal

import orjson

# The fields a log call may add; anything else stays out of the line.
REQUEST_FIELDS = ("request_id", "trace_id", "route", "status", "ms")
FIELDS = (*REQUEST_FIELDS, "reason", "count", "before", "after", "version", "host", "port", "workers", "worker")


class JsonLines(logging.Formatter):
    """One JSON object for each record; line breaks in a message cannot start a line of their own."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({name: getattr(record, name) for name in FIELDS if hasattr(record, name)})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextLines(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        extra = " ".join(f"{name}={getattr(record, name)}" for name in FIELDS if hasattr(record, name))
        text = f"{record.levelname.lower():7} {record.name}: {record.getMessage()} {extra}".rstrip()
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class Lines(logging.StreamHandler[Any]):
    """Writes lines for as long as somebody reads them: a pipe that is full would stop the whole process, answers and
    probes with it. So a line waits a moment for room, and where there is none it is lost, and so is what comes until
    there is. How many were lost is said then.
    """

    PATIENCE_MS = 100.0

    def __init__(self, stream: Any) -> None:
        """To a `stream` of text: standard error, or what stands in its place."""
        super().__init__(stream)
        self._lost = 0
        self._room: select.poll | None = None
        with suppress(OSError, ValueError):  # no file of the system, as in a test
            number = stream.fileno()
            self._room = select.poll()
            self._room.register(number, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of `record`, or count it."""
        if self._room is not None and not self._room.poll(0 if self._lost else self.PATIENCE_MS):
            self._lost += 1
            return
        if self._lost:
            told = {"name": "twhin.service", "levelno": logging.WARNING, "levelname": "WARNING", "count": self._lost}
            self._lost = 0
            super().emit(logging.makeLogRecord(told | {"msg": "lines of the log are lost: nobody had read it"}))
        super().emit(record)


class WithoutValues(logging.Filter):
    """Lines of the libraries that send to collectors, without what they were given: an address may hold a key, a
    caller's header anything. An exception stays by its type, a number as it is.
    """

    LIBRARIES = ("opentelemetry.", "urllib3.", "requests.")
    # What it says of callers' headers says nothing of this service.
    OF_CALLERS = ("opentelemetry.trace.", "opentelemetry.propagate.")

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith(self.OF_CALLERS):
            return False
        if record.name.startswith(self.LIBRARIES):
            given = record.args if isinstance(record.args, tuple) else ()
            record.args = tuple(map(self._told, given))
            record.exc_info = record.exc_text = record.stack_info = None
        return True

    @staticmethod
    def _told(value: object) -> object:
        if isinstance(value, int | float):
            return value
        return type(value).__name__ if isinstance(value, BaseException) else "…"


def configure_logs(level: str, layout: Literal["json", "text"]) -> None:
    """Send everything to standard error in the given layout: what is ours from `level` on, of others only warnings."""
    handler = Lines(sys.stderr)
    handler.addFilter(WithoutValues())
    handler.setFormatter(JsonLines() if layout == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    logging.getLogger("twhin").setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        # Uvicorn's own access lines have paths, and paths have ids; it writes them to whoever listens.
        logging.getLogger(name).propagate = name != "uvicorn.access"

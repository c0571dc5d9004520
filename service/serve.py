"""Starting the service: one worker in this process, or several that share sockets, metrics and the mapped version."""

import contextlib
import ipaddress
import logging
import os
import resource
import signal
import socket
from collections.abc import Sequence

from bundle.errors import UsageError
from bundle.versions import current_path, current_version, earlier_versions
from service.experiments.file import file_of, read_experiments
from service.listener import bind
from service.logs import configure_logs
from service.origins import LOOPBACK
from service.settings import Limits, Settings

log = logging.getLogger("twhin.service")
# The event loop, the store, pipes and a few clients. A version takes more, and says so itself.
FEWEST_FILES = 64


def serve(settings: Settings, host: str = "127.0.0.1", port: int = 8000, workers: int = 1) -> None:
    """Serve until SIGTERM or SIGINT. Nobody can connect before a version is loaded and answers.

    Raises TwhinError when that cannot be: nothing is published, every version that was is unfit, so is the file of
    experiments, somebody else listens on the port, the store of live engagements cannot be opened. OSError when the
    system refuses.
    """
    _require_files()
    read_experiments(file_of(settings.bundles, settings.experiments))  # raises
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # while starting: it means to look at CURRENT
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # mean something to other servers, and would end this one
        signal.signal(number, signal.SIG_IGN)
    if current_version(settings.bundles) is None and not earlier_versions(settings.bundles):
        current_path(settings.bundles)  # raises
    listeners = bind(host, port)
    configure_logs(settings.log_level, settings.log_format)
    here_alone = _are_loopback(listeners)
    if here_alone and not settings.hosts:
        settings = settings.model_copy(update={"hosts": (*LOOPBACK, host)})
    if settings.open_to_all and not here_alone:
        _warn_that_it_is_open(host)
    _warn_of_unknown_variables()

    def started() -> None:
        where = {"host": host, "port": listeners[0].getsockname()[1], "workers": workers}
        log.info("serving", extra=where)

    with contextlib.ExitStack() as doors:
        for listener in listeners:
            doors.enter_context(listener)
        # Each imports what the other does not need, which is most of the time that starting takes.
        if workers == 1:
            from service.runtime import Runtime
            from service.worker import Worker

            Worker(Runtime(settings), listeners, started).run()
        else:
            from service.supervisor import Supervisor

            Supervisor(settings, listeners, workers, started).run()


def _require_files() -> None:
    """Raises UsageError where a process may have so few files open that its parts find none, each in other words."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < FEWEST_FILES:
        raise UsageError(
            f"A process may have {most} files open here, connections included; serving takes {FEWEST_FILES} at least, "
            "and one more for each client. Raise the limit of open files (ulimit -Hn)."
        )


def _warn_that_it_is_open(host: str) -> None:
    log.warning(
        "ANYONE WHO REACHES %s MAY READ AND WRITE: no API key is configured. Set TWHIN_READ_KEYS and "
        "TWHIN_WRITE_KEYS, or listen on 127.0.0.1.",
        host,
    )


def _warn_of_unknown_variables() -> None:
    """A misspelt setting would otherwise be a default in silence."""
    known = {f"TWHIN_{name.upper()}" for name in (*Settings.model_fields, *Limits.model_fields)}
    for name in sorted(os.environ):
        if name.startswith("TWHIN_") and name not in known:
            log.warning("%s is no setting of the service; docs/api.md lists them", name)


def _are_loopback(listeners: Sequence[socket.socket]) -> bool:
    """Whether only this machine reaches them, whatever the name that led to their addresses."""
    return all(ipaddress.ip_address(listener.getsockname()[0]).is_loopback for listener in listeners)

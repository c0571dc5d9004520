"""Starting the service under uvicorn: one worker in this process, or several that share the mapped version."""

import gc
import ipaddress
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from bundle.versions import current_path, current_version
from service.call import ASGIApp
from service.http_protocol import HttpProtocol
from service.logs import configure_logs
from service.main import create_app
from service.metrics import MULTIPROCESS
from service.origins import LOOPBACK
from service.settings import Limits, Settings

log = logging.getLogger("twhin.service")


def serve(settings: Settings, host: str = "127.0.0.1", port: int = 8000, workers: int = 1) -> None:
    """Serve until SIGTERM or SIGINT. Raises BundleNotFound when nothing is published."""
    if current_version(settings.bundles) is None:
        current_path(settings.bundles)  # raises; a published version that is unfit or gone is the workers' business
    configure_logs(settings.log_level, settings.log_format)
    if not settings.hosts and _is_loopback(host):
        settings = settings.model_copy(update={"hosts": LOOPBACK})
    _warn_if_open(settings, host)
    _warn_of_unknown_variables()
    log.info("starting", extra={"host": host, "port": port, "workers": workers})
    if workers == 1:
        _collect_rarely()
        uvicorn.Server(uvicorn.Config(create_app(settings), **_options(settings, host, port))).run()
        return
    with _shared_metrics():
        os.environ.update(environment_of(settings))
        uvicorn.run("service.serve:worker_app", factory=True, workers=workers, **_options(settings, host, port))


def worker_app() -> ASGIApp:
    """The application of one of several workers, with the settings that the parent put into the environment."""
    settings = Settings()
    configure_logs(settings.log_level, settings.log_format)
    _forget_dead_workers(Path(os.environ[MULTIPROCESS]))
    _collect_rarely()
    return create_app(settings)


def _collect_rarely() -> None:
    """What was imported stays for good, and a request frees what it made without the collector's help.

    Left alone, the collector looks through it all every few requests: 4% of the CPU time of a merged slate.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _options(settings: Settings, host: str, port: int) -> dict[str, Any]:
    return {
        "host": host,
        "port": port,
        "loop": "uvloop",
        "http": HttpProtocol,
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": settings.keep_alive_seconds,
        "timeout_graceful_shutdown": settings.shutdown_seconds,
    }


def environment_of(settings: BaseSettings) -> dict[str, str]:
    """The environment variables that make the same settings again in another process."""
    variables: dict[str, str] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseSettings):
            variables.update(environment_of(value))
        elif value is not None and value != ():
            variables[f"TWHIN_{name.upper()}"] = _as_text(value)
    return variables


def _as_text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_as_text, value))
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _warn_if_open(settings: Settings, host: str) -> None:
    if settings.open_to_all and not _is_loopback(host):
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


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _shared_metrics() -> Iterator[None]:
    """A fresh directory in which the workers keep their metrics, removed afterwards."""
    directory = tempfile.mkdtemp(prefix="twhin-metrics-")
    os.environ[MULTIPROCESS] = directory
    try:
        yield
    finally:
        del os.environ[MULTIPROCESS]
        shutil.rmtree(directory, ignore_errors=True)


def _forget_dead_workers(directory: Path) -> None:
    """Drop the live gauges of workers that ended, which would be counted for ever; counters stay."""
    for file in directory.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not Path(f"/proc/{pid}").exists():
            mark_process_dead(pid)  # type: ignore[no-untyped-call]

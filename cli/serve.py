"""`twhin serve`: the HTTP service over a directory of versions."""

import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bundle.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from service.settings import Settings


def serve(
    bundles: Annotated[
        Path, typer.Option("--bundles", envvar="TWHIN_BUNDLES", help="Directory of versions.", metavar="DIR")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback want API keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(help="Processes; they share the mapped files.", min=1)] = 1,
    redis: Annotated[
        str | None, typer.Option("--redis", help="Share live engagements between replicas here.", metavar="URL")
    ] = None,
) -> None:
    """Serve the published version over HTTP and change over when another is published.

    Every other setting is an environment variable TWHIN_…, listed in docs/api.md.
    """
    run_service(bundles, host, port, workers, redis)


def run_service(bundles: Path, host: str, port: int, workers: int = 1, redis: str | None = None) -> None:
    """Start the service and stay until it is stopped. Raises BundleNotFound, UsageError before anything is bound."""
    from service.serve import serve as run

    settings = _settings(bundles, redis)
    require_free(host, port)
    with suppress(KeyboardInterrupt):  # raised again by uvicorn when Ctrl-C has stopped it and requests are done
        run(settings, host=host, port=port, workers=workers)


def require_free(host: str, port: int) -> None:
    """Raise UsageError when nobody can listen on `host` and `port`."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise UsageError(
            f"Nobody can listen on {host}:{port}: {error.strerror}. Stop what does, or choose another --port or --host."
        ) from error


def _settings(bundles: Path, redis: str | None) -> "Settings":
    from pydantic import SecretStr, ValidationError

    from bundle.records import first_error
    from service.settings import Settings

    try:
        return Settings(bundles=bundles) if redis is None else Settings(bundles=bundles, redis_url=SecretStr(redis))
    except ValidationError as error:
        first = first_error(error)
        raise ConfigError(
            f"The environment variable TWHIN_{first.key.upper()}: {first.message}. Correct it; docs/api.md lists all."
        ) from None

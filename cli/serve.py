"""`twhin serve`: the HTTP service over a directory of versions."""

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
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; others than loopback want API keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(help="Processes; they share the mapped files.", min=1, max=1024)] = 1,
    redis: Annotated[
        str | None,
        typer.Option("--redis", help="Share live engagements between replicas in this Redis.", metavar="URL"),
    ] = None,
    redis_file: Annotated[
        Path | None,
        typer.Option("--redis-file", help="The same, by a file with the URL: for one with a password.", metavar="FILE"),
    ] = None,
) -> None:
    """Serve the published version over HTTP and change over when another is published.

    Every other setting is an environment variable TWHIN_…, listed in docs/api.md.
    """
    run_service(bundles, host, port, workers, redis, redis_file)


def run_service(
    bundles: Path, host: str, port: int, workers: int = 1, redis: str | None = None, redis_file: Path | None = None
) -> None:
    """Start the service and stay until it is stopped. What keeps it from starting is raised before it listens."""
    from service.serve import serve as run

    run(service_settings(bundles, redis, redis_file), host=host, port=port, workers=workers)


def require_free(host: str, port: int) -> None:
    """Raise UsageError when nobody can listen on `host` and `port`."""
    from service.listener import bind

    for listener in bind(host, port):
        listener.close()


def service_settings(bundles: Path, redis: str | None, redis_file: Path | None) -> "Settings":
    from pydantic import ValidationError

    from bundle.records import first_error
    from service.settings import Settings
    from service.state.redis_address import redis_addresses

    if redis is not None and redis_addresses(redis)[0].password is not None:
        raise UsageError(
            "--redis has a password, and everybody on this machine sees the arguments of a command: "
            "set TWHIN_REDIS_URL, or name a file with the URL by --redis-file."
        )
    given = {"redis_url": redis, "redis_url_file": redis_file}
    try:
        return Settings(bundles=bundles, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = first_error(error)
        raise ConfigError(
            f"The environment variable TWHIN_{first.key.upper()}: {first.message}. Correct it; docs/api.md lists all."
        ) from None

"""`twhin serve`: the HTTP service over a directory of versions."""

from pathlib import Path
from typing import Annotated

import typer

from cli.versions import BundlesOption


def serve(
    bundles: BundlesOption,
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
    """Start the service and stay until it is stopped. Raises BundleNotFound before anything is bound."""
    from pydantic import SecretStr

    from service.serve import serve as run
    from service.settings import Settings

    settings = Settings(bundles=bundles) if redis is None else Settings(bundles=bundles, redis_url=SecretStr(redis))
    run(settings, host=host, port=port, workers=workers)

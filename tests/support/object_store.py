"""A real S3 server on a free port: moto's, in a process of its own."""

import contextlib
import subprocess
import sys
import time

import httpx

from tests.support.servers import free_port

BUCKET = "versions"


class S3Server:
    """Speaks S3 over HTTP on 127.0.0.1, with one empty bucket; what it stores is gone with it."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                self.reset()
                return
            time.sleep(0.1)
        raise RuntimeError("the S3 server did not start")

    def reset(self) -> None:
        """Forget everything and make the bucket anew."""
        for method, path in (("POST", "moto-api/reset"), ("PUT", BUCKET)):
            httpx.request(method, f"http://127.0.0.1:{self.port}/{path}", timeout=10).raise_for_status()

    def environment(self, port: int | None = None) -> dict[str, str]:
        """What a process needs to reach it, or a proxy before it on `port`."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "key-of-the-tests",
            "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests",
            "AWS_REGION": "us-east-1",
        }

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

"""What `twhin serve` and `twhin demo` refuse before they begin."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.errors import ConfigError, UsageError
from cli.serve import require_free, run_service


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"127\.0\.0\.1:{port}: Address already in use.*--port"):
            require_free("127.0.0.1", port)
    require_free("127.0.0.1", port)


def test_a_bad_environment_variable_is_named_and_not_echoed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWHIN_WATCH_SECONDS", "often")
    with pytest.raises(ConfigError, match="TWHIN_WATCH_SECONDS: Input should be a valid number") as refused:
        run_service(tmp_path, "127.0.0.1", 0)
    assert "often" not in str(refused.value)


SECRETS = ["pa/ss-word", "pa?ss-word", "pa#ss-word", "123/ss-word", "pa@ss/word", "p%2/ss-word", "[pa-ss-word", "pa:12x@ss#word"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("way", ["--redis", "TWHIN_REDIS_URL", "--redis-file"])
def test_a_bad_redis_url_is_one_line_without_it(tmp_path: Path, secret: str, way: str) -> None:
    url = f"redis://:{secret}@127.0.0.1:6379/0"
    file = tmp_path / "url"
    file.write_text(url)
    words = {"--redis": ["--redis", url], "--redis-file": ["--redis-file", str(file)], "TWHIN_REDIS_URL": []}[way]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TWHIN_")}
    done = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", "serve", "--bundles", str(tmp_path), *words],
        env={**clean, "TWHIN_REDIS_URL": url} if way == "TWHIN_REDIS_URL" else clean,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert not any(part in done.stderr + done.stdout for part in ("ss-word", "pa", "123/") if part in secret)
    assert "redis" in done.stderr.lower()

"""What `twhin serve` and `twhin demo` refuse before they begin."""

import socket
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

"""What `twhin serve` and `twhin demo` refuse before they begin."""

import re
import socket
import subprocess
import sys
import traceback
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


SECRETS = ["pa/ss-word", "pa?ss-word", "pa#ss-word", "123/ss-word", "pa@s/ss-word", "[pa-ss-word", "pa:12x@s#ss-word"]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_bad_redis_url_is_refused_without_a_word_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    url = f"redis://:{secret}@127.0.0.1:6379/0"
    file = tmp_path / "url"
    file.write_text(url)

    def refused(redis: str | None = None, redis_file: Path | None = None) -> None:
        with pytest.raises(ConfigError, match="Redis URL") as error:
            run_service(tmp_path, "127.0.0.1", 0, 1, redis, redis_file)
        told = "".join(traceback.format_exception(error.value))
        assert not re.search(r"ss-word|6379/0\b(?<!host:6379/0)", told)

    refused(redis=url)
    refused(redis_file=file)
    monkeypatch.setenv("TWHIN_REDIS_URL", url)
    refused()


def test_a_password_among_the_arguments_is_refused_in_one_line(tmp_path: Path) -> None:
    url = "redis://:ss-word@127.0.0.1:6379/0"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from cli.main import main; main()",
            "serve",
            "--bundles",
            str(tmp_path),
            "--redis",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "--redis-file" in done.stderr
    assert "ss-word" not in done.stderr + done.stdout


def test_more_workers_than_any_machine_has_memory_for_are_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", "serve", "--workers", "1025"]
        + ["--bundles", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "1024" in done.stderr


@pytest.mark.parametrize("name", ["TWHIN_READ_KEYS", "TWHIN_WRITE_KEYS", "TWHIN_ADMIN_KEYS", "TWHIN_CORS_ORIGINS"])
@pytest.mark.parametrize("value", ["", ",", " , ,"])
def test_a_list_that_is_set_to_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name):
        run_service(tmp_path, "127.0.0.1", 0)


def test_two_places_for_the_redis_url_and_a_file_that_is_absent_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="TWHIN_REDIS_URL_FILE.*cannot be read: No such file"):
        run_service(tmp_path, "127.0.0.1", 0, redis_file=tmp_path / "absent")
    monkeypatch.setenv("TWHIN_REDIS_URL", "redis://localhost/0")
    with pytest.raises(ConfigError, match="both set"):
        run_service(tmp_path, "127.0.0.1", 0, redis_file=tmp_path / "absent")

"""Shells complete the command's words."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("words", "expected"),
    [("twhin exp", {"export"}), ("twhin bundle h", {"history"}), ("twhin export --t", {"--to", "--type"})],
)
def test_a_shell_completes_commands_and_options(words: str, expected: set[str]) -> None:
    asked = {"_TWHIN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    code = "import sys; sys.argv[0] = 'twhin'; from cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert set(done.stdout.split()) == expected, done.stderr

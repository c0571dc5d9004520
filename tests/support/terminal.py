"""A terminal of so many columns: what a command prints where a person looks on."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Sequence


def on_terminal(command: Sequence[str], columns: int) -> str:
    """What `command` prints on a terminal of 50 lines, without what moves the cursor and colours. Raises
    CalledProcessError where it fails.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment["TERM"] = "xterm"
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        printed = b""
        with contextlib.suppress(OSError):  # Linux says so where the other side is gone
            while part := os.read(ours, 65536):
                printed += part
        os.close(ours)
        if process.wait(60):
            raise subprocess.CalledProcessError(process.returncode, command, printed)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", printed.decode())

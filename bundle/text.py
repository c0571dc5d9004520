"""Text that a person wrote, as editors save it: UTF-8 or UTF-16, with or without a byte order mark; TOML among it.

And text as a terminal may show it.
"""

import codecs
import json
import tomllib
from pathlib import Path
from typing import Any

from bundle.errors import ConfigError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """The text of the file at `path`, without the mark that it may begin with; UTF-16 is known by its own.

    Raises OSError, and ConfigError for what is no text, which repeats nothing of it: it may be a password.
    """
    return text_in(path, path.read_bytes())


def text_in(path: Path, data: bytes) -> str:
    """The same of what was read from the file at `path`."""
    try:
        return data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: this is not text in UTF-8. Save the file as UTF-8.") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The TOML in the file at `path`. Raises OSError, and ConfigError for what is none."""
    return toml_in(path, path.read_bytes())


def toml_in(path: Path, data: bytes) -> dict[str, Any]:
    """The same of what was read from the file at `path`."""
    text = text_in(path, data)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}. Correct that line.") from error
    except ValueError as error:
        raise ConfigError(f"{path} has a number of thousands of digits. Correct it.") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply.") from error


def toml_of(value: object) -> str:
    """A value as TOML writes it: as JSON does, but for tables, signs beyond 16 bits, and DEL."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_of(name)} = {toml_of(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def printable(text: str) -> str:
    """`text` with its control characters escaped: an id must not steer the terminal."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)

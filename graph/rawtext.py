"""Text that is not quite CSV or TSV: columns apart by any white space with comment lines, and files inside a zip."""

import codecs
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

from bundle.disk import has_remedy
from bundle.errors import EdgeFileError
from graph.textstream import TextBlocks, TextStream, file_opener

# Text that is squashed at a time.
_BLOCK = 1 << 20
_TO_SPACES = bytes.maketrans(b"\t\r", b"  ")
_COMMENT = re.compile(rb"(?m)^ *[#%][^\n]*")
_SPACES = re.compile(rb" {2,}")


class SquashedLines(io.RawIOBase):
    """The lines of `file` with one space between columns; comment lines become blank, so lines keep their numbers."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self._ready = b""
        self._begins = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._ready:
            lines = self._file.read(_BLOCK) + self._file.readline()
            self._ready = squash(lines.removeprefix(codecs.BOM_UTF8) if self._begins else lines)
            self._begins = False
        part, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self._file.close()
        super().close()


def squash(lines: bytes) -> bytes:
    """Whole lines of text with white space made single and comments blanked."""
    text = _SPACES.sub(b" ", lines.translate(_TO_SPACES))
    text = text.replace(b" \n", b"\n").replace(b"\n ", b"\n").removeprefix(b" ")
    return _COMMENT.sub(b"", text) if b"#" in text or b"%" in text else text


def squashed_opener(path: Path) -> Callable[[], TextStream]:
    """Opens the file at `path`, gzipped or not, as squashed lines."""
    inner = file_opener(path)

    def opener() -> TextStream:
        stream = inner()
        text = io.BufferedReader(TextBlocks(stream.file), buffer_size=_BLOCK)  # of UTF-16 too
        file = io.BufferedReader(SquashedLines(text), buffer_size=_BLOCK)
        return TextStream(file, stream.consumed)

    return opener


class _Member(io.BufferedReader):
    """A file in a zip that knows how much of the zip is consumed, and closes it too."""

    def __init__(self, path: Path, name: str) -> None:
        self.beneath = path.open("rb")
        self.archive = zipfile.ZipFile(self.beneath)
        super().__init__(cast(io.RawIOBase, self.archive.open(name)), buffer_size=_BLOCK)

    def close(self) -> None:
        super().close()
        self.archive.close()
        self.beneath.close()


def zip_opener(path: Path) -> Callable[[], TextStream]:
    """Opens the one CSV file inside the zip at `path`. Raises EdgeFileError when there is not just one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".csv") and "__MACOSX" not in name]
            for name in names[:1]:
                archive.open(name).close()
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:  # encrypted, or of a new method
        if has_remedy(error):
            raise
        raise EdgeFileError(f"{path} is not a readable zip file: {error}. Copy it again.") from error
    if len(names) != 1:
        raise EdgeFileError(f"{path} holds {len(names)} CSV files, expected one. Unpack it and give the file you mean.")

    def opener() -> TextStream:
        member = _Member(path, names[0])
        return TextStream(member, member.beneath.tell)

    return opener

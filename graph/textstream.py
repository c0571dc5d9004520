"""Text on its way from a file to the parser: uncompressed, as UTF-8, in blocks."""

import codecs
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

# The endings of compressed files, and what pyarrow calls the compression.
CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_BUFFER_BYTES = 1 << 18
_GZIP_BITS = 16 + zlib.MAX_WBITS
_GZIP = 0x1F  # the first byte of each part
_QUOTE = ord('"')
_LINE_MARKS = tuple(end + codecs.BOM_UTF8 for end in (b"\n", b"\r"))
_MARK_BYTES = len(codecs.BOM_UTF8)
_CHARACTER_BYTES = 4


@dataclass(frozen=True, slots=True)
class TextStream:
    """Text being read, uncompressed, and how far into the file on disk that is."""

    file: io.BufferedIOBase
    consumed: Callable[[], int]


def file_opener(path: Path) -> Callable[[], TextStream]:
    """Opens the file at `path`, which is compressed where its ending says so."""

    def plain() -> TextStream:
        file = path.open("rb")
        return TextStream(file, file.tell)

    def uncompressed() -> TextStream:
        file = path.open("rb")
        codec = CODECS[path.suffix.lower()]
        text = Gunzipped(file) if codec == "gzip" else pa.CompressedInputStream(pa.PythonFile(file, mode="r"), codec)
        return TextStream(io.BufferedReader(text, _BUFFER_BYTES), file.tell)

    return uncompressed if path.suffix.lower() in CODECS else plain


class Gunzipped(io.RawIOBase):
    """What is in a gzip file of one part or several, each checked by its checksum, and zeros after the last: dd and
    tapes fill up their last block, which gzip(1) reads and pyarrow refuses. Raises OSError for what is none.
    """

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self._part, self._in_part = zlib.decompressobj(wbits=_GZIP_BITS), False
        self._rest = b""  # read, and not uncompressed yet
        self._parts = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """As many bytes as there is room for, or fewer; none at the end."""
        while True:
            data = self._rest or self._file.read(_BUFFER_BYTES)
            ended = not data
            if not self._in_part:
                self._rest = data = data.lstrip(b"\0") if self._parts else data
                if ended:
                    return 0
                if not data:
                    continue
                if self._parts and data[0] != _GZIP:
                    raise OSError("after the end of its compressed data comes something else than zeros")
                self._part, self._in_part = zlib.decompressobj(wbits=_GZIP_BITS), True
                self._parts += 1
            text = self._uncompressed(data, len(buffer))
            if text:
                buffer[: len(text)] = text
                return len(text)
            if ended and self._in_part:
                raise OSError("it ends in the middle of its compressed data")

    def _uncompressed(self, data: bytes, most: int) -> bytes:
        try:
            text = self._part.decompress(data, most)
        except zlib.error as error:
            raise OSError(str(error)) from error
        self._rest = self._part.unconsumed_tail or self._part.unused_data
        self._in_part = not self._part.eof
        return text

    def close(self) -> None:
        """Close the file too."""
        self._file.close()
        super().close()


class TextBlocks(io.RawIOBase):
    """The text of `file` as UTF-8, in blocks that do not end between a carriage return and a line feed.

    pyarrow drops a line feed that begins a block where the block before ended with a carriage return, and does so
    inside quotes too, where both are part of the value. UTF-16 is known by its byte order mark.
    """

    def __init__(self, file: io.BufferedIOBase) -> None:
        # So far: how many, and whether there is a zero byte, and a byte order mark that begins a line but the first.
        self.quotes, self.lines, self.zeros, self.marks = 0, 0, False, False
        self._end = b""
        self._line_begins = True
        self._file = file
        try:
            self._rest = file.read(2)
        except BaseException:  # there is nobody yet who could close it
            file.close()
            raise
        self._decoder: codecs.IncrementalDecoder | None = None
        if self._rest in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            self._decoder = codecs.getincrementaldecoder("utf-16")()
            self._rest = self._decoder.decode(self._rest).encode()

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, of which there must be more than room for a character; none at the end."""
        block = self._rest + self._next(size - len(self._rest) - _CHARACTER_BYTES)
        self._rest = b""
        if block.endswith(b"\r"):  # not held back: it may be the only line end in the block
            following = self._next(1)
            if following == b"\r":
                self._rest = following
            else:
                block += following
        self.zeros = self.zeros or b"\0" in block
        seam = self._end + block[:_MARK_BYTES]
        for text in (block, seam):
            if codecs.BOM_UTF8[:1] in text:  # one byte is looked for many times faster than several
                self.marks = self.marks or any(mark in text for mark in _LINE_MARKS)
        self._end = (self._end + block[-_MARK_BYTES:])[-_MARK_BYTES:]
        if block:
            ends = block.count(b"\n") + (block.count(b"\r") - block.count(b"\r\n") if b"\r" in block else 0)
            ended = block.endswith((b"\n", b"\r"))
            self.lines += self._line_begins + ends - ended
            self._line_begins = ended
        if b'"' in block:
            self.quotes += int(np.count_nonzero(np.frombuffer(block, dtype=np.uint8) == _QUOTE))
        return block

    def _next(self, size: int) -> bytes:
        if self._decoder is None:
            return self._file.read(size)
        text = b""
        while size - len(text) >= _CHARACTER_BYTES or not text:
            data = self._file.read(max((size - len(text)) // 3, 1) * 2)  # two bytes make up to three
            text += self._decoder.decode(data, final=not data).encode()
            if not data:
                break
        return text

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """`read` into a buffer."""
        block = self.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        """Close the file too."""
        self._file.close()
        super().close()

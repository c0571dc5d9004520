"""Decoding compressed features here: codes of a byte a part to vectors, by a codebook that is kept.

`vector = concat(codebooks[m][codes[m]])`, then `@ rotation` where there is one (docs/bundle-format.md).
"""

from __future__ import annotations

import base64
import binascii
import time
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from twhin_client.errors import AnswerUnreadable, CodebookMismatch
from twhin_client.types import CodebookAnswer
from twhin_client.vectors import Vectors

# How long the codebook of whatever version serves is used without asking whether it is still that one.
FRESH_S = 60.0


@dataclass(frozen=True)
class FeatureDecoder:
    """A codebook: `codebooks` float32 [parts, codewords, dim / parts], `rotation` float32 [dim, dim] or None.

    `etag` names it: codes say which codebook they fit by the same name.
    """

    codebooks: npt.NDArray[np.float32]
    rotation: npt.NDArray[np.float32] | None
    etag: str

    @classmethod
    def of_answer(cls, answer: CodebookAnswer) -> FeatureDecoder:
        """The codebook of an answer. Raises AnswerUnreadable when its bytes are not as many as it says."""
        parts, codewords, dim = answer.subquantizers, answer.codewords, answer.dim
        try:
            books = np.frombuffer(base64.b64decode(answer.codebooks, validate=True), dtype="<f4")
            books = books.reshape(parts, codewords, dim // parts)
            rotation = None
            if answer.rotation is not None:
                flat = np.frombuffer(base64.b64decode(answer.rotation, validate=True), dtype="<f4")
                rotation = flat.reshape(dim, dim).astype(np.float32)
        except (ValueError, ZeroDivisionError, binascii.Error) as error:
            raise AnswerUnreadable(f"the codebook that came is none: {error}") from error
        return cls(books.astype(np.float32), rotation, answer.etag)

    @property
    def dim(self) -> int:
        """Numbers of a decoded vector."""
        return int(self.codebooks.shape[0] * self.codebooks.shape[2])

    def decode(self, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Vectors float32 [n, dim] of codes uint8 [n, parts]. Raises CodebookMismatch for another number of parts."""
        parts, codewords, part_dim = self.codebooks.shape
        if codes.ndim != 2 or codes.shape[1] != parts or codes.dtype != np.uint8:
            raise CodebookMismatch(f"codes are uint8 [n, {parts}] for this codebook, not {codes.dtype} {codes.shape}")
        flat = self.codebooks.reshape(parts * codewords, part_dim)
        # A code cannot be out of range, and "clip" spares NumPy a checked copy.
        places = codes + np.arange(0, parts * codewords, codewords, dtype=np.intp)
        rebuilt = flat.take(places.ravel(), axis=0, mode="clip").reshape(len(codes), parts * part_dim)
        return rebuilt if self.rotation is None else rebuilt @ self.rotation

    def decode_vectors(self, codes: Vectors) -> Vectors:
        """The vectors of an answer with codes; what is missing stays zeros. Raises CodebookMismatch when the answer
        names another codebook.
        """
        if codes.codebook is not None and codes.codebook != self.etag:
            raise CodebookMismatch(
                f"these codes are of codebook {codes.codebook}, this is {self.etag}: ask for the decoder of version "
                f"{codes.version}"
            )
        values = self.decode(np.ascontiguousarray(codes.values))
        values[codes.missing] = 0.0
        return replace(codes, values=values)


@dataclass
class DecoderCache:
    """Decoders by type, space and version. A version's codebook never changes; that of whatever serves is asked after
    again, by its ETag, when it is older than a minute.
    """

    kept: dict[tuple[str, str | None, str | None], tuple[FeatureDecoder, float]] = field(default_factory=dict)

    def fresh(self, key: tuple[str, str | None, str | None]) -> FeatureDecoder | None:
        """The decoder, if there is no need to ask."""
        decoder, since = self.kept.get(key, (None, 0.0))
        named = key[2] is not None
        return decoder if named or time.monotonic() - since < FRESH_S else None

    def headers(self, key: tuple[str, str | None, str | None]) -> dict[str, str]:
        """What to send along, so that an unchanged codebook does not come again."""
        decoder, _ = self.kept.get(key, (None, 0.0))
        return {} if decoder is None else {"if-none-match": f'"{decoder.etag}"'}

    def answered(self, key: tuple[str, str | None, str | None], answer: CodebookAnswer | None) -> FeatureDecoder:
        """Keep what came; None is "not modified"."""
        decoder = self.kept[key][0] if answer is None else FeatureDecoder.of_answer(answer)
        if answer is not None:  # two versions may have one codebook: one copy of it is enough
            decoder = next((one for one, _ in self.kept.values() if one.etag == decoder.etag), decoder)
        self.kept[key] = decoder, time.monotonic()
        return decoder

"""The decoder of compressed features as a torch module, for a ranking model to read codes instead of vectors."""

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from bundle.pq import ProductQuantizer


class ProductDecoder(nn.Module):
    """Codes to vectors: M gathers, and one d×d product under OPQ. The codebooks are buffers: they do not learn.

    Without a rotation it agrees bit for bit with `bundle.pq` and with FAISS.
    """

    codebooks: Tensor
    offsets: Tensor
    rotation: Tensor

    def __init__(self, quantizer: ProductQuantizer) -> None:
        super().__init__()
        parts, codewords, part_dim = quantizer.codebooks.shape
        rotation = torch.empty(0) if quantizer.rotation is None else torch.tensor(quantizer.rotation)
        self.register_buffer("codebooks", torch.tensor(quantizer.codebooks).reshape(parts * codewords, part_dim))
        self.register_buffer("offsets", torch.arange(parts) * codewords)
        self.register_buffer("rotation", rotation)

    def forward(self, codes: UInt8[Tensor, "n parts"]) -> Float32[Tensor, "n dim"]:
        """The vectors that `codes` stand for."""
        decoded = self.codebooks[codes.long() + self.offsets].flatten(1)
        return decoded @ self.rotation if len(self.rotation) else decoded

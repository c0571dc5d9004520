"""Triton without a GPU: its interpreter. On a GPU it is the compiled kernels that are tested."""

import importlib.util
import os

import pytest
import torch

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is not installed: `make test` installs it on Linux (group `kernels`)",
)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":  # read when a kernel's module is first imported
    os.environ["TRITON_INTERPRET"] = "1"

"""Training against the rounding of 16-bit layers: alpha in bf16 should be what it is in fp32.

The network runs twice, the second time with what its layers return cut to fewer bits than bf16 has: the same errors,
2^`DROPPED` times as large, so that their gradient stands out of the rounding of the training itself.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

DROPPED = 3
"""Bits of bf16's mantissa that are cut off."""
SHARE = 1 / 3
"""Of the steps, those that run the network twice."""
LAYERS = frozenset((F.batch_norm, F.interpolate, Tensor.add, Tensor.sigmoid, Tensor.tanh))
"""What is written to memory in 16 bits, once convolutions and normalisations are one."""


class FewerBits(TorchFunctionMode):
    """Within it, what layers return in bf16 has `DROPPED` bits fewer; gradients pass as if it had not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func in LAYERS and made.dtype == torch.bfloat16:
            return _Cut.apply(made)  # type: ignore[no-untyped-call]
        return made


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        bits = x.view(torch.int16)
        half, keep = 1 << (DROPPED - 1), -(1 << DROPPED)
        return ((bits + half) & keep).view(torch.bfloat16)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def change(rounded: Tensor, alpha: Tensor) -> Tensor:
    """How far `rounded` is from `alpha` (both `[N, 1, H, W]`), scaled to what bf16 would make of it.

    For each picture the fourth root of the mean of fourth powers: what counts are the worst pixels.
    """
    error = (rounded - alpha) / 2**DROPPED
    worst: Tensor = (error.pow(4).mean((1, 2, 3)) + 1e-12).pow(0.25)
    return worst.mean()

"""Training against the rounding of 16-bit layers: alpha in bf16 should be what it is in fp32.

The network runs twice, the second time with what its layers return cut to fewer bits than bf16 has: the same errors,
2^`DROPPED` times as large, so that their gradient stands out of the rounding of the training itself. At the end
`bf16_weights` takes away the errors of the weights: both precisions are given the same ones.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mattecli.zoo.realtime import ConvNorm
from mattecli.zoo.spec import stays_exact

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


def can_round(network: nn.Module) -> bool:
    """Whether `network` says what of it stays in fp32, and which convolution each of its normalisations follows."""
    says = getattr(network, "exact", None) is not None
    return says and any(isinstance(module, ConvNorm) for module in network.modules())


@torch.no_grad()
def bf16_weights(network: nn.Module) -> dict[str, Tensor]:
    """The tensors of `network` in numbers that are the same in fp32 and in bf16, once its normalisations are folded.

    Their factors are moved into the convolutions, so that folding changes no weight; weights and shifts are rounded to
    bf16, but for those of `network.exact`. Apart from the rounding the network is the same, in training too. Weights of
    convolutions are stored in fp16, which holds what bf16 does from 2^-17 up; below, its steps of 2^-24 are numbers of
    bf16 as well.
    """
    network = copy.deepcopy(network)
    for name, module in network.named_modules():
        rounds = not stays_exact(network, name)
        if isinstance(module, ConvNorm):
            _move_factor(module, rounds)
        elif isinstance(module, nn.Conv2d) and rounds:  # also that of a ConvNorm, which comes before it
            for parameter in module.parameters():
                parameter.copy_(_in_bf16(parameter))
    return {key: _in_fp16(value) if value.ndim == 4 else value for key, value in network.state_dict().items()}


def _move_factor(module: ConvNorm, rounds: bool) -> None:
    """Leave the normalisation a factor (weight over standard deviation) of 1 or -1; with `rounds`, a shift in bf16.

    A weight below the root of epsilon, which no variance makes a factor of 1, grows to it.
    """
    convolution, norm = module[0], module[1]
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * factor
    if rounds:
        norm.bias.add_(_in_bf16(shift) - shift)
    norm.running_mean.mul_(factor.abs())
    convolution.weight.mul_(factor.abs().view(-1, 1, 1, 1))
    norm.weight.copy_(torch.copysign(norm.weight.abs().clamp(min=norm.eps**0.5), norm.weight))
    norm.running_var.copy_((norm.weight.square() - norm.eps).clamp(min=0))


def _in_bf16(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).to(x.dtype)


def _in_fp16(x: Tensor) -> Tensor:
    """`x` in fp16, as it is where that would overflow."""
    return x.half() if x.abs().max() <= torch.finfo(torch.half).max else x

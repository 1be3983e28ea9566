"""Losses that several papers share, of maps `[N, C, H, W]`; `weight`, of C channels or one, says where to look."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def mean(error: Tensor, weight: Tensor) -> Tensor:
    """Mean of `error` where `weight` looks; 0 where it looks nowhere."""
    weight = weight.expand_as(error)
    return (error * weight).sum() / weight.sum().clamp(min=1.0)


def l1(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return mean((prediction - target).abs(), weight)


def binary_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy with soft targets in [0, 1]."""
    return mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), weight)


def dice(probability: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 − Dice coefficient per sample, averaged (Milletari et al. 2016, squared denominator)."""
    probability, target = probability * weight, target * weight
    overlap = (probability * target).flatten(1).sum(1)
    size = (probability.square() + target.square()).flatten(1).sum(1)
    return (1 - (2 * overlap + 1) / (size + 1)).mean()


def laplacian(prediction: Tensor, target: Tensor, weight: Tensor, levels: int = 5) -> Tensor:
    """L1 between Laplacian pyramids, level l weighted 2^l, divided by `levels` (Hou & Liu 2019; RVM's scale).

    The pyramid of the difference is the difference of the pyramids, so only one is built. H and W must be
    divisible by 2^(levels−1).
    """
    difference = (prediction - target) * weight
    loss = difference.new_zeros(())
    for level in range(levels):
        if level == levels - 1:
            loss = loss + 2**level * difference.abs().mean()
            break
        coarse = blur(difference)[..., ::2, ::2]
        up = F.interpolate(coarse, size=difference.shape[-2:], mode="bilinear", align_corners=False)
        loss = loss + 2**level * (difference - up).abs().mean()
        difference = coarse
    return loss / levels


def gradient(prediction: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """L1 between lengths of Sobel gradients, where a pixel and its neighbours are `known`."""
    inside = -F.max_pool2d(-known, 3, stride=1, padding=1)
    return l1(sobel(prediction), sobel(target), inside)


def sobel(x: Tensor) -> Tensor:
    """Length of the Sobel gradient, its kernels of sum 1, the border repeated (kornia's)."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=x.dtype, device=x.device) / 8
    slope = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), torch.stack((across, across.T))[:, None])
    return (slope.square().sum(1, keepdim=True) + 1e-6).sqrt()


def temporal(prediction: Tensor, target: Tensor, weight: Tensor, frames: int) -> Tensor:
    """Mean squared error of the change from each frame to the next; the maps hold all first frames first."""
    return mean(*_changes(prediction - target, weight, frames))


def flicker(prediction: Tensor, target: Tensor, weight: Tensor, frames: int) -> Tensor:
    """As `temporal`, but dtSSD's: the root of each pair of frames, then the mean of the pairs."""
    squares, known = _changes(prediction - target, weight, frames)
    pairs = (squares * known).flatten(2).sum(2) / known.flatten(2).sum(2).clamp(min=1)
    return (pairs + 1e-8).sqrt().mean()


def _changes(error: Tensor, weight: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Squared, and where both frames are known: `[frames - 1, N, C, H, W]`."""
    clips, known = (x.view(frames, -1, *x.shape[1:]) for x in (error, weight))
    return (clips[1:] - clips[:-1]).square(), torch.minimum(known[1:], known[:-1])


def blur(x: Tensor) -> Tensor:
    """The 5×5 binomial filter, the batch as channels: oneDNN is forty times faster so than with one channel."""
    line = torch.tensor(_BINOMIAL, dtype=x.dtype, device=x.device)
    kernel = torch.outer(line, line).expand(len(x), 1, 5, 5)
    padded = F.pad(x, (2, 2, 2, 2), mode="reflect").transpose(0, 1)
    return F.conv2d(padded, kernel, groups=len(x)).transpose(0, 1)

"""The refinement of Background Matting V2 (section 4.2): which blocks, and how they are refined."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mattecli.errors import UsageError
from mattecli.zoo.layers import resize

COARSE_SIDE = 480
"""Longer side of what the base sees, at both published scales: 1920 / 4 and 3840 / 8."""
LARGEST_SCALE = 0.5
SAMPLED, OF = 80_000, 1920 * 1080
"""Pixels that the published setting for HD refines; that for 4K refines the same share."""


class Refiner(nn.Module):
    """Two convolutions at half, two at full resolution; a block of 4×4 pixels depends on the 16×16 round it."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(hidden + 4 + 6, 24, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 16, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16 + 6, 12, 3, bias=False)
        self.bn3 = nn.BatchNorm2d(12)
        self.conv4 = nn.Conv2d(12, 4, 3)

    def forward(self, pair: Tensor, hidden: Tensor, alpha: Tensor, residual: Tensor, blocks: Tensor | None) -> Tensor:
        """Alpha and foreground minus image `[N, 4, H, W]`, not clamped.

        `pair` `[N, 6, H, W]` is image and background; `hidden`, `alpha` and `residual` are the base's, at its size.
        `blocks` `[N, 1, H/4, W/4]` (bool) says which to refine, None all; the others are upsampled.
        """
        half = (pair.shape[-2] // 2, pair.shape[-1] // 2)
        at_half = torch.cat((resize(torch.cat((hidden, alpha, residual), 1), half), resize(pair, half)), 1)
        if blocks is None:
            x = self._first(F.pad(at_half, (3, 3, 3, 3)))
            return self._second(F.interpolate(x, scale_factor=2.0), F.pad(pair, (2, 2, 2, 2)))
        upsampled = resize(torch.cat((alpha, residual), 1), pair.shape[-2:])
        where = blocks[:, 0].nonzero(as_tuple=True)
        if self.training and not len(where[0]):  # BatchNorm cannot learn from nothing
            return upsampled
        x = self._first(_cut(at_half, where, side=2, ring=3))
        refined = self._second(F.interpolate(x, scale_factor=2.0), _cut(pair, where, side=4, ring=2))
        sample, row, column = where
        height, width = blocks.shape[-2:]
        tiles = upsampled.view(len(blocks), 4, height, 4, width, 4)
        tiles[sample, :, row, :, column, :] = refined.to(tiles.dtype)
        return upsampled

    def _first(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)))

    def _second(self, x: Tensor, pair: Tensor) -> Tensor:
        x = F.relu(self.bn3(self.conv3(torch.cat((x, pair), 1))))
        y: Tensor = self.conv4(x)
        return y


def published_scale(height: int, width: int) -> float:
    """What the base sees of the picture: 1/4 of HD, 1/8 of 4K, never more than half."""
    return min(LARGEST_SCALE, COARSE_SIDE / max(height, width))


def select(error: Tensor, mode: str, pixels: int | None, threshold: float) -> Tensor:
    """The blocks to refine `[N, 1, H/4, W/4]` (bool) after their expected error, of that shape.

    `pixels` counts those of the picture that "sampling" refines; None is 80,000, or their share of HD where that is
    more. Raises `UsageError` for an unknown mode.
    """
    if mode == "full":
        return torch.ones_like(error, dtype=torch.bool)
    if mode == "thresholding":
        return error > threshold
    if mode == "sampling":
        flat = error.flatten(1)
        blocks = flat.shape[1]
        if pixels is None:
            pixels = max(SAMPLED, SAMPLED * 16 * blocks // OF)
        largest = flat.topk(min(pixels // 16, blocks), sorted=False).indices
        chosen = torch.zeros_like(flat).scatter(1, largest, 1.0)
        return (chosen.view_as(error) > 0) & (error > 0)
    raise UsageError(f"bgmv2 refines by sampling, thresholding or full, not by {mode!r}.")


def _cut(x: Tensor, where: Sequence[Tensor], side: int, ring: int) -> Tensor:
    """The blocks of `side` pixels at `where` (sample, row, column), each with a ring round it, zero outside."""
    sample, row, column = where
    reach = side + 2 * ring
    windows = F.pad(x, (ring, ring, ring, ring)).unfold(2, reach, side).unfold(3, reach, side)
    return windows[sample, :, row, column]

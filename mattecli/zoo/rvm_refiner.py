"""The guided filters that bring RVM's result to the full size.

Both fit, at the small size, alpha and foreground as a linear function of the picture (its colours and their mean),
`y = a · x + b` in each 3×3 window, and apply a and b, upsampled, to the full picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 4
"""Red, green, blue and their mean; and of the result foreground and alpha."""


class DeepGuidedFilter(nn.Module):
    """Slopes by a small network (Wu et al. 2018). Trap: its box filter is learned too, and starts as the mean."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.box_filter = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS, bias=False)
        nn.init.constant_(self.box_filter.weight, 1 / 9)
        self.conv = nn.Sequential(
            nn.Conv2d(2 * CHANNELS + hidden, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, CHANNELS, 1),
        )

    def forward(
        self, image: Tensor, seen: Tensor, residual: Tensor, alpha: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Residual `[N, 3, H, W]` and alpha `[N, 1, H, W]` at the size of `image` from those at the size of `seen`."""
        x, y = _with_mean(seen), torch.cat((residual, alpha), 1)
        mean_x, mean_y = self.box_filter(x), self.box_filter(y)
        covariance = self.box_filter(x * y) - mean_x * mean_y
        variance = self.box_filter(x * x) - mean_x * mean_x
        slope = self.conv(torch.cat((covariance, variance, hidden), 1))
        return _apply(slope, mean_y - slope * mean_x, image)


class FastGuidedFilter(nn.Module):
    """Slopes by least squares (He and Sun 2015): radius 1, ε 1e-5, nothing learned."""

    def forward(
        self, image: Tensor, seen: Tensor, residual: Tensor, alpha: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Residual `[N, 3, H, W]` and alpha `[N, 1, H, W]` at the size of `image` from those at the size of `seen`."""
        x, y = _with_mean(seen), torch.cat((residual, alpha), 1)
        mean_x, mean_y = _box(x), _box(y)
        covariance = _box(x * y) - mean_x * mean_y
        variance = _box(x * x) - mean_x * mean_x
        slope = covariance / (variance + 1e-5)
        return _apply(slope, mean_y - slope * mean_x, image)


def _with_mean(image: Tensor) -> Tensor:
    return torch.cat((image, image.mean(1, keepdim=True)), 1)


def _box(x: Tensor) -> Tensor:
    """Mean of 3×3 pixels, zero outside, along the rows and then the columns.

    Variance as a difference of means loses digits, and the least squares magnify what is left: in a smooth picture up
    to 1e-4 of the largest output. Differences from each window's mean would lose 3e-6, and be as far from what the
    authors' filter gives in float32 as that is from the truth; so the order is theirs.
    """
    third = x.new_full((x.shape[1], 1, 1, 3), 1 / 3)
    x = F.conv2d(x, third, padding=(0, 1), groups=x.shape[1])
    return F.conv2d(x, third.transpose(2, 3), padding=(1, 0), groups=x.shape[1])


def _apply(slope: Tensor, intercept: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    size = image.shape[-2:]
    slope, intercept = (F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in (slope, intercept))
    residual, alpha = torch.split(slope * _with_mean(image) + intercept, [3, 1], 1)
    return residual, alpha

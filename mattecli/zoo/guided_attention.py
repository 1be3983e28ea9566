"""Guided contextual attention (Li & Lu, AAAI 2020; equations 1 to 4 and figure 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOOR = 1e-4
"""Least length that a patch is divided by."""
EXCLUDED = -1e4


class GuidedAttention(nn.Module):
    """Moves alpha features to where the image looks like the place they come from.

    Patches of the guidance, 3×3 at half its size, are compared by cosine; each place attends to all patches and takes
    the 4×4 patches of the alpha feature that lie there. Unknown patches take nothing from themselves, and known and
    unknown ones are scaled by how rare they are.
    """

    def __init__(self, channels: int, guidance: int) -> None:
        super().__init__()
        self.guidance_conv = nn.Conv2d(guidance, guidance // 2, 1)
        self.W = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        norm = self.W[1]
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.constant_(norm.weight, 1e-3)

    def forward(self, guidance: Tensor, alpha: Tensor, unknown: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """guidance `[N, G, h, w]`, alpha feature `[N, C, h, w]`, unknown plane `[N, 1, 8h, 8w]` → alpha feature of the
        same shape, offsets `[N, 2, h/2, w/2]` (row and column of the patch most attended, from the middle) and scales
        `[N, 2]` (of unknown and known patches)."""
        image = F.interpolate(self.guidance_conv(guidance), scale_factor=0.5, mode="nearest")
        height, width = image.shape[-2:]
        soft = F.interpolate(F.interpolate(unknown, scale_factor=1 / 8, mode="nearest"), scale_factor=0.5)
        scales = _scales(soft.float())
        queries = F.unfold(F.pad(image, (1, 1, 1, 1), mode="reflect"), 3)
        keys = queries / queries.square().sum(1, keepdim=True).sqrt().clamp(min=FLOOR)
        values = F.unfold(F.pad(alpha, (1, 1, 1, 1), mode="reflect"), 4, stride=2)
        open_ = F.max_pool2d(soft, 3, stride=1, padding=1).flatten(1).float()
        scale = scales[:, :1] * open_ + scales[:, 1:] * (1 - open_)
        likeness = ((keys * scale[:, None]).transpose(1, 2) @ queries).float()
        itself = torch.eye(height * width, dtype=torch.bool, device=open_.device) & open_.bool()[:, None]
        attention = likeness.masked_fill_(itself, EXCLUDED).softmax(1)
        size = tuple(int(side) for side in alpha.shape[-2:])  # ONNX's exporter takes a fold to no other
        moved = F.fold(values @ attention.to(values.dtype), size, 4, stride=2, padding=1) / 4
        return alpha + self.W(moved), _offsets(attention, height, width), scales


def _scales(unknown: Tensor) -> Tensor:
    """How much more the rarer kind of patch weighs: √ of the kinds' ratio, between 0.1 and 10."""
    share = unknown.mean((1, 2, 3))
    ratio = torch.stack((share / (1 - share), (1 - share) / share), 1)
    return ratio.sqrt().clamp(0.1, 10.0)


def _offsets(attention: Tensor, height: int, width: int) -> Tensor:
    best = attention.argmax(1).view(-1, height, width)
    return torch.stack((best // width - height // 2, best % width - width // 2), 1)

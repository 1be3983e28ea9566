"""Swin Transformer: Hierarchical Vision Transformer using Shifted Windows (Liu et al. 2021), Swin-T, no classifier.

Keys are those of the authors' files (`patch_embed.proj.weight`, `layers.0.blocks.1.attn.qkv.weight`,
`layers.0.downsample.reduction.weight` …); `norm0` … `norm3`, one for each map that is given out, are those of their
detection networks. There is no stochastic depth.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mattecli.errors import UsageError
from mattecli.zoo.encoders.imagenet import refuse_larger

WINDOW = 7
SHIFT = WINDOW // 2
EMBEDDING, HEADS, DEPTHS = 96, (3, 6, 12, 24), (2, 2, 6, 2)
"""Swin-T's channels at first (doubled from stage to stage), attention heads and blocks of its four stages."""

APART = -100.0
"""Added to the attention of pixels that only the shift brought together; as published, not infinite."""


class Swin(nn.Module):
    """Any size: what windows or halving lack at the lower right is zeros.

    `inputs` are the image's channels, `patch` the pixels across that become one. `forward(x [N, inputs, H, W])` returns
    four maps, 96, 192, 384 and 768 channels at 1, 1/2, 1/4 and 1/8 of H/patch.
    """

    def __init__(self, inputs: int = 3, patch: int = 4) -> None:
        super().__init__()
        self.patch_embed = Embedding(inputs, patch)
        self.channels = tuple(EMBEDDING * 2**stage for stage in range(len(DEPTHS)))
        self.layers = nn.ModuleList(
            Stage(channels, heads, depth, last=stage == len(DEPTHS) - 1)
            for stage, (channels, heads, depth) in enumerate(zip(self.channels, HEADS, DEPTHS, strict=True))
        )
        for stage, channels in enumerate(self.channels):
            self.add_module(f"norm{stage}", nn.LayerNorm(channels))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> list[Tensor]:
        x, maps = self.patch_embed(x), []
        for index, stage in enumerate(self.layers):
            before, x = stage(x)
            maps.append(self.get_submodule(f"norm{index}")(before).permute(0, 3, 1, 2).contiguous())
        return maps


class Embedding(nn.Module):
    """Patches of the picture as vectors, `[N, inputs, H, W]` → `[N, H/patch, W/patch, 96]`."""

    def __init__(self, inputs: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(inputs, EMBEDDING, patch, stride=patch)
        self.norm = nn.LayerNorm(EMBEDDING)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = self.proj(F.pad(x, (0, -width % self.patch, 0, -height % self.patch)))
        y: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return y


class Stage(nn.Module):
    """Blocks, every second one with shifted windows, then a merger but after the last; gives both maps."""

    def __init__(self, channels: int, heads: int, depth: int, last: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(channels, heads, SHIFT * (number % 2)) for number in range(depth))
        self.downsample = None if last else Merger(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for block in self.blocks:
            x = block(x)
        return x, x if self.downsample is None else self.downsample(x)


class Block(nn.Module):
    """Attention within windows, then an MLP, each after a norm and added (figure 3 b). `x` is `[N, H, W, C]`."""

    def __init__(self, channels: int, heads: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels)

    def forward(self, x: Tensor) -> Tensor:
        count, height, width, channels = x.shape
        padded = F.pad(self.norm1(x), (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
        down, across = (side // WINDOW for side in padded.shape[1:3])
        if self.shift:
            padded = padded.roll((-self.shift, -self.shift), (1, 2))
        windows = padded.view(count, down, WINDOW, across, WINDOW, channels).transpose(2, 3)
        windows = windows.reshape(-1, WINDOW**2, channels)
        apart = _apart(down, across, self.shift, x).repeat(count, 1, 1, 1) if self.shift else None
        windows = self.attn(windows, apart)
        y = windows.view(count, down, across, WINDOW, WINDOW, channels).transpose(2, 3).reshape(padded.shape)
        if self.shift:
            y = y.roll((self.shift, self.shift), (1, 2))
        x = x + y[:, :height, :width]
        z: Tensor = x + self.mlp(self.norm2(x))
        return z


def _apart(down: int, across: int, shift: int, like: Tensor) -> Tensor:
    """`APART` between pixels of a shifted window that are no neighbours in the picture, else 0: `[windows, 1, 49, 49]`.

    The last row and column of windows hold what the shift carried round from the first.
    """

    def side(windows: int) -> Tensor:
        place = torch.arange(windows * WINDOW, device=like.device)
        end = windows * WINDOW
        return (place >= end - WINDOW).long() + (place >= end - shift).long()

    region = 3 * side(down)[:, None] + side(across)
    region = region.view(down, WINDOW, across, WINDOW).transpose(1, 2).reshape(-1, 1, WINDOW**2)
    return (region[..., :, None] != region[..., None, :]).to(like.dtype) * APART


class WindowAttention(nn.Module):
    """Multi-head attention within each window, with a learned bias for every offset (equation 4)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        y, x = torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")
        down, across = (place.flatten()[:, None] - place.flatten() + WINDOW - 1 for place in (y, x))
        self.relative_position_index: Tensor
        self.register_buffer("relative_position_index", down * (2 * WINDOW - 1) + across)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, apart: Tensor | None) -> Tensor:
        """`x` `[windows, 49, C]`, `apart` `[windows, 1, 49, 49]`."""
        windows, pixels, channels = x.shape
        qkv = self.qkv(x).view(windows, pixels, 3, self.heads, channels // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None].to(query.dtype)
        mask = bias if apart is None else bias + apart.to(query.dtype)
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        z: Tensor = self.proj(torch.cat(y.unbind(1), -1))
        return z


class MLP(nn.Module):
    """Two linear layers with GELU between, four times as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class Merger(nn.Module):
    """Half the size, twice the channels: each 2×2 pixels side by side (column by column), norm, linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        four = (x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2])
        y: Tensor = self.reduction(self.norm(torch.cat(four, -1)))
        return y


def start(encoder: Swin, tensors: Mapping[str, Tensor]) -> None:
    """Copy ImageNet weights (the authors' file, without its wrapper `model`) into `encoder`.

    What the classifier alone has is left out; the norms of the maps given out, and a patch embedding of other shape,
    stay as they are. Raises `UsageError` where the weights are of another encoder.
    """
    refuse_larger(encoder, tensors)
    own = encoder.state_dict()
    found = {key: tensors[key] for key in own if key in tensors and tensors[key].shape == own[key].shape}
    lacking = [key for key in own if key not in found and not key.startswith(("norm", "patch_embed.proj."))]
    if lacking:
        raise UsageError(
            f"These are no ImageNet weights of this Swin: they lack {lacking[0]}, or have it of other shape."
        )
    encoder.load_state_dict(own | found)

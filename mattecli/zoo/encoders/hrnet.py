"""HRNet: Deep High-Resolution Representation Learning for Visual Recognition (Wang et al. 2020), without classifier.

Branches at 1/4, 1/8, 1/16 and 1/32, each joined by the next stage, run side by side and are fused again and again
(section 3). Keys are those of the authors' ImageNet weights and of timm's (`stage2.0.fuse_layers.0.1.0.weight` …).

Trap: this is Paddle's, whose strided convolutions are padded to the "same" size: for an even side nothing is added
before it and one behind, where the authors add one before and see all shifted by a pixel. Paddle's own keys are
translated by `HRNet.own_key`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from mattecli.zoo.encoders.resnet import BasicBlock, Bottleneck

BLOCKS = 4
"""Residual blocks of a branch in a module, and of `layer1`."""

MODULES = {2: 1, 3: 4, 4: 3}
"""How many modules stages 2, 3 and 4 have, which have as many branches as their number."""


class Halve(nn.Conv2d):
    """3×3 convolution of stride 2 without bias, padded as Paddle pads even sides: one behind, none before."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


def _halve(inputs: int, outputs: int, *activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(Halve(inputs, outputs), nn.BatchNorm2d(outputs), *activation)


class Fused(nn.Module):
    """One module of a stage: the branches apart, then each the sum of all, resampled to its size."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, width) for _ in range(BLOCKS))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_resampling(widths, source, goal) for source in range(len(widths)))
            for goal in range(len(widths))
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        return [F.relu(self._sum(goal, maps)) for goal in range(len(maps))]

    def _sum(self, goal: int, maps: list[Tensor]) -> Tensor:
        layers, y = cast(nn.ModuleList, self.fuse_layers[goal]), maps[goal]
        for source, (layer, x) in enumerate(zip(layers, maps, strict=True)):
            if source < goal:
                y = y + layer(x)
            elif source > goal:
                y = y + F.interpolate(layer(x), size=y.shape[-2:], mode="bilinear", align_corners=False)
        return y


def _resampling(widths: tuple[int, ...], source: int, goal: int) -> nn.Module:
    """From one branch to another: a 1×1 convolution before upsampling, strided convolutions downwards."""
    inputs, outputs = widths[source], widths[goal]
    if source == goal:
        return nn.Identity()
    if source > goal:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
    way = [_halve(inputs, inputs, nn.ReLU(inplace=True)) for _ in range(goal - source - 1)]
    return nn.Sequential(*way, _halve(inputs, outputs))


class HRNet(nn.Module):
    """`width` 18 or 48: the channels at 1/4, doubled with each lower resolution. Sides must be multiples of 32.

    `forward(image [N, 3, H, W])` returns five maps: the first convolution's (64 channels, 1/2) and the last stage's
    four (`channels[1:]`; 1/4, 1/8, 1/16, 1/32).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = tuple(width * 2**level for level in range(4))
        self.channels = (64, *widths)
        self.conv1, self.bn1 = Halve(3, 64), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = Halve(64, 64), nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Bottleneck(64, 64), *(Bottleneck(256, 64) for _ in range(BLOCKS - 1)))
        first = nn.Conv2d(256, width, 3, padding=1, bias=False)
        self.transition1 = nn.ModuleList(
            [nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU(inplace=True)), _join(256, widths[1])]
        )
        self.transition2 = nn.ModuleList([nn.Identity(), nn.Identity(), _join(*widths[1:3])])
        self.transition3 = nn.ModuleList([nn.Identity(), nn.Identity(), nn.Identity(), _join(*widths[2:])])
        self.stage2, self.stage3, self.stage4 = (
            nn.ModuleList(Fused(widths[:stage]) for _ in range(repeats)) for stage, repeats in MODULES.items()
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def own_key(key: str) -> str:
        """Our name of a key of Paddle's file, without a prefix; others come back as they are."""
        for pattern, own in _PADDLE_SITES:
            if match := re.match(pattern, key):
                key = own(*map(int, match.groups())) + key[match.end() :]
                break
        for pattern, name in _PADDLE_LEAVES:
            key = re.sub(pattern, name, key)
        return key

    def forward(self, x: Tensor) -> list[Tensor]:
        stem = F.relu(self.bn1(self.conv1(x)))
        x = self.layer1(F.relu(self.bn2(self.conv2(stem))))
        maps = [layer(x) for layer in self.transition1]
        for modules, transition in ((self.stage2, self.transition2), (self.stage3, self.transition3)):
            for module in modules:
                maps = module(maps)
            maps = [layer(x) for layer, x in zip(transition, [*maps, maps[-1]], strict=True)]
        for module in self.stage4:
            maps = module(maps)
        return [stem, *maps]


def _join(inputs: int, outputs: int) -> nn.Sequential:
    """The way from the lowest resolution to a branch that begins: the authors' weights name it a list of one."""
    return nn.Sequential(_halve(inputs, outputs, nn.ReLU(inplace=True)))


_PADDLE_SITES: tuple[tuple[str, Callable[..., str]], ...] = (
    (r"conv_layer1_(\d)", lambda number: f"conv{number}"),
    (r"la1\.bb_layer2_(\d)", lambda block: f"layer1.{block - 1}"),
    (r"tr1\.transition_tr1_layer_1", lambda: "transition1.0"),
    (r"tr(\d)\.transition_tr\d_layer_(\d)", lambda stage, goal: f"transition{stage}.{goal - 1}.0"),
    (
        r"st(\d)\.stage_st\d_(\d)\.branches_func\.bb_st\d_\d_branch_layer_(\d)_(\d)",
        lambda stage, module, branch, block: f"stage{stage}.{module - 1}.branches.{branch - 1}.{block - 1}",
    ),
    (
        r"st(\d)\.stage_st\d_(\d)\.fuse_func\.residual_st\d_\d_layer_(\d)_(\d)_(\d)",
        lambda stage, module, goal, source, step: (
            f"stage{stage}.{module - 1}.fuse_layers.{goal - 1}.{source - 1}.{step - 1}"
        ),
    ),
    (
        r"st(\d)\.stage_st\d_(\d)\.fuse_func\.residual_st\d_\d_layer_(\d)_(\d)",
        lambda stage, module, goal, source: f"stage{stage}.{module - 1}.fuse_layers.{goal - 1}.{source - 1}",
    ),
)
"""Where Paddle counts from one, the authors' weights count from nought."""

PADDLE = (
    (r"\b_conv\b", "0"),
    (r"\b_batch_norm\b", "1"),
    (r"\b_mean$", "running_mean"),
    (r"\b_variance$", "running_var"),
)
"""Names that Paddle's own layers have, and ours."""

_PADDLE_LEAVES = (
    (r"\bconv(\d)\._conv\b", r"conv\1"),
    (r"\bconv(\d)\._batch_norm\b", r"bn\1"),
    (r"\bconv_down\b", "downsample"),
    *PADDLE,
)

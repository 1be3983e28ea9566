"""MobileNetV3-Large: Searching for MobileNetV3 (Howard et al. 2019), without its classifier.

Keys are torchvision's (`features.4.block.2.fc1.weight` …), so its ImageNet weights load as they are. Trap: its
BatchNorm has ε 0.001 and momentum 0.01.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from mattecli.zoo.encoders.taps import tapped

BLOCKS = (
    (3, 16, 16, False, nn.ReLU, 1),
    (3, 64, 24, False, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 1),
    (5, 72, 40, True, nn.ReLU, 2),
    (5, 120, 40, True, nn.ReLU, 1),
    (5, 120, 40, True, nn.ReLU, 1),
    (3, 240, 80, False, nn.Hardswish, 2),
    (3, 200, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 480, 112, True, nn.Hardswish, 1),
    (3, 672, 112, True, nn.Hardswish, 1),
    (5, 672, 160, True, nn.Hardswish, 2),
    (5, 960, 160, True, nn.Hardswish, 1),
    (5, 960, 160, True, nn.Hardswish, 1),
)
"""Table 1 of the paper: kernel, expanded channels, channels, squeeze-and-excitation, activation, stride."""

Norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)


class ConvNorm(nn.Sequential):
    """Convolution, BatchNorm and, if given, an activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        activation: type[nn.Module] | None = None,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        padding = kernel // 2 * dilation
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False),
            Norm(outputs),
            *([] if activation is None else [activation(inplace=True)]),
        )


class SqueezeExcitation(nn.Module):
    """Channels weighted by two 1×1 convolutions on their global means, with a hard sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _multiple_of_8(channels // 4)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


def _multiple_of_8(channels: int) -> int:
    """The nearest multiple of 8, the next where that would lose more than a tenth."""
    nearest = max(8, (channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


class InvertedResidual(nn.Module):
    """1×1 expansion, depthwise, squeeze-and-excitation, linear 1×1; an identity round it where the shapes allow."""

    def __init__(
        self,
        inputs: int,
        kernel: int,
        hidden: int,
        outputs: int,
        excite: bool,
        activation: type[nn.Module],
        stride: int,
        dilation: int,
    ) -> None:
        super().__init__()
        self.identity = stride == 1 and inputs == outputs
        self.block = nn.Sequential(
            *([ConvNorm(inputs, hidden, 1, activation)] if hidden != inputs else []),
            ConvNorm(hidden, hidden, kernel, activation, stride, dilation, groups=hidden),
            *([SqueezeExcitation(hidden)] if excite else []),
            ConvNorm(hidden, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return x + y if self.identity else y


class MobileNetV3Large(nn.Module):
    """`features[0]` (stem, 1/2) to `features[16]` (960 channels).

    With `output_stride` 16 the last stride, of `features[13]`, is replaced by dilation 2 in its and the later
    depthwise convolutions (torchvision's `dilated`), so that what would be at 1/32 is at 1/16.

    `forward(image [N, 3, H, W])` returns the outputs of the `taps`, counted as in `features`: 1 (1/2, 16
    channels), 3 (1/4, 24), 6 (1/8, 40), 12 (1/16, 112), 16 (1/32, 960).
    """

    def __init__(self, taps: Sequence[int], output_stride: int = 32) -> None:
        super().__init__()
        self.taps = tuple(taps)
        features: list[nn.Module] = [ConvNorm(3, 16, 3, nn.Hardswish, stride=2)]
        inputs, reached, dilation = 16, 2, 1
        for kernel, hidden, outputs, excite, activation, stride in BLOCKS:
            if reached * stride > output_stride:
                stride, dilation = 1, dilation * stride
            features.append(InvertedResidual(inputs, kernel, hidden, outputs, excite, activation, stride, dilation))
            inputs, reached = outputs, reached * stride
        features.append(ConvNorm(inputs, 960, 1, nn.Hardswish))
        self.features = nn.Sequential(*features)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> list[Tensor]:
        return tapped(self.features, x, self.taps)

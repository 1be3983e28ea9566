"""MobileNetV2: Inverted Residuals and Linear Bottlenecks (Sandler et al. 2018), width 1.

Keys are torchvision's (`features.N.conv.0.0.weight` …), so its ImageNet weights and the networks built on it
load as they are; `from_flat` translates the other layout in use, where a block's layers are numbered through.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor, nn

from mattecli.zoo.encoders.taps import tapped

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Table 2 of the paper: expansion, channels, repeats, stride of the first."""


class ConvNormReLU6(nn.Sequential):
    """Convolution, BatchNorm and ReLU6."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, dilation: int = 1
    ) -> None:
        padding = kernel // 2 * dilation
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    """1×1 expansion, 3×3 depthwise, linear 1×1 projection; an identity round it where the shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, dilation: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.identity = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *([ConvNormReLU6(inputs, hidden, kernel=1)] if expansion > 1 else []),
            ConvNormReLU6(hidden, hidden, stride=stride, groups=hidden, dilation=dilation),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.identity else y


class MobileNetV2(nn.Module):
    """The convolutional part: `features[0]` (stem, 1/2) to `features[18]` (1280 channels, 1/32).

    `forward(image [N, 3, H, W])` returns the outputs of the `taps`, counted as in `features`: 1 (1/2, 16
    channels), 3 (1/4, 24), 6 (1/8, 32), 13 (1/16, 96), 17 (1/32, 320), 18 (1/32, 1280). Layers after the last
    tap are not built. `channels` counts the input's. With `output_stride` 16 the last stride, of `features[14]`, is
    replaced by dilation 2 in the depthwise convolutions after it, so that what would be at 1/32 is at 1/16.
    """

    def __init__(self, taps: Sequence[int], channels: int = 3, output_stride: int = 32) -> None:
        super().__init__()
        self.taps = tuple(taps)
        features: list[nn.Module] = [ConvNormReLU6(channels, 32, stride=2)]
        inputs, reached, dilation = 32, 2, 1
        for expansion, outputs, repeats, first in STAGES:
            for index in range(repeats):
                wanted = first if index == 0 else 1
                stride = wanted if reached * wanted <= output_stride else 1
                features.append(InvertedResidual(inputs, outputs, stride, expansion, dilation))
                inputs, reached, dilation = outputs, reached * stride, dilation * wanted // stride
        features.append(ConvNormReLU6(inputs, 1280, kernel=1))
        self.features = nn.Sequential(*features[: max(self.taps) + 1])

    def forward(self, x: Tensor) -> list[Tensor]:
        return tapped(self.features, x, self.taps)


_FLAT = re.compile(r"(?<=features\.)(\d+)\.conv\.(\d)(?=\.)")
_NESTED = {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2", "7": "3"}
_NESTED_FIRST = {"0": "0.0", "1": "0.1", "3": "1", "4": "2"}


def from_flat(key: str) -> str:
    """torchvision's name of a key whose blocks number convolutions, norms and activations through."""

    def nest(match: re.Match[str]) -> str:
        block, layer = match.groups()
        # The first block has no expansion, hence one convolution fewer.
        return f"{block}.conv.{(_NESTED_FIRST if block == '1' else _NESTED).get(layer, layer)}"

    return _FLAT.sub(nest, key)

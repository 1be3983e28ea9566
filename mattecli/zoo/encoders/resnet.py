"""ResNet: Deep Residual Learning for Image Recognition (He et al. 2016), without its classifier.

Keys are torchvision's (`conv1.weight`, `layer1.0.bn1.weight`, `layer2.0.downsample.0.weight` …). As there, a
bottleneck strides in its 3×3 convolution. `conv` and `norm` build the layers, so that a network with other ones
(weight standardisation, group norm) shares this file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

Conv = Callable[..., nn.Conv2d]
Norm = Callable[[int], nn.Module]


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and an identity (1×1 convolution where the shape changes)."""

    expansion = 1

    def __init__(
        self,
        inputs: int,
        channels: int,
        stride: int = 1,
        dilation: int = 1,
        conv: Conv = nn.Conv2d,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.conv1 = conv(inputs, channels, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn1 = norm(channels)
        self.conv2 = conv(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = norm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, channels, stride, conv, norm)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        y: Tensor = self.relu(self.bn2(self.conv2(x)) + identity)
        return y


class Bottleneck(nn.Module):
    """1×1 down to `channels`, 3×3, 1×1 up to four times as many, and an identity."""

    expansion = 4

    def __init__(
        self,
        inputs: int,
        channels: int,
        stride: int = 1,
        dilation: int = 1,
        conv: Conv = nn.Conv2d,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        outputs = channels * self.expansion
        self.conv1 = conv(inputs, channels, 1, bias=False)
        self.bn1 = norm(channels)
        self.conv2 = conv(channels, channels, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = norm(channels)
        self.conv3 = conv(channels, outputs, 1, bias=False)
        self.bn3 = norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride, conv, norm)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        y: Tensor = self.relu(self.bn3(self.conv3(x)) + identity)
        return y


DEPTHS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}
"""Table 1 of the paper: the block and how many of them in each stage."""

CHANNELS = (64, 128, 256, 512)


class ResNet(nn.Module):
    """The convolutional part: stem (`conv1`, `bn1`) and four stages (`layer1` … `layer4`).

    `inputs` are the image's channels. `dilations` of the stages: one that dilates more than the stage before it
    keeps the resolution instead of halving it, and its first block still dilates like that stage, so that
    (1, 1, 1, 2) ends at 1/16 and (1, 1, 2, 4) at 1/8.

    `forward(x [N, inputs, H, W])` returns five maps: the stem before its max pool (64 channels, 1/2) and the four
    stages (1/4, 1/8, 1/16, 1/32 undilated; 64, 128, 256, 512 channels, four times as many from depth 50).
    """

    def __init__(
        self,
        depth: int,
        inputs: int = 3,
        dilations: Sequence[int] = (1, 1, 1, 1),
        conv: Conv = nn.Conv2d,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        block, repeats = DEPTHS[depth]
        self.conv1 = conv(inputs, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.channels = tuple(width * block.expansion for width in CHANNELS)
        stages, width, before = [], 64, 1
        for index, (channels, dilation) in enumerate(zip(CHANNELS, dilations, strict=True)):
            stride = 1 if index == 0 or dilation > before else 2
            blocks: list[nn.Module] = [block(width, channels, stride, before, conv, norm)]
            width, before = channels * block.expansion, dilation
            blocks += [block(width, channels, 1, dilation, conv, norm) for _ in range(repeats[index] - 1)]
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.relu(self.bn1(self.conv1(x)))]
        x = self.maxpool(maps[0])
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


def _shortcut(inputs: int, outputs: int, stride: int, conv: Conv, norm: Norm) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(conv(inputs, outputs, 1, stride=stride, bias=False), norm(outputs))

"""DenseNet-121: Densely Connected Convolutional Networks (Huang et al. 2017), without its last norm and classifier.

Keys are torchvision's (`features.denseblock1.denselayer1.norm1.weight` …); its published ImageNet file, older than
these names, has dots in them (`norm.1`), which `own_key` removes.
"""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYERS = (6, 12, 24, 16)
"""Table 1 of the paper: the layers of each dense block."""

GROWTH = 32


class DenseLayer(nn.Module):
    """What a layer adds: norm, ReLU, 1×1 convolution to four times the growth, norm, ReLU, 3×3 convolution."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 4 * GROWTH, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * GROWTH), nn.Conv2d(4 * GROWTH, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(F.relu(self.norm1(x)))
        y: Tensor = self.conv2(F.relu(self.norm2(x)))
        return y


class DenseBlock(nn.ModuleDict):
    """Layers that each see all before them."""

    def __init__(self, inputs: int, layers: int) -> None:
        super().__init__(
            {f"denselayer{number}": DenseLayer(inputs + (number - 1) * GROWTH) for number in range(1, layers + 1)}
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.values():
            x = torch.cat((x, layer(x)), 1)
        return x


class Transition(nn.Module):
    """Norm, ReLU, 1×1 convolution to half the channels, 2×2 mean."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, inputs // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)


class DenseNet121(nn.Module):
    """Stem and four dense blocks with transitions between, without the max pool after the stem.

    `forward(image [N, 3, H, W])` returns five maps: the stem's (64 channels, 1/2), those after the three transitions
    (128, 1/4; 256, 1/8; 512, 1/16) and the fourth block's (1024, 1/16). Only classifiers have the pool.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {
            "conv0": nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
            "norm0": nn.BatchNorm2d(64),
        }
        channels = 64
        for number, repeats in enumerate(LAYERS, 1):
            layers[f"denseblock{number}"] = DenseBlock(channels, repeats)
            channels += repeats * GROWTH
            if number < len(LAYERS):
                layers[f"transition{number}"] = Transition(channels)
                channels //= 2
        self.features = nn.ModuleDict(layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def own_key(key: str) -> str:
        """torchvision's present name of a key of its published file."""
        return re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", key)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.features
        maps = [F.relu(features["norm0"](features["conv0"](x)))]
        for number in range(1, len(LAYERS)):
            maps.append(features[f"transition{number}"](features[f"denseblock{number}"](maps[-1])))
        maps.append(features[f"denseblock{len(LAYERS)}"](maps[-1]))
        return maps

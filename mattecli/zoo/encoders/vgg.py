"""VGG16: Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan & Zisserman 2015).

The thirteen convolutions without batch norm and without the classifier. Keys are torchvision's
(`features.0.weight` … `features.28.bias`).
"""

from __future__ import annotations

from torch import Tensor, nn

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Column D of the paper's table 1: channels and convolutions before each max pool."""


class VGG16(nn.Module):
    """`features`: convolutions, ReLUs and 2×2 max pools that remember what they took.

    `inputs` are the image's channels. `forward(x [N, inputs, H, W])` returns the last map (512 channels, 1/32), the
    five maps that were pooled (1/1 … 1/16) and the five pools' indices, as `max_unpool2d` wants them.
    """

    def __init__(self, inputs: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, convolutions in STAGES:
            for _ in range(convolutions):
                layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = channels
            layers.append(nn.MaxPool2d(2, return_indices=True))
        self.features = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                assert layer.bias is not None
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        maps, indices = [], []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
                x, taken = layer(x)
                indices.append(taken)
            else:
                x = layer(x)
        return x, maps, indices


def keys() -> dict[str, str]:
    """The paper's name of each convolution (`conv3_1` is the first after the second pool) and torchvision's."""
    names, place = {}, 0
    for stage, (_, convolutions) in enumerate(STAGES, 1):
        for number in range(1, convolutions + 1):
            names[f"conv{stage}_{number}"] = f"features.{place}"
            place += 2
        place += 1
    return names

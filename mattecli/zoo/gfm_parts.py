"""Encoders and decoders of GFM (`gfm.py`), and what the official file calls them.

All maps are counted from the stem's, e0; the deepest, at 1/32, is e4 (e6 with two blocks more).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mattecli.zoo.encoders.densenet import DenseNet121
from mattecli.zoo.encoders.resnet import BasicBlock, ResNet
from mattecli.zoo.layers import conv_norm_relu, up

BINS = (1, 3, 5)

conv = partial(conv_norm_relu, bias=True)


class ResNet34TwoBlocks(nn.Module):
    """r34_2b: ResNet34 with a stem of its own at 1/1 and two stages of three blocks more, at 1/16 and 1/32."""

    def __init__(self) -> None:
        super().__init__()
        resnet = ResNet(34)
        self.stem = nn.Sequential(*conv(3, 64))
        self.layer1, self.layer2, self.layer3, self.layer4 = resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4
        self.layer5, self.layer6 = (
            nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), *(BasicBlock(512, 512) for _ in range(3))) for _ in range(2)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.stem(x)]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4, self.layer5, self.layer6):
            maps.append(stage(maps[-1]))
        return maps


class DenseNetTo32(nn.Module):
    """d121: the fourth block, at 1/16, is narrowed to 512 channels and pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.densenet = DenseNet121()
        self.bottom = nn.Sequential(*conv(1024, 512), nn.MaxPool2d(2, ceil_mode=True))

    def forward(self, x: Tensor) -> list[Tensor]:
        *maps, deepest = self.densenet(x)
        return [*maps, self.bottom(deepest)]


@dataclass(frozen=True)
class Layout:
    """One encoder and the widths of the decoders after it.

    `channels` are those of e0 … eK. `decoders` K … 1 have three convolutions each, of these widths. `stem` is e0's
    stride: 1 or 2. `official` gives our names of the official file's beginnings: it lists the encoder as torchvision's
    network, and its parts again; `unused` are what it lists and never calls.
    """

    build: Callable[[], nn.Module]
    channels: tuple[int, ...]
    decoders: tuple[tuple[int, int, int], ...]
    official: Mapping[str, str]
    unused: tuple[str, ...]
    stem: int = 2

    @property
    def depth(self) -> int:
        """K."""
        return len(self.decoders)


_FOUR = ((512, 512, 256), (256, 256, 128), (128, 128, 64), (64, 64, 64))
_RESNET = {
    "resnet.": "",
    "encoder0.0.": "conv1.",
    "encoder0.1.": "bn1.",
    "encoder1.1.": "layer1.",
    **{f"encoder{number}.": f"layer{number}." for number in (2, 3, 4)},
}
_TWO_BLOCKS = {"resnet.": "", "encoder0.": "stem."} | {f"encoder{n}.": f"layer{n}." for n in range(1, 7)}
_DENSENET = {
    "densenet.": "densenet.",
    "encoder0.0.": "densenet.features.conv0.",
    "encoder0.1.": "densenet.features.norm0.",
    **{f"encoder{number}.0.": f"densenet.features.denseblock{number}." for number in (1, 2, 3, 4)},
    **{f"encoder{number}.1.": f"densenet.features.transition{number}." for number in (1, 2, 3)},
    "encoder4.1.": "bottom.0.",
    "encoder4.2.": "bottom.1.",
}

LAYOUTS = {
    "r34": Layout(partial(ResNet, 34), (64, 64, 128, 256, 512), _FOUR, _RESNET, ("resnet.fc.",)),
    "r34_2b": Layout(
        ResNet34TwoBlocks,
        (64, 64, 128, 256, 512, 512, 512),
        ((512, 512, 512), (512, 512, 512), *_FOUR),
        _TWO_BLOCKS,
        ("resnet.fc.", "resnet.conv1.", "resnet.bn1.", "psp1."),
        stem=1,
    ),
    "d121": Layout(
        DenseNetTo32, (64, 128, 256, 512, 512), _FOUR, _DENSENET, ("densenet.classifier.", "densenet.features.norm5.")
    ),
    "r101": Layout(
        partial(ResNet, 101),
        (64, 256, 512, 1024, 2048),
        ((2048, 1024, 1024), (1024, 512, 512), (512, 256, 256), (256, 128, 64)),
        _RESNET,
        ("resnet.fc.",),
    ),
}


class PyramidPooling(nn.Module):
    """Means over 1×1, 3×3 and 5×5 cells before the map itself (PSPNet, Zhao et al. 2017).

    Unlike PP-Matting's: no norms, and the corners of the cells are laid on those of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(cells), nn.Conv2d(channels, channels, 1, bias=False)) for cells in BINS
        )
        self.bottleneck = nn.Conv2d((len(BINS) + 1) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        means = [F.interpolate(s(x), size=size, mode="bilinear", align_corners=True) for s in self.stages]
        return F.relu(self.bottleneck(torch.cat((*means, x), 1)))


def _decoders(layout: Layout, inputs: tuple[int, ...]) -> nn.ModuleDict:
    """Decoder K … 1, by number; each doubles the size, but for the last above a stem at 1/1."""
    decoders = {}
    for number, before, (first, second, last) in zip(range(layout.depth, 0, -1), inputs, layout.decoders, strict=True):
        widen = [] if number == 1 and layout.stem == 1 else [up(2)]
        decoders[str(number)] = nn.Sequential(*conv(before, first), *conv(first, second), *conv(second, last), *widen)
    return nn.ModuleDict(decoders)


class Glance(nn.Module):
    """Section 3.2's glance decoder: pooled context joins before every decoder. What the heads see comes out."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        deepest, widths = layout.channels[-1], [last for *_, last in layout.decoders]
        self.psp_module = PyramidPooling(deepest)
        self.psp = nn.ModuleDict(
            {
                str(layout.depth - step): nn.Sequential(*conv(deepest, width), up(2 ** (step + 1)))
                for step, width in enumerate(widths)
                if layout.stem == 2 or step < layout.depth - 1
            }
        )
        self.decoder = _decoders(layout, (2 * deepest, *(2 * width for width in widths[:-1])))

    def forward(self, maps: list[Tensor]) -> Tensor:
        context = self.psp_module(maps[-1])
        x = torch.cat((context, maps[-1]), 1)
        for number, decoder in self.decoder.items():
            x = decoder(x)
            if number in self.psp:
                x = torch.cat((self.psp[number](context), x), 1)
        return x


class Focus(nn.Module):
    """Section 3.2's focus decoder: the encoder's maps join behind every decoder. What the heads see comes out."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        deepest, widths = layout.channels[-1], [last for *_, last in layout.decoders]
        self.bridge = nn.Sequential(*(layer for _ in range(3) for layer in conv(deepest, deepest, dilation=2)))
        skips = layout.channels[-2:0:-1]
        joined = (width + skip for width, skip in zip(widths[:-1], skips, strict=True))
        self.decoder = _decoders(layout, (2 * deepest, *joined))
        self.joins_stem = layout.stem == 2

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = torch.cat((self.bridge(maps[-1]), maps[-1]), 1)
        for number, decoder in self.decoder.items():
            x = decoder(x)
            if int(number) > 1 or self.joins_stem:
                x = torch.cat((x, maps[int(number) - 1]), 1)
        return x


def head(layout: Layout, outputs: int) -> nn.Sequential:
    """Decoder 0, to logits at 1/1."""
    if layout.stem == 1:
        return nn.Sequential(nn.Conv2d(64, outputs, 3, padding=1))
    return nn.Sequential(*conv(128, 64), *conv(64, 64), nn.Conv2d(64, outputs, 3, padding=1), up(2))

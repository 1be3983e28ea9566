"""BiSeNet V2: Bilateral Network with Guided Aggregation for Real-time Semantic Segmentation (Yu et al., IJCV 2021).

Two branches after section 4 of the paper, in the form of the port that published weights (CoinCheung/BiSeNet):

    detail    wide and shallow, to 1/8
    segment   narrow and deep: stem to 1/4, gather-and-expansion (GE) layers to 1/32, context embedding (CE)
    bga       bilateral guided aggregation: each branch gates the other; at 1/8
    head      logits at full size; four more (aux2 … aux5_4) on the segment branch help training

Here the share of the classes that are people is alpha (`BiSeNetV2`), or one logit is (`BiSeNetV2Matting`).
Where the paper leaves a choice the port's is taken: ReLUs within GE and BGA, norm and ReLU after CE's
convolution, 1024 channels in the head, auxiliary heads that upsample to the nearest. Modules carry its names.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mattecli.mixing.batch import Batch
from mattecli.zoo import losses
from mattecli.zoo.encoders import imagenet
from mattecli.zoo.spec import Prediction, Spec, check_sides, long_side, native


@dataclass(frozen=True)
class Data:
    """What a network has learnt from: how many classes, which of them are people, mean and deviation of its colours."""

    classes: int
    people: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


DATA = {
    "cityscapes": Data(19, (11, 12), (0.3257, 0.3690, 0.3223), (0.2112, 0.2148, 0.2115)),
    "coco": Data(171, (0,), (0.46962251, 0.4464104, 0.40718787), (0.27469736, 0.27012361, 0.28515933)),
    "ade20k": Data(150, (12,), (0.49343230, 0.46819794, 0.43106043), (0.25680755, 0.25506608, 0.27422913)),
    "person": Data(2, (1,), imagenet.MEAN, imagenet.STD),
    "matting": Data(1, (0,), imagenet.MEAN, imagenet.STD),
}
"""The first three are the port's (Cityscapes tells riders from persons), the others are for training here."""

MULTIPLE = 32
EXPANSION = 6
HARD = -math.log(0.7)
"""Loss above which a pixel always counts."""


class ConvBNReLU(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution and BatchNorm."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


class DetailBranch(nn.Module):
    """Table 1, left: 64 channels at 1/2 and 1/4, 128 at 1/8."""

    def __init__(self) -> None:
        super().__init__()
        self.S1 = nn.Sequential(ConvBNReLU(3, 64, stride=2), ConvBNReLU(64, 64))
        self.S2 = nn.Sequential(ConvBNReLU(64, 64, stride=2), ConvBNReLU(64, 64), ConvBNReLU(64, 64))
        self.S3 = nn.Sequential(ConvBNReLU(64, 128, stride=2), ConvBNReLU(128, 128), ConvBNReLU(128, 128))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.S3(self.S2(self.S1(x)))
        return y


class StemBlock(nn.Module):
    """Figure 4a: a convolution and a max pool halve side by side; 16 channels at 1/4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = ConvBNReLU(3, 16, stride=2)
        self.left = nn.Sequential(ConvBNReLU(16, 8, kernel=1), ConvBNReLU(8, 16, stride=2))
        self.right = nn.MaxPool2d(3, stride=2, padding=1)
        self.fuse = ConvBNReLU(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y: Tensor = self.fuse(torch.cat((self.left(x), self.right(x)), 1))
        return y


class GatherExpansion(nn.Module):
    """Figure 5b: 3×3 convolution, depthwise expansion, 1×1 projection, round an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels * EXPANSION
        self.conv1 = ConvBNReLU(channels, channels)
        self.dwconv = nn.Sequential(*_conv(channels, hidden, groups=channels), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(*_conv(hidden, channels, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(self.dwconv(self.conv1(x))))


class GatherExpansionDown(nn.Module):
    """Figure 5c: the same with stride 2, by two depthwise convolutions and a separable short-cut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = inputs * EXPANSION
        self.conv1 = ConvBNReLU(inputs, inputs)
        self.dwconv1 = nn.Sequential(*_conv(inputs, hidden, stride=2, groups=inputs))
        self.dwconv2 = nn.Sequential(*_conv(hidden, hidden, groups=hidden), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(*_conv(hidden, outputs, kernel=1))
        self.shortcut = nn.Sequential(
            *_conv(inputs, inputs, stride=2, groups=inputs), *_conv(inputs, outputs, kernel=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.dwconv2(self.dwconv1(self.conv1(x))))
        return F.relu(y + self.shortcut(x))


class ContextEmbedding(nn.Module):
    """Figure 4b: the global mean, added everywhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv_gap = ConvBNReLU(channels, channels, kernel=1)
        self.conv_last = ConvBNReLU(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        whole = self.conv_gap(self.bn(x.mean((2, 3), keepdim=True)))
        y: Tensor = self.conv_last(x + whole)
        return y


class SegmentBranch(nn.Module):
    """Table 1, right. Returns the outputs of all stages: 1/4, 1/8, 1/16, 1/32, and 1/32 with context."""

    def __init__(self) -> None:
        super().__init__()
        self.S1S2 = StemBlock()
        self.S3 = nn.Sequential(GatherExpansionDown(16, 32), GatherExpansion(32))
        self.S4 = nn.Sequential(GatherExpansionDown(32, 64), GatherExpansion(64))
        self.S5_4 = nn.Sequential(GatherExpansionDown(64, 128), *(GatherExpansion(128) for _ in range(3)))
        self.S5_5 = ContextEmbedding(128)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in (self.S1S2, self.S3, self.S4, self.S5_4, self.S5_5):
            x = stage(x)
            maps.append(x)
        return maps


class GuidedAggregation(nn.Module):
    """Figure 6: detail gated by semantics at 1/8, semantics gated by detail at 1/32."""

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        c = channels
        self.left1 = nn.Sequential(*_conv(c, c, groups=c), nn.Conv2d(c, c, 1, bias=False))
        self.left2 = nn.Sequential(*_conv(c, c, stride=2), nn.AvgPool2d(3, stride=2, padding=1))
        self.right1 = nn.Sequential(*_conv(c, c))
        self.right2 = nn.Sequential(*_conv(c, c, groups=c), nn.Conv2d(c, c, 1, bias=False))
        self.conv = nn.Sequential(*_conv(c, c), nn.ReLU(inplace=True))

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        left = self.left1(detail) * _nearest(self.right1(semantic), 4).sigmoid()
        right = self.left2(detail) * self.right2(semantic).sigmoid()
        y: Tensor = self.conv(left + _nearest(right, 4))
        return y


class SegmentHead(nn.Module):
    """Logits at full size."""

    def __init__(self, inputs: int, hidden: int, outputs: int, scale: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(inputs, hidden)
        self.drop = nn.Dropout(0.1)
        self.conv_out = nn.Sequential(nn.Identity(), nn.Conv2d(hidden, outputs, 1))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return _bilinear(self.conv_out(self.drop(self.conv(x))), self.scale)


class AuxiliaryHead(nn.Module):
    """Logits at full size from 1/`scale`, by twice the size to the nearest and the rest bilinear."""

    def __init__(self, inputs: int, outputs: int, scale: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(inputs, 128)
        self.drop = nn.Dropout(0.1)
        wide = nn.Sequential(nn.Upsample(scale_factor=2), ConvBNReLU(128, scale**2))
        self.conv_out = nn.Sequential(wide, nn.Conv2d(scale**2, outputs, 1))
        self.scale = scale // 2

    def forward(self, x: Tensor) -> Tensor:
        return _bilinear(self.conv_out(self.drop(self.conv(x))), self.scale)


class BiSeNetV2(nn.Module):
    """People by segmentation into the classes of `data`. Sides must be multiples of 32."""

    spec = Spec(size=native(MULTIPLE))
    AUXILIARY = ("aux2", "aux3", "aux4", "aux5_4")

    def __init__(self, data: Literal["cityscapes", "coco", "ade20k", "person", "matting"] = "cityscapes") -> None:
        super().__init__()
        self.data = DATA[data]
        classes = self.data.classes
        self.detail = DetailBranch()
        self.segment = SegmentBranch()
        self.bga = GuidedAggregation()
        self.head = SegmentHead(128, 1024, classes, scale=8)
        self.aux2: nn.Module | None = AuxiliaryHead(16, classes, scale=4)
        self.aux3: nn.Module | None = AuxiliaryHead(32, classes, scale=8)
        self.aux4: nn.Module | None = AuxiliaryHead(64, classes, scale=16)
        self.aux5_4: nn.Module | None = AuxiliaryHead(128, classes, scale=32)

    def own_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """An official file; where it was saved for inference, without auxiliary heads, these stay as they are."""
        heads = {key: value for key, value in self.state_dict().items() if key.startswith(self.AUXILIARY)}
        saved_without = "head.conv_out.1.weight" in tensors and heads.keys().isdisjoint(tensors)
        return {**tensors, **heads} if saved_without else dict(tensors)

    def forward(
        self,
        image: Tensor,
        *,
        trimap: Tensor | None = None,
        background: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
    ) -> Prediction:
        """image `[N, 3, H, W]` in [0, 1] → alpha `[N, 1, H, W]`, the probability of a person.

        Maps, `[N, classes, H, W]` logits: `logits` and, unless the network went through `fuse`, `aux2`, `aux3`,
        `aux4`, `aux5_4`. Raises `UsageError` for sides that are no multiples of 32.
        """
        check_sides(image, MULTIPLE, "bisenetv2")
        x = imagenet.normalise(image, self.data.mean, self.data.std)
        *stages, context = self.segment(x)
        maps = {"logits": self.head(self.bga(self.detail(x), context)).float()}
        for name, stage in zip(self.AUXILIARY, stages, strict=True):
            head = getattr(self, name)
            if head is not None:
                maps[name] = head(stage).float()
        return Prediction(self.log_odds(maps["logits"]).sigmoid(), maps=maps)

    def log_odds(self, logits: Tensor) -> Tensor:
        """How much likelier a person is than anything else, `[N, 1, H, W]`."""
        people = list(self.data.people)
        others = [index for index in range(self.data.classes) if index not in people]
        return logits[:, people].logsumexp(1, keepdim=True) - logits[:, others].logsumexp(1, keepdim=True)

    def objective(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Section 5.1: cross-entropy of person against the rest on the hard pixels, for each head, weight 1.

        The label is the mask, or alpha above a half where there is none.
        """
        person = batch.alpha > 0.5 if batch.mask is None else batch.mask > 0.5
        label, known = person.to(batch.alpha.dtype), batch.known
        return {
            name: _hard(F.binary_cross_entropy_with_logits(self.log_odds(logits), label, reduction="none"), known)
            for name, logits in prediction.maps.items()
        }

    def fuse(self) -> BiSeNetV2:
        """A copy for inference: without the auxiliary heads, a third of the parameters."""
        network = copy.deepcopy(self).eval()
        for name in self.AUXILIARY:
            setattr(network, name, None)
        return network


class BiSeNetV2Matting(BiSeNetV2):
    """The same network with one output, whose sigmoid is alpha."""

    spec = Spec(size=long_side(512, MULTIPLE))

    def __init__(self) -> None:
        super().__init__("matting")

    def log_odds(self, logits: Tensor) -> Tensor:
        return logits

    def objective(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """No paper gives one: L1 and Laplacian loss on alpha, and cross-entropy with alpha for the auxiliary heads."""
        terms = {
            "alpha": losses.l1(prediction.alpha, batch.alpha, batch.known),
            "laplacian": losses.laplacian(prediction.alpha, batch.alpha, batch.known),
        }
        for name in self.AUXILIARY:
            terms[name] = losses.binary_cross_entropy(prediction.maps[name], batch.alpha, batch.known)
        return terms


def _hard(loss: Tensor, known: Tensor) -> Tensor:
    """Mean of the losses above `HARD`, or of the largest sixteenth if that is more (OHEM, Shrivastava et al. 2016)."""
    values = loss[known > 0]
    if not len(values):
        return loss.sum() * 0
    hard = values[values > HARD]
    fewest = max(1, len(values) // 16)
    return hard.mean() if len(hard) >= fewest else values.topk(fewest).values.mean()


def _nearest(x: Tensor, scale: int) -> Tensor:
    return F.interpolate(x, scale_factor=float(scale))


def _bilinear(x: Tensor, scale: int) -> Tensor:
    return F.interpolate(x, scale_factor=float(scale), mode="bilinear", align_corners=False)

"""PP-Matting: High-Accuracy Natural Image Matting (Chen et al. 2022).

Two branches after section 3 of the paper, as released for Paddle:

    SCB     semantic context branch: HRNet's map at 1/32, pyramid pooling, six stages back to 1/1; softmax over
            foreground, transition, background
    HRDB    high-resolution detail branch at 1/1: HRNet's first two maps, three residual blocks, each followed by a
            gate that three of SCB's stages guide (guidance flow)
    fusion  where transition is the likeliest class the detail, elsewhere 1 or 0

Traps: classes are counted from the foreground (GFM's from the background); HRNet's strided convolutions are padded as
Paddle pads (see there); convolutions before a norm have biases, but HRNet's and HRDB's 3×3 ones have none.
"""

from __future__ import annotations

import re
from functools import partial

import torch
from torch import Tensor, nn

from mattecli.mixing.batch import Batch
from mattecli.zoo import losses
from mattecli.zoo import trimap as trimaps
from mattecli.zoo.encoders.hrnet import PADDLE, HRNet
from mattecli.zoo.encoders.resnet import BasicBlock
from mattecli.zoo.layers import conv_norm_relu, resize, up
from mattecli.zoo.spec import Prediction, SizeRule, Spec, check_sides

MULTIPLE = 32
BINS = (1, 3, 5)
FOREGROUND, TRANSITION = 0, 1
GUIDES = (0, 2, 4)
"""The stages of SCB that guide HRDB's gates."""


def limit_short(reference: int) -> SizeRule:
    """The authors' rule: shrink to a shorter side of `reference` where it is longer, then cut to multiples of 32."""

    def rule(height: int, width: int, size: int | None = None) -> tuple[int, int]:
        scale = min(1, (size or reference) / min(height, width))
        height, width = round(height * scale), round(width * scale)
        return max(MULTIPLE, height - height % MULTIPLE), max(MULTIPLE, width - width % MULTIPLE)

    return rule


_conv = partial(conv_norm_relu, bias=True)


class PyramidPooling(nn.Module):
    """The map beside its means over 5×5, 3×3 and 1×1 cells (PSPNet, Zhao et al. 2017), in that order."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(cells), _conv(inputs, inputs, 1)) for cells in BINS
        )
        self.conv_bn_relu2 = _conv((len(BINS) + 1) * inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        means = [resize(stage(x), x.shape[-2:]) for stage in self.stages]
        y: Tensor = self.conv_bn_relu2(torch.cat((x, *reversed(means)), 1))
        return y


class SCB(nn.Module):
    """Section 3.3: semantic context, from 1/32 to logits of the three classes at 1/1."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.psp_module = PyramidPooling(inputs, 512)
        self.psps = nn.ModuleList(
            nn.Sequential(_conv(512, outputs), up(2 * 2**level)) for level, outputs in enumerate((256, 128, 64, 64))
        )
        self.scb_stages = nn.ModuleList(
            [
                _stage(512 + inputs, 512, 256, dilation=2),
                _stage(512, 256, 128),
                _stage(256, 128, 64),
                _stage(128, 128, 64),
                _stage(128, 64, 64),
                nn.Sequential(_conv(64, 64), _conv(64, 64), nn.Conv2d(64, 3, 3, padding=1)),
            ]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """The outputs of all six stages, the logits last."""
        pooled = self.psp_module(x)
        contexts = [pooled, *(psp(pooled) for psp in self.psps)]
        outputs = []
        for level, stage in enumerate(self.scb_stages):
            x = stage(torch.cat((contexts[level], x), 1) if level < len(contexts) else x)
            outputs.append(x)
        return outputs


def _stage(inputs: int, middle: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    """Three convolutions, the second and third dilated, and twice the size."""
    second, third = _conv(middle, middle, dilation=dilation), _conv(middle, outputs, dilation=dilation)
    return nn.Sequential(_conv(inputs, middle), second, third, up(2))


class Gate(nn.Module):
    """Section 3.4: x · (1 + a) where a in [0, 1] is seen from x and the guidance together."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.BatchNorm2d(channels + 1),
            nn.Conv2d(channels + 1, channels + 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels + 1, 1, 1),
            nn.BatchNorm2d(1),
            nn.Sigmoid(),
        )
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        y: Tensor = self.conv(x * (self.gate(torch.cat((x, guidance), 1)) + 1))
        return y


class HRDB(nn.Module):
    """Section 3.4: detail at full size, guided by the semantic branch."""

    def __init__(self, inputs: int, guides: tuple[int, ...]) -> None:
        super().__init__()
        self.gf_list = nn.ModuleList(nn.Conv2d(channels, 1, 1) for channels in guides)
        self.res_list = nn.ModuleList([BasicBlock(inputs, 64), BasicBlock(32, 32), BasicBlock(16, 16)])
        self.convs = nn.ModuleList([nn.Conv2d(64, 32, 1), nn.Conv2d(32, 16, 1), nn.Conv2d(16, 8, 1)])
        self.gates = nn.ModuleList([Gate(32), Gate(16), Gate(8)])
        self.detail_conv = nn.Conv2d(8, 1, 1, bias=False)

    def forward(self, x: Tensor, guides: list[Tensor]) -> Tensor:
        layers = zip(self.res_list, self.convs, self.gf_list, self.gates, guides, strict=True)
        for block, narrow, flow, gate, guide in layers:
            x = narrow(block(x))
            x = gate(x, resize(flow(guide), x.shape[-2:]))
        logits: Tensor = self.detail_conv(x)
        return logits


class PPMatting(nn.Module):
    """See the module's docstring. `width` is HRNet's, 18 or 48; image sides must be multiples of 32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spec = Spec(size=limit_short({18: 512, 48: 1536}[width]))
        self.backbone = HRNet(width)
        first, second, *_, deepest = self.backbone.channels
        self.scb = SCB(deepest)
        self.hrdb = HRDB(first + second, (256, 64, 64))

    @staticmethod
    def own_key(key: str) -> str:
        """Our name of an official key."""
        if key.startswith("backbone."):
            return "backbone." + HRNet.own_key(key.removeprefix("backbone."))
        for official, own in _OFFICIAL:
            key = re.sub(official, own, key)
        return key

    def forward(
        self,
        image: Tensor,
        *,
        trimap: Tensor | None = None,
        background: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
    ) -> Prediction:
        """image `[N, 3, H, W]` in [0, 1] → alpha `[N, 1, H, W]`.

        Maps: `semantic` (`[N, 3, H, W]`, the probabilities of foreground, transition and background) and `detail`
        (`[N, 1, H, W]`, in [0, 1]). Raises `UsageError` for sides that are no multiples of 32.
        """
        check_sides(image, MULTIPLE, "PP-Matting")
        maps = self.backbone((image - 0.5) / 0.5)
        stages = self.scb(maps[-1])
        fine = torch.cat([resize(x, image.shape[-2:]) for x in maps[:2]], 1)
        semantic = stages[-1].float().softmax(1)
        detail = self.hrdb(fine, [stages[guide] for guide in GUIDES]).float().sigmoid()
        likeliest = semantic.argmax(1, keepdim=True)
        alpha = torch.where(likeliest == TRANSITION, detail, (likeliest == FOREGROUND).to(detail.dtype))
        return Prediction(alpha, maps={"semantic": semantic, "detail": detail})

    def objective(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Section 3.5 with the released code's weights, a quarter each (the paper's are 1: the same but for the rate).

        `semantic`: cross-entropy with the trimap's classes. `detail`: absolute error and Sobel gradient in the
        trimap's unknown region. `fusion`: both everywhere, and the absolute error of composites if the batch has
        foreground and background. Raises `UsageError` without a trimap.
        """
        unknown = trimaps.unknown(batch, "PP-Matting")
        assert batch.trimap is not None
        semantic, detail = prediction.maps["semantic"], prediction.maps["detail"]
        alpha, truth = prediction.alpha, batch.alpha
        classes = (2 - 2 * batch.trimap).round().long()
        entropy = -(semantic + 1e-6).log().gather(1, classes)
        edges = (losses.sobel(detail * unknown) - losses.sobel(truth * unknown)).abs()
        fusion = losses.mean(_distance(alpha, truth), batch.known) + losses.gradient(alpha, truth, batch.known)
        if batch.foreground is not None and batch.background is not None:
            difference = (alpha - truth) * (batch.foreground - batch.background)
            fusion = fusion + losses.mean(_distance(difference, torch.zeros_like(difference)), batch.known)
        inside = ((_distance(detail, truth) * unknown).sum() + edges.sum()) / (unknown.sum() + 1e-6)
        return {
            "semantic": 0.25 * losses.mean(entropy, batch.known),
            "detail": 0.25 * inside,
            "fusion": 0.25 * fusion,
        }


_OFFICIAL = (
    (r"(res_list\.\d)\.short\b", r"\1.downsample"),
    (r"(res_list\.\d)\.conv1\._conv\b", r"\1.conv2"),
    (r"(res_list\.\d)\.conv1\._batch_norm\b", r"\1.bn2"),
    (r"(res_list\.\d)\.conv0\._conv\b", r"\1.conv1"),
    (r"(res_list\.\d)\.conv0\._batch_norm\b", r"\1.bn1"),
    (r"\b_gate_conv\b", "gate"),
    *PADDLE,
)
"""Official keys of the two branches and ours, in this order."""


def _distance(x: Tensor, y: Tensor) -> Tensor:
    return ((x - y).square() + 1e-6).sqrt()

"""`realtime`: mattecli's own trimap-free network for people, the default of `matte` and `video`.

Two things cost time in a matting network: depthwise and elementwise layers, which wait for memory, and whatever
runs at full size. So the network is plain dense 3×3 convolutions, most of them at 1/8 … 1/32, with two thin
layers at 1/2 and nothing but one multiply-add at full size:

    encoder    1/2 16 ch · 1/4 32 ch · 1/8 64 ch · 1/16 160 ch · 1/32 256 ch, residual blocks (BatchNorm folds away)
    context    gate by the global mean at 1/32 (LR-ASPP, Howard et al. 2019)
    decoder    1/16 96 ch · 1/8 64 ch · 1/4 32 ch · 1/2 16 ch; at 1/16 and 1/8 half of the channels pass a ConvGRU,
               whose state is carried over the frames of a clip
    guidance   at 1/2: the matte p and a slope A, one number per colour. Inside a small window a matte is close to a
               linear function of colour (Levin et al. 2008), so at any size
                   alpha = clamp(up(A) · image + up(p − A · image at 1/2))
               The slope is learned rather than fitted as in the guided filter (He et al. 2010), and costs the same
               per pixel whatever the photo's size.
    recall     a gate at 1/4 keeps the last frame's slope and intercept where they still explain the picture, and
               corrects the intercept

Budget at 512 × 512 (multiply-adds; parameters; activations written, fp32):

    encoder    2.5 G   2.75 M   27 MB
    context    0.01 G  0.07 M   0.1 MB
    decoder    2.0 G   0.56 M   22 MB
    guidance   0.05 G  0.6 k    7 MB
    recall     0.10 G  5.8 k    8 MB (from the second frame on)
    sum        4.6 G   3.4 M    64 MB

Share of the time of a frame in a clip, eager fp32: encoder 38 %, context 0.5 %, decoder 41 %, guidance and upsampling
to full size 12 %, recall 8 %.

Measured at 512 × 512 beside RVM-MobileNetV3 (8.0 G), each pair in one run, two cores with AVX512-BF16, median ms: eager
fp32 77 (RVM 366), eager bf16 57 (252), OpenVINO f32 60 (143), OpenVINO bf16 37 (74: 0.50; in two runs of this pair
alone 30 and 31 of 65: 0.47). As a frame of a clip, with memory, OpenVINO bf16 takes 35 (73: 0.48). At the 430 GFLOP/s
(fp32) and 900 (bf16) that dense 3×3 convolutions have reached there, the arithmetic alone would take 21 and 10 ms. In
bf16 alpha stays within 2/255 of fp32 on 99.9 % of the pixels of each of 43 photos (worst 1.4/255, in OpenVINO 1.7).

Training adds a boundary head (the teacher's α′ of Matte Label Blending) and a semantic head at 1/8; `fuse` drops
both and folds the normalisations.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mattecli.mixing.batch import Batch, Label
from mattecli.mixing.labels import boundary
from mattecli.zoo import losses
from mattecli.zoo.spec import Prediction, Spec, long_side

MULTIPLE = 32
EXACT = (2, 1)
"""The stage and the block of the encoder where 16 bits begin under autocast: before, they would be coarser than the
photo. To the end of that stage the sums of the residual blocks stay in fp32."""
KEPT = 0.85
"""Bound of the share of the last frame that the recall keeps: what was wrong is forgotten within half a second."""
SPARE = 0.02
"""The ends of the matte's logistic function, which reaches neither 0 nor 1, that lie outside of [0, 1]: bodies are
opaque, backgrounds empty, and a slope on noise does not show there."""
STEEPEST = 4.0
"""Bound of the slope: alpha goes from 0 to 1 over a quarter of a colour's range at the least."""


class ConvNorm(nn.Sequential):
    """3×3 (or 1×1) convolution, BatchNorm and, if asked, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class Residual(nn.Module):
    """Two 3×3 convolutions around an identity (He et al. 2016, basic block)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvNorm(channels, channels), ConvNorm(channels, channels, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.relu(x + self.body(x))
        return y


class Context(nn.Module):
    """1×1 projection gated by the global mean (LR-ASPP)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.project = ConvNorm(inputs, outputs, kernel=1)
        self.gate = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(x) * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()
        return y


class ConvGRU(nn.Module):
    """Convolutional gated recurrent unit (Ballas et al. 2016): the memory over frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        reset, update = self.gates(torch.cat((x, state), 1)).sigmoid().chunk(2, 1)
        candidate = self.candidate(torch.cat((x, reset * state), 1)).tanh()
        moved: Tensor = state + update * (candidate - state)
        return moved


class Up(nn.Module):
    """Bilinear ×2, concatenation with the encoder's map, 3×3 convolution; with `memory`, half of it recurrent."""

    def __init__(self, inputs: int, skip: int, outputs: int, memory: bool = False) -> None:
        super().__init__()
        self.fuse = ConvNorm(inputs + skip, outputs)
        self.memory = ConvGRU(outputs // 2) if memory else None

    def forward(
        self, x: Tensor, skip: Tensor, state: Tensor | None = None, frames: int = 1
    ) -> tuple[Tensor, Tensor | None]:
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        x = self.fuse(torch.cat((x, skip), 1))
        if self.memory is None:
            return x, None
        still, moving = x.chunk(2, 1)
        seen = []
        for frame in moving.chunk(frames):
            state = self.memory(frame, torch.zeros_like(frame) if state is None else state.to(frame.dtype))
            seen.append(state)
        return torch.cat((still, torch.cat(seen)), 1), state


class Halve(nn.Module):
    """The means of 2×2 pixels; as a convolution, which compilers keep in the layout of its neighbours."""

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        return F.conv2d(x, x.new_full((channels, 1, 2, 2), 0.25), stride=2, groups=channels)


class Recall(nn.Module):
    """Keeps the last frame's slope and intercept where they still explain this one.

    They are functions of colour, so what moves by a few pixels does not tear them. A gate at 1/4, from the decoder's
    features, both mattes, their difference and that of the pictures (as they are, and blurred against noise), says how
    much of the last frame stays, and corrects the intercept.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.halve = Halve()
        self.look = nn.Conv2d(features + 6, 16, 3, padding=1)
        self.gate = nn.Conv2d(16, 2, 3, padding=1)
        nn.init.zeros_(self.gate.bias) if self.gate.bias is not None else None

    def forward(
        self, features: Tensor, guide: Tensor, p: Tensor, slope: Tensor, state: Tensor | None, frames: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`guide` is the picture at 1/2, `p` its matte; returns slope, intercept and the state.

        The state holds slope, intercept and guide, and 1 where there was a frame.
        """
        kept = []
        linears = torch.cat((slope, p - _weighed(slope, guide)), 1)
        for x, picture, matte, linear in zip(
            *(tensor.chunk(frames) for tensor in (features, guide, p.clamp(0, 1), linears)), strict=True
        ):
            if state is not None:
                before, seen, there = torch.split(state.float(), [4, 3, 1], 1)
                share, correction = self._look(x, picture, seen, matte, _linear(before, picture).clamp(0, 1))
                slope, intercept = torch.split(linear + there * share * (before - linear), [3, 1], 1)
                linear = torch.cat((slope, intercept + there * correction), 1)
            state = torch.cat((linear, picture, torch.ones_like(picture[:, :1])), 1)
            kept.append(linear)
        assert state is not None
        slope, intercept = torch.split(torch.cat(kept), [3, 1], 1)
        return slope, intercept, state

    def _look(self, x: Tensor, picture: Tensor, seen: Tensor, matte: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """How much of the last frame stays, and what the intercept gains, at 1/2.

        `matte` and `before` are alphas of `picture`: this frame's, and that of the last frame's slope and intercept.
        """
        changes = (matte - before, picture - seen)
        looks = torch.cat((matte, before, *_lengths(*changes), *changes), 1)
        signs, blurred = torch.split(_in_fp32(self.halve, looks), [4, 4], 1)
        blurred = F.avg_pool2d(blurred, 5, stride=1, padding=2, count_include_pad=False)
        calm = _lengths(*torch.split(blurred, [1, 3], 1))
        looked = F.relu(self.look(torch.cat([part.to(x.dtype) for part in (x, signs, *calm)], 1)))
        share, correction = (4 * self.gate(looked).float()).chunk(2, 1)
        both = torch.cat((share.sigmoid().clamp(max=KEPT), correction / 4), 1)
        share, correction = F.interpolate(both, scale_factor=2.0, mode="bilinear").chunk(2, 1)
        return share, correction


def _lengths(matte: Tensor, colours: Tensor) -> tuple[Tensor, Tensor]:
    """Ten times the change of the matte, and the mean of the three colours'."""
    return 10 * matte.abs(), 10 * colours.abs().mean(1, keepdim=True)


class RealTime(nn.Module):
    """See the module's docstring.

    `forward` takes any image size. `ratio` shrinks what the network looks at (the image, resized by area to the
    nearest multiples of 32), not what it returns: alpha has the image's size, its detail restored by the slope.
    """

    spec = Spec(size=long_side(512, MULTIPLE), recurrent=True, half=True)
    exact = ("encoder.0", "encoder.1", "encoder.2.0", "encoder.2.1/", "encoder.2.2/", "guide")
    """What stays in fp32 where the rest runs in 16 bits: modules; with a slash, what they do beside those within."""

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64, 160, 256),
        blocks: Sequence[int] = (0, 1, 2, 2, 1),
        decoder: Sequence[int] = (128, 96, 64, 32, 16),
    ) -> None:
        super().__init__()
        stages = []
        for inputs, outputs, count in zip((3, *widths), widths, blocks, strict=False):
            stages.append(
                nn.Sequential(ConvNorm(inputs, outputs, stride=2), *(Residual(outputs) for _ in range(count)))
            )
        self.encoder = nn.ModuleList(stages)
        self.context = Context(widths[4], decoder[0])
        self.up16 = Up(decoder[0], widths[3], decoder[1], memory=True)
        self.up8 = Up(decoder[1], widths[2], decoder[2], memory=True)
        self.up4 = Up(decoder[2], widths[1], decoder[3])
        self.up2 = Up(decoder[3], widths[0], decoder[4])
        self.guidance = nn.Conv2d(decoder[4], 4, 3, padding=1)
        self.guide = Halve()
        self.recall = Recall(decoder[3])
        self.semantic: nn.Module | None = nn.Conv2d(decoder[2], 1, 1)
        self.boundary: nn.Module | None = nn.Sequential(ConvNorm(decoder[4], 16), nn.Conv2d(16, 1, 1))
        nn.init.normal_(self.guidance.weight, std=0.01)
        nn.init.zeros_(self.guidance.bias) if self.guidance.bias is not None else None

    def forward(
        self,
        image: Tensor,
        *,
        trimap: Tensor | None = None,
        background: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
        ratio: float = 1.0,
        frames: int = 1,
    ) -> Prediction:
        """image `[N, 3, H, W]` in [0, 1] → alpha `[N, 1, H, W]`.

        `state` is the previous frame's `Prediction.state` (`[N, 48, h/16, w/16]`, `[N, 32, h/8, w/8]`,
        `[N, 8, h/2, w/2]`); None, or zeros, at the start of a clip. `frames` > 1 takes that many frames of each
        clip at once, all first frames first, as training does.

        Maps: `coarse` (logits of p at 1/2), `slope` (A) and `intercept` (p − A·image) at 1/2 for a linear
        upsampling to any other size; with the training heads `semantic` (logits at 1/8) and `boundary` (logits at
        1/2; `Prediction.boundary` is its sigmoid at the image's size).
        """
        seen = _shrink(image, ratio)
        given = state or (None, None, None)
        x = _centre(seen)
        features, states = self._features(x, given, frames)
        head = self.guidance(features["1/2"]).float()
        coarse, slope = head[:, :1], STEEPEST * torch.tanh(head[:, 1:] / STEEPEST)
        guide = _in_fp32(self.guide, x) / 4.0 + 0.5
        p = (coarse.sigmoid() - SPARE) / (1 - 2 * SPARE)
        slope, intercept, last = self.recall(features["1/4"], guide, p, slope, given[2], frames)
        alpha = apply_guidance(slope, intercept, image)
        maps = {"coarse": coarse, "slope": slope, "intercept": intercept}
        prediction = Prediction(alpha, state=(*states, last), maps=maps, frames=frames)
        if self.semantic is not None and self.boundary is not None:
            prediction.maps["semantic"] = self.semantic(features["1/8"]).float()
            prediction.maps["boundary"] = self.boundary(features["1/2"]).float()
            prediction.boundary = _resize(prediction.maps["boundary"].sigmoid(), image)
        return prediction

    def _features(
        self, x: Tensor, state: tuple[Tensor | None, ...], frames: int
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        skips = []
        for number, stage in enumerate(self.encoder):
            assert isinstance(stage, nn.Sequential)
            for place, block in enumerate(stage):
                x = block(x) if self.training or (number, place) >= EXACT else _in_fp32(block, x)
            skips.append(x)
        s2, s4, s8, s16, s32 = skips
        x, state16 = self.up16(self.context(s32), s16, state[0], frames)
        d8, state8 = self.up8(x, s8, state[1], frames)
        d4, _ = self.up4(d8, s4)
        d2, _ = self.up2(d4, s2)
        return {"1/8": d8, "1/4": d4, "1/2": d2}, (state16, state8)

    def objective(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Matte Label Blending's terms (matte: L1 and Laplacian; boundary: cross-entropy and Dice) and four of ours.

        `alpha` is L1 at full size, five times as heavy on the boundary. `guided` is the same for an alpha made from
        slope and p averaged to 1/8, so that the slope learns to restore what a far smaller picture has lost.
        `semantic` and `coarse` are cross-entropies with the area-averaged alpha at 1/8 and 1/2; `dice` of the latter
        makes a small subject count as much as a large one. All look only where
        the label is known; `boundary` teaches only from mattes. Clips add `temporal`, the error of alpha's change
        from frame to frame (dtSSD's).
        """
        maps, known = prediction.maps, batch.known
        edge = boundary(batch.alpha)
        weight = known * (1 + 4 * edge)
        guide, slope = _area(batch.image, maps["slope"]), F.avg_pool2d(maps["slope"], 4)
        p = F.avg_pool2d(_weighed(maps["slope"], guide) + maps["intercept"], 4)
        guided = apply_guidance(slope, p - _weighed(slope, _area(guide, p)), batch.image)
        terms = {
            "alpha": losses.l1(prediction.alpha, batch.alpha, weight),
            "laplacian": 0.5 * losses.laplacian(prediction.alpha, batch.alpha, known),
            "guided": 0.5 * losses.l1(guided, batch.alpha, weight),
        }
        for name, share in (("coarse", 0.5), ("semantic", 0.5)):
            target, sure = _area(batch.alpha, maps[name]), (_area(known, maps[name]) > 0.99).float()
            terms[name] = share * losses.binary_cross_entropy(maps[name], target, sure)
        target, sure = _area(batch.alpha, maps["coarse"]), _area(known, maps["coarse"])
        terms["dice"] = 0.25 * losses.dice(maps["coarse"].sigmoid(), target, sure)
        if prediction.frames > 1:
            terms["temporal"] = 5 * losses.flicker(prediction.alpha, batch.alpha, known, prediction.frames)
        if "boundary" in maps:
            matte = (batch.label == Label.MATTE).float().view(-1, 1, 1, 1) * _area(known, maps["boundary"])
            target = _area(edge, maps["boundary"])
            terms["boundary"] = 0.1 * (
                losses.binary_cross_entropy(maps["boundary"], target, matte)
                + losses.dice(maps["boundary"].sigmoid(), target, matte)
            )
        return terms

    def fuse(self) -> RealTime:
        """A copy for inference: normalisations folded into their convolutions, training heads dropped."""
        network = copy.deepcopy(self).eval()
        network.semantic = network.boundary = None
        for module in network.modules():
            if isinstance(module, ConvNorm):
                convolution, norm = module[0], module[1]
                assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
                module[0], module[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
        return network


def apply_guidance(slope: Tensor, intercept: Tensor, image: Tensor) -> Tensor:
    """alpha = clamp(up(slope) · image + up(intercept)), at the image's size."""
    return _linear(_resize(torch.cat((slope, intercept), 1), image), image).clamp(0, 1)


def _linear(linear: Tensor, image: Tensor) -> Tensor:
    """slope · image + intercept, of the four planes that hold both."""
    slope, intercept = torch.split(linear, [3, 1], 1)
    return _weighed(slope, image) + intercept


def _weighed(slope: Tensor, image: Tensor) -> Tensor:
    """slope · image, plane by plane: a sum that compilers fuse."""
    red, green, blue = (a * colour for a, colour in zip(slope.chunk(3, 1), image.chunk(3, 1), strict=True))
    return red + green + blue


def _centre(image: Tensor) -> Tensor:
    """[0, 1] as [-2, 2], colours last: so compilers transpose nothing where the picture comes that way."""
    pixels = image.permute(0, 2, 3, 1)
    return ((pixels - 0.5) * 4.0).permute(0, 3, 1, 2)


def _shrink(image: Tensor, ratio: float) -> Tensor:
    given = [int(side) for side in image.shape[-2:]]
    size = [max(MULTIPLE, round(side * ratio / MULTIPLE) * MULTIPLE) for side in given]
    return image if size == given else F.interpolate(image, size=size, mode="area")


def _in_fp32(module: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        y: Tensor = module(x.float())
        return y


def _area(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="area")


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)

"""Robust High-Resolution Video Matting with Temporal Guidance (RVM; Lin et al., WACV 2022).

Written from published facts, after section 3 of the paper; no line is the authors' (GPL-3.0):

    backbone   MobileNetV3-Large or ResNet50, the last stage dilated: maps at 1/2, 1/4, 1/8, 1/16
    aspp       LR-ASPP: 1×1 projection gated by the global mean
    decoder    bottleneck at 1/16 and three upsampling blocks, in each half of the channels through a ConvGRU whose
               state is carried over the frames; an output block at 1/1
    refiner    all the above sees the picture shrunk by `downsample_ratio`; a guided filter brings the result to its
               full size (`rvm_refiner`)

Traps: MobileNetV3 normalises its input, ResNet50 does not; pooling rounds up and upsampling is cropped, so sides may
be odd; foreground is predicted as its difference from the image. Modules carry the names of the official file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mattecli.mixing.batch import Batch
from mattecli.zoo import losses
from mattecli.zoo.encoders.imagenet import normalise
from mattecli.zoo.encoders.mobilenetv3 import MobileNetV3Large
from mattecli.zoo.encoders.resnet import ResNet
from mattecli.zoo.layers import conv_norm_relu
from mattecli.zoo.rvm_refiner import DeepGuidedFilter, FastGuidedFilter
from mattecli.zoo.spec import Prediction, Spec, native

SEEN = 512
"""Longer side that the authors shrink pictures to."""

State = tuple[Tensor, ...]


def published_ratio(height: int, width: int) -> float:
    """`downsample_ratio` that brings the longer side to 512 (1 for what is smaller), the shorter to 2 at least."""
    return min(1.0, max(SEEN / max(height, width), 2 / min(height, width)))


class LRASPP(nn.Module):
    """Lite reduced ASPP (Howard et al. 2019)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.aspp1 = conv_norm_relu(inputs, outputs, 1)
        self.aspp2 = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, outputs, 1, bias=False), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.aspp1(x) * self.aspp2(x)
        return y


class ConvGRU(nn.Module):
    """Convolutional gated recurrent unit (equation 1); `frames` frames of each clip, all first ones first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ih = nn.Sequential(nn.Conv2d(2 * channels, 2 * channels, 3, padding=1), nn.Sigmoid())
        self.hh = nn.Sequential(nn.Conv2d(2 * channels, channels, 3, padding=1), nn.Tanh())

    def forward(self, x: Tensor, state: Tensor | None, frames: int) -> tuple[Tensor, Tensor]:
        states = []
        for frame in x.chunk(frames):
            state = torch.zeros_like(frame) if state is None else state.to(frame.dtype)
            reset, update = self.ih(torch.cat((frame, state), 1)).chunk(2, 1)
            candidate = self.hh(torch.cat((frame, reset * state), 1))
            state = (1 - update) * state + update * candidate
            states.append(state)
        return torch.cat(states), states[-1]


class Bottleneck(nn.Module):
    """Half of the channels recurrent."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gru = ConvGRU(channels // 2)

    def forward(self, x: Tensor, state: Tensor | None, frames: int) -> tuple[Tensor, Tensor]:
        return _half(self.gru, x, state, frames)


class Up(nn.Module):
    """Twice the size, beside the encoder's map and the picture of that size; then half of the channels recurrent."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv_norm_relu(inputs + skip + 3, outputs)
        self.gru = ConvGRU(outputs // 2)

    def forward(
        self, x: Tensor, skip: Tensor, picture: Tensor, state: Tensor | None, frames: int
    ) -> tuple[Tensor, Tensor]:
        x = self.conv(torch.cat((_twice(x, picture), skip, picture), 1))
        return _half(self.gru, x, state, frames)


def _half(gru: ConvGRU, x: Tensor, state: Tensor | None, frames: int) -> tuple[Tensor, Tensor]:
    still, moving = x.chunk(2, 1)
    moved, state = gru(moving, state, frames)
    return torch.cat((still, moved), 1), state


class Output(nn.Module):
    """Twice the size, beside the picture: two convolutions, nothing recurrent."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(*conv_norm_relu(inputs + 3, outputs), *conv_norm_relu(outputs, outputs))

    def forward(self, x: Tensor, picture: Tensor) -> Tensor:
        y: Tensor = self.conv(torch.cat((_twice(x, picture), picture), 1))
        return y


def _twice(x: Tensor, like: Tensor) -> Tensor:
    x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    return x[..., : like.shape[-2], : like.shape[-1]]


class Decoder(nn.Module):
    """`skips` are the encoder's channels at 1/2, 1/4, 1/8 and `widths` the decoder's at 1/16, 1/8, 1/4, 1/2, 1/1."""

    def __init__(self, skips: tuple[int, ...], widths: tuple[int, ...]) -> None:
        super().__init__()
        self.decode4 = Bottleneck(widths[0])
        self.decode3 = Up(widths[0], skips[2], widths[1])
        self.decode2 = Up(widths[1], skips[1], widths[2])
        self.decode1 = Up(widths[2], skips[0], widths[3])
        self.decode0 = Output(widths[3], widths[4])

    def forward(self, maps: list[Tensor], image: Tensor, state: State | None, frames: int) -> tuple[Tensor, State]:
        pictures = [image]
        for _ in range(3):
            pictures.append(F.avg_pool2d(pictures[-1], 2, ceil_mode=True, count_include_pad=False))
        r1, r2, r3, r4 = state or (None, None, None, None)
        x, r4 = self.decode4(maps[3], r4, frames)
        x, r3 = self.decode3(x, maps[2], pictures[3], r3, frames)
        x, r2 = self.decode2(x, maps[1], pictures[2], r2, frames)
        x, r1 = self.decode1(x, maps[0], pictures[1], r1, frames)
        return self.decode0(x, image), (r1, r2, r3, r4)


class Projection(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class RVM(nn.Module):
    """See the module's docstring. Any size."""

    spec = Spec(size=native(), recurrent=True)

    def __init__(
        self,
        encoder: Literal["mobilenetv3", "resnet50"] = "mobilenetv3",
        refiner: Literal["deep", "fast"] = "deep",
    ) -> None:
        super().__init__()
        self.deep = refiner == "deep"
        self.normalises = encoder == "mobilenetv3"
        if encoder == "mobilenetv3":
            self.backbone: nn.Module = MobileNetV3Large(taps=(1, 3, 6, 16), output_stride=16)
            skips, deepest, widths = (16, 24, 40), 960, (128, 80, 40, 32, 16)
        else:
            self.backbone = ResNet(50, dilations=(1, 1, 1, 2))
            skips, deepest, widths = (64, 256, 512), 2048, (256, 128, 64, 32, 16)
        self.aspp = LRASPP(deepest, widths[0])
        self.decoder = Decoder(skips, widths)
        self.project_mat = Projection(widths[4], 4)
        self.project_seg = Projection(widths[4], 1)
        self.refiner = DeepGuidedFilter(widths[4]) if self.deep else FastGuidedFilter()

    def own_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What this network takes of an official file: the fast filter leaves the deep one's weights out."""
        return {key: value for key, value in tensors.items() if self.deep or not key.startswith("refiner.")}

    def forward(
        self,
        image: Tensor,
        *,
        trimap: Tensor | None = None,
        background: Tensor | None = None,
        state: State | None = None,
        frames: int = 1,
        downsample_ratio: float | None = None,
    ) -> Prediction:
        """image `[N, 3, H, W]` in [0, 1] → alpha `[N, 1, H, W]`, foreground `[N, 3, H, W]`.

        `state` is the previous frame's `Prediction.state` (r1 … r4 at 1/2, 1/4, 1/8, 1/16 of what the network sees);
        None, or zeros, at the start of a clip. `frames` > 1 takes that many frames of each clip at once, all first
        frames first. The network sees the picture at `downsample_ratio`, None for `published_ratio`; the authors
        advise 1/4 for portraits in HD and 2/5 for whole bodies, half of that in 4K.

        `maps["segmentation"]` `[N, 1, h, w]` has the logits of a person at that size.
        """
        ratio = published_ratio(*image.shape[-2:]) if downsample_ratio is None else downsample_ratio
        seen = image if ratio == 1 else _shrink(image, ratio)
        maps = self.backbone(normalise(seen) if self.normalises else seen)
        hidden, states = self.decoder([*maps[:3], self.aspp(maps[-1])], seen, state, frames)
        residual, alpha = torch.split(self.project_mat(hidden), [3, 1], 1)
        if ratio != 1:
            residual, alpha = self.refiner(image, seen, residual, alpha, hidden)
        return Prediction(
            alpha.float().clamp(0, 1),
            foreground=(image + residual.float()).clamp(0, 1),
            state=states,
            maps={"segmentation": self.project_seg(hidden).float()},
            frames=frames,
        )

    def objective(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Section 4.2: L1, Laplacian and temporal coherence (5) on alpha, L1 and coherence (5) on foreground.

        The latter look where alpha is not 0, and only if the batch has a foreground; coherence needs clips. With
        masks `segmentation` is the cross-entropy of the segmentation head, which the authors train on other data in
        turn. All look only where the label is known.
        """
        assert prediction.foreground is not None
        alpha, known, frames = batch.alpha, batch.known, prediction.frames
        terms = {
            "alpha": losses.l1(prediction.alpha, alpha, known),
            "laplacian": laplacian((prediction.alpha - alpha) * known),
        }
        if frames > 1:
            terms["coherence"] = 5 * losses.temporal(prediction.alpha, alpha, known, frames)
        if batch.foreground is not None:
            there = (alpha > 0).to(alpha.dtype)
            colours, truth = prediction.foreground * there, batch.foreground * there
            terms["foreground"] = losses.l1(colours, truth, known)
            if frames > 1:
                terms["foreground coherence"] = 5 * losses.temporal(colours, truth, known.expand_as(colours), frames)
        logits = prediction.maps.get("segmentation")
        if batch.mask is not None and logits is not None:
            mask, sure = (F.interpolate(x, size=logits.shape[-2:], mode="area") for x in (batch.mask, known))
            terms["segmentation"] = losses.binary_cross_entropy(logits, mask, (sure == 1).to(sure.dtype))
        return terms


def laplacian(difference: Tensor, levels: int = 5) -> Tensor:
    """L1 of the Laplacian pyramid's bands, level l weighted 2^l, divided by `levels`.

    Unlike `losses.laplacian` it has no low-pass rest, and upsamples with the same binomial filter.
    """
    loss = difference.new_zeros(())
    for level in range(levels):
        coarse = losses.blur(difference)[..., ::2, ::2]
        spread = torch.zeros_like(difference)
        spread[..., ::2, ::2] = 4 * coarse
        loss = loss + 2**level * (difference - losses.blur(spread)).abs().mean()
        difference = coarse
    return loss / levels


def _shrink(image: Tensor, ratio: float) -> Tensor:
    """Pixel centres by the ratio itself, not by the sizes that it rounds to."""
    return F.interpolate(image, scale_factor=ratio, mode="bilinear", align_corners=False, recompute_scale_factor=False)

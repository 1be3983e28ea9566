"""Background Matting V2: Real-Time High-Resolution Background Matting (Lin et al., CVPR 2021).

Two networks after section 4 of the paper, as released:

    base     image and background plate, both shrunk: encoder to 1/16, ASPP, decoder with skips; gives a coarse
             alpha, the foreground's difference from the image, the error to be expected of alpha, and 32 hidden
             channels
    refiner  works where the expected error is large, on blocks of 4×4 pixels of the full picture

Traps: foreground is predicted as a difference from the image and only clamped after the refiner; image and plate are
not normalised; the refiner's convolutions do not pad, so blocks are cut with a ring round them; between its halves it
upsamples to the nearest. Modules carry the names of the official file, the encoders torchvision's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mattecli.errors import UsageError
from mattecli.mixing.batch import Batch
from mattecli.zoo import losses
from mattecli.zoo.bgmv2_refiner import Refiner, published_scale, select
from mattecli.zoo.encoders.mobilenetv2 import MobileNetV2
from mattecli.zoo.encoders.resnet import ResNet
from mattecli.zoo.layers import conv_norm_relu, resize
from mattecli.zoo.spec import Prediction, Spec, check_sides, long_side, native

Encoder = Literal["mobilenetv2", "resnet50", "resnet101"]

RATES = (3, 6, 9)
HIDDEN = 32
BLOCK = 4
"""The refiner's blocks; the picture's sides must be multiples."""


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling of DeepLabV3 (Chen et al. 2017) with torchvision's key names."""

    def __init__(self, inputs: int, outputs: int = 256) -> None:
        super().__init__()
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv_norm_relu(inputs, outputs, 1))
        self.convs = nn.ModuleList(
            [
                conv_norm_relu(inputs, outputs, 1),
                *(conv_norm_relu(inputs, outputs, 3, rate) for rate in RATES),
                pool,
            ]
        )
        self.project = nn.Sequential(*conv_norm_relu(5 * outputs, outputs, 1), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        *local, whole = (conv(x) for conv in self.convs)
        y: Tensor = self.project(torch.cat((*local, resize(whole, x.shape[-2:])), 1))
        return y


class Decoder(nn.Module):
    """Four times: upsample to the next skip's size, put the skip behind, 3×3 convolution."""

    def __init__(self, inputs: int, skips: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs + skips[0], 128, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(128)
        self.conv2 = nn.Conv2d(128 + skips[1], 64, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.conv3 = nn.Conv2d(64 + skips[2], 48, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(48)
        self.conv4 = nn.Conv2d(48 + skips[3], 1 + 3 + 1 + HIDDEN, 3, padding=1)

    def forward(self, x: Tensor, x3: Tensor, x2: Tensor, x1: Tensor, x0: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(_beside(x, x3))))
        x = F.relu(self.bn2(self.conv2(_beside(x, x2))))
        x = F.relu(self.bn3(self.conv3(_beside(x, x1))))
        y: Tensor = self.conv4(_beside(x, x0))
        return y


class BGMv2Base(nn.Module):
    """The coarse network alone. Any size; made for pictures near 512."""

    spec = Spec(size=long_side(512, 16), needs="background")

    def __init__(self, encoder: Encoder = "mobilenetv2") -> None:
        super().__init__()
        if encoder == "mobilenetv2":
            self.backbone: nn.Module = MobileNetV2(taps=(1, 3, 6, 17), channels=6, output_stride=16)
            skips, deepest = (32, 24, 16, 6), 320
        else:
            self.backbone = ResNet({"resnet50": 50, "resnet101": 101}[encoder], inputs=6, dilations=(1, 1, 1, 2))
            skips, deepest = (512, 256, 64, 6), 2048
        self.aspp = ASPP(deepest)
        self.decoder = Decoder(256, skips)

    @staticmethod
    def own_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the base takes of a file of the whole network."""
        return {key: value for key, value in tensors.items() if not key.startswith("refiner.")}

    def coarse(self, image: Tensor, background: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """alpha, foreground minus image (not clamped), expected error, hidden; all at the size given."""
        x0 = torch.cat((image, background), 1)
        x1, x2, x3, *_, x4 = self.backbone(x0)
        maps = self.decoder(self.aspp(x4), x3, x2, x1, x0).float()
        alpha, residual, error, hidden = torch.split(maps, [1, 3, 1, HIDDEN], 1)
        return alpha.clamp(0, 1), residual, error.clamp(0, 1), hidden.relu()

    def forward(
        self,
        image: Tensor,
        *,
        trimap: Tensor | None = None,
        background: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
    ) -> Prediction:
        """image and background `[N, 3, H, W]` in [0, 1] → alpha `[N, 1, H, W]`, foreground `[N, 3, H, W]`.

        One background `[1, 3, H, W]` serves all images. Maps: `err` `[N, 1, H, W]` in [0, 1] and `hid`
        `[N, 32, H, W]`. Raises `UsageError` without a background.
        """
        alpha, residual, error, hidden = self.coarse(image, _plate(image, background))
        return Prediction(alpha, foreground=(image + residual).clamp(0, 1), maps={"err": error, "hid": hidden})

    def objective(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Section 4.3 (L_base): L1 on alpha, its Sobel gradient and foreground, squared error on the expected error.

        All weigh 1. Foreground is compared where alpha is not 0, and only if the batch has one.
        """
        assert prediction.foreground is not None
        error = (prediction.alpha.detach() - batch.alpha).abs()
        return _matte_terms(prediction.alpha, prediction.foreground, batch.alpha, batch.foreground, batch.known) | {
            "error": losses.mean((prediction.maps["err"] - error).square(), batch.known)
        }


class BGMv2(BGMv2Base):
    """Base and refiner. Sides must be multiples of 4.

    The base sees the picture at `backbone_scale`. `refine_mode` says which blocks are refined: "sampling" those of the
    largest expected error, `refine_sample_pixels` pixels in all; "thresholding" those whose error is above
    `refine_threshold`; "full" all. None takes what was published for HD (1/4, 80,000) and 4K (1/8, 320,000), in
    proportion for other sizes, but at most 1/2 and at least 80,000.
    """

    spec = Spec(size=native(BLOCK), needs="background")

    def __init__(self, encoder: Encoder = "mobilenetv2") -> None:
        super().__init__(encoder)
        self.refiner = Refiner(HIDDEN)
        self.backbone_scale: float | None = None
        self.refine_mode: Literal["sampling", "thresholding", "full"] = "sampling"
        self.refine_sample_pixels: int | None = None
        self.refine_threshold = 0.1

    @staticmethod
    def own_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`tensors` with a refiner of kernel size 1, the released code's other choice, as the 3×3 one it equals."""
        found = dict(tensors)
        for key, value in tensors.items():
            if key.startswith("refiner.") and value.shape[2:] == (1, 1):
                found[key] = F.pad(value, (1, 1, 1, 1))
        return found

    def forward(
        self,
        image: Tensor,
        *,
        trimap: Tensor | None = None,
        background: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
    ) -> Prediction:
        """image and background `[N, 3, H, W]` in [0, 1] → alpha `[N, 1, H, W]`, foreground `[N, 3, H, W]`.

        One background `[1, 3, H, W]` serves all images. Maps: the base's `pha_sm`, `fgr_sm`, `err_sm`, `hid_sm` at
        its scale, and `ref_sm` `[N, 1, H/4, W/4]`, 1 where blocks were refined. Raises `UsageError` without a
        background, or for sides that are no multiples of 4.
        """
        check_sides(image, BLOCK, "bgmv2")
        height, width = image.shape[-2:]
        background = _plate(image, background)
        scale = self.backbone_scale or published_scale(height, width)
        small = (max(1, int(height * scale)), max(1, int(width * scale)))
        image_sm, background_sm = resize(image, small), resize(background, small)
        alpha_sm, residual_sm, error_sm, hidden_sm = self.coarse(image_sm, background_sm)
        chosen = select(
            resize(error_sm, (height // BLOCK, width // BLOCK)),
            self.refine_mode,
            self.refine_sample_pixels,
            self.refine_threshold,
        )
        pair = torch.cat((image, background), 1)
        everywhere = self.refine_mode == "full"
        refined = self.refiner(pair, hidden_sm, alpha_sm, residual_sm, None if everywhere else chosen).float()
        return Prediction(
            refined[:, :1].clamp(0, 1),
            foreground=(image + refined[:, 1:]).clamp(0, 1),
            maps={
                "pha_sm": alpha_sm,
                "fgr_sm": (image_sm + residual_sm).clamp(0, 1),
                "err_sm": error_sm,
                "hid_sm": hidden_sm,
                "ref_sm": chosen.float(),
            },
        )

    def objective(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Section 4.3 as released: the base's terms for alpha and foreground at both scales, all of weight 1.

        The expected error is compared at full size with the base's, which it may change too. Foreground is compared
        where alpha is not 0, and only if the batch has one.
        """
        assert prediction.foreground is not None
        maps, size = prediction.maps, batch.alpha.shape[-2:]
        small = maps["pha_sm"].shape[-2:]
        alpha_sm = resize(batch.alpha, small)
        foreground_sm = None if batch.foreground is None else resize(batch.foreground, small)
        known_sm = (F.interpolate(batch.known, size=small, mode="area") == 1).to(batch.known.dtype)
        terms = _matte_terms(prediction.alpha, prediction.foreground, batch.alpha, batch.foreground, batch.known)
        coarse = _matte_terms(maps["pha_sm"], maps["fgr_sm"], alpha_sm, foreground_sm, known_sm)
        error = (resize(maps["pha_sm"], size) - batch.alpha).abs()
        return (
            terms
            | {f"coarse {name}": term for name, term in coarse.items()}
            | {"error": losses.mean((resize(maps["err_sm"], size) - error).square(), batch.known)}
        )


def _matte_terms(
    alpha: Tensor, foreground: Tensor, true_alpha: Tensor, true_foreground: Tensor | None, known: Tensor
) -> dict[str, Tensor]:
    terms = {
        "alpha": losses.l1(alpha, true_alpha, known),
        "gradient": losses.gradient(alpha, true_alpha, known),
    }
    if true_foreground is not None:
        there = (true_alpha != 0).to(alpha.dtype)
        terms["foreground"] = losses.l1(foreground * there, true_foreground * there, known)
    return terms


def _plate(image: Tensor, background: Tensor | None) -> Tensor:
    if background is None:
        raise UsageError("bgmv2 needs the background plate: the same view without the subject.")
    return background.expand_as(image)


def _beside(x: Tensor, skip: Tensor) -> Tensor:
    return torch.cat((resize(x, skip.shape[-2:]), skip), 1)

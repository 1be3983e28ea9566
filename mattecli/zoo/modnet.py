"""MODNet: Real-Time Trimap-Free Portrait Matting via Objective Decomposition (Ke et al., AAAI 2022).

Three branches after section 3 of the paper, as released:

    lr_branch   semantic estimation at low resolution: MobileNetV2, channel attention, s at 1/16
    hr_branch   detail prediction at high resolution: first maps of the encoder, image, semantics; d at 1/1
    f_branch    semantic-detail fusion: alpha at 1/1

The released network has a squeeze-and-excitation block where the paper's figure has the e-ASPP. Modules carry
the names of the official file but for the encoder, which has torchvision's (see `MODNet.own_key`).
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mattecli.mixing.batch import Batch
from mattecli.zoo import losses
from mattecli.zoo import trimap as trimaps
from mattecli.zoo.encoders.mobilenetv2 import MobileNetV2, from_flat
from mattecli.zoo.spec import Prediction, Spec

REFERENCE, MULTIPLE = 512, 32


def published_size(height: int, width: int, size: int | None = None) -> tuple[int, int]:
    """The authors' rule: the shorter side becomes 512 where the longer is below or the shorter above that.

    Then both sides are cut to multiples of 32. `size` replaces 512.
    """
    reference = size or REFERENCE
    if max(height, width) < reference or min(height, width) > reference:
        if width >= height:
            height, width = reference, int(width / height * reference)
        else:
            height, width = int(height / width * reference), reference
    return max(MULTIPLE, height - height % MULTIPLE), max(MULTIPLE, width - width % MULTIPLE)


class IBNorm(nn.Module):
    """BatchNorm on the first half of the channels, InstanceNorm (nothing learned) on the second."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.split = channels // 2
        self.bnorm = nn.BatchNorm2d(self.split)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.bnorm(x[:, : self.split]), F.instance_norm(x[:, self.split :])), 1)


class Unit(nn.Module):
    """Convolution with bias, IBNorm and ReLU; `plain` is the convolution alone."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, plain: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)]
        self.layers = nn.Sequential(*layers, *([] if plain else [IBNorm(outputs), nn.ReLU(inplace=True)]))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


class SEBlock(nn.Module):
    """Channels weighted by two linear layers on their global means (Hu et al. 2018), without biases."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = channels // reduction
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.fc(x.mean((2, 3)))
        return x * weight[:, :, None, None]


class LRBranch(nn.Module):
    """Section 3.2: what is where, at 1/8; `conv_lr` reads s at 1/16 from it."""

    def __init__(self) -> None:
        super().__init__()
        self.se_block = SEBlock(1280)
        self.conv_lr16x = Unit(1280, 96, 5)
        self.conv_lr8x = Unit(96, 32, 5)
        self.conv_lr = Unit(32, 1, 3, stride=2, plain=True)

    def forward(self, enc32x: Tensor) -> Tensor:
        lr16x = self.conv_lr16x(_scale(self.se_block(enc32x), 2))
        lr8x: Tensor = self.conv_lr8x(_scale(lr16x, 2))
        return lr8x


class HRBranch(nn.Module):
    """Section 3.3: the transition region, at 1/2; `conv_hr` reads d at full size from it."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        c = channels
        self.tohr_enc2x = Unit(16, c, 1)
        self.conv_enc2x = Unit(c + 3, c, 3, stride=2)
        self.tohr_enc4x = Unit(24, c, 1)
        self.conv_enc4x = Unit(2 * c, 2 * c, 3)
        self.conv_hr4x = nn.Sequential(Unit(3 * c + 3, 2 * c, 3), Unit(2 * c, 2 * c, 3), Unit(2 * c, c, 3))
        self.conv_hr2x = nn.Sequential(Unit(2 * c, 2 * c, 3), Unit(2 * c, c, 3), Unit(c, c, 3), Unit(c, c, 3))
        self.conv_hr = nn.Sequential(Unit(c + 3, c, 3), Unit(c, 1, 1, plain=True))

    def forward(self, image: Tensor, enc2x: Tensor, enc4x: Tensor, lr8x: Tensor) -> Tensor:
        img2x, img4x = _scale(image, 1 / 2), _scale(image, 1 / 4)
        enc2x, enc4x = self.tohr_enc2x(enc2x), self.tohr_enc4x(enc4x)
        hr4x = self.conv_enc2x(torch.cat((img2x, enc2x), 1))
        hr4x = self.conv_enc4x(torch.cat((hr4x, enc4x), 1))
        hr4x = self.conv_hr4x(torch.cat((hr4x, _scale(lr8x, 2), img4x), 1))
        hr2x: Tensor = self.conv_hr2x(torch.cat((_scale(hr4x, 2), enc2x), 1))
        return hr2x


class FusionBranch(nn.Module):
    """Section 3.4: semantics and detail together give alpha."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        c = channels
        self.conv_lr4x = Unit(c, c, 5)
        self.conv_f2x = Unit(2 * c, c, 3)
        self.conv_f = nn.Sequential(Unit(c + 3, c // 2, 3), Unit(c // 2, 1, 1, plain=True))

    def forward(self, image: Tensor, lr8x: Tensor, hr2x: Tensor) -> Tensor:
        lr2x = _scale(self.conv_lr4x(_scale(lr8x, 2)), 2)
        f2x = self.conv_f2x(torch.cat((lr2x, hr2x), 1))
        logits: Tensor = self.conv_f(torch.cat((_scale(f2x, 2), image), 1))
        return logits.float().sigmoid()


class MODNet(nn.Module):
    """See the module's docstring. Image sides must be multiples of 32."""

    spec = Spec(size=published_size)

    def __init__(self) -> None:
        super().__init__()
        self.backbone = MobileNetV2(taps=(1, 3, 18))
        self.lr_branch = LRBranch()
        self.hr_branch = HRBranch()
        self.f_branch = FusionBranch()
        self.heads = True

    @staticmethod
    def own_key(key: str) -> str:
        """Our name of an official key; the official file lists the encoder twice."""
        head, official, rest = key.partition("backbone.model.")
        return from_flat(f"backbone.{rest}") if official and head in ("", "lr_branch.") else key

    def forward(
        self,
        image: Tensor,
        *,
        trimap: Tensor | None = None,
        background: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
    ) -> Prediction:
        """image `[N, 3, H, W]` in [0, 1] → alpha `[N, 1, H, W]`.

        Maps: `semantic` (s, `[N, 1, H/16, W/16]`) and `detail` (d, `[N, 1, H, W]`), both in [0, 1]; a
        network that went through `fuse` has neither.
        """
        x = _normalise(image)
        enc2x, enc4x, enc32x = self.backbone(x)
        lr8x = self.lr_branch(enc32x)
        hr2x = self.hr_branch(x, enc2x, enc4x, lr8x)
        prediction = Prediction(self.f_branch(x, lr8x, hr2x))
        if self.heads:
            prediction.maps["semantic"] = self.lr_branch.conv_lr(lr8x).float().sigmoid()
            full = torch.cat((_scale(hr2x, 2), x), 1)
            prediction.maps["detail"] = self.hr_branch.conv_hr(full).float().sigmoid()
        return prediction

    def objective(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Equations 2, 3 and 5 with the released code's weights; each term teaches where the label is known.

        `semantic` (10): squared error with the blurred alpha at 1/16. `detail` (10): L1 in the trimap's
        unknown region, averaged over the image. `matte` (1): L1, four times more in the unknown region, on
        alpha and on alpha times the image in [−1, 1]. Raises `UsageError` without a trimap.
        """
        unknown = trimaps.unknown(batch, "modnet")
        assert batch.trimap is not None
        alpha, known = batch.alpha, batch.known
        semantic, detail = prediction.maps["semantic"], prediction.maps["detail"]
        coarse = _blur(F.interpolate(alpha, scale_factor=1 / 16, mode="bilinear", align_corners=False))
        sure = (F.interpolate(known, size=coarse.shape[-2:], mode="area") == 1).to(known.dtype)
        # Where the trimap is sure the code compares it, not the prediction, with alpha: a constant.
        compared = torch.where(unknown > 0, prediction.alpha, batch.trimap)
        colour = _normalise(batch.image)
        return {
            "semantic": 10 * losses.mean((semantic - coarse).square(), sure),
            "detail": 10 * losses.l1(detail * unknown, alpha * unknown, known),
            "matte": losses.l1(prediction.alpha, alpha, known)
            + 4 * losses.l1(compared, alpha, known)
            + losses.l1(colour * prediction.alpha, colour * alpha, known)
            + 4 * losses.l1(colour * compared, colour * alpha, known),
        }

    def fuse(self) -> MODNet:
        """A copy for inference: without the heads that only training reads, a sixth of the operations."""
        network = copy.deepcopy(self).eval()
        network.heads = False
        return network


def _normalise(image: Tensor) -> Tensor:
    return (image - 0.5) / 0.5


def _scale(x: Tensor, factor: float) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def _blur(x: Tensor) -> Tensor:
    """The released code's 3×3 blur, reflected at the edges.

    Its kernel is scipy's Gaussian filter (σ = 0.8, reaching 3 with reflection) of a 3×3 delta, so the corners
    weigh more than a plain Gaussian's.
    """
    corner, edge, centre = 0.06261057, 0.1249999, 0.24955814
    rows = [[corner, edge, corner], [edge, centre, edge], [corner, edge, corner]]
    kernel = torch.tensor(rows, dtype=x.dtype, device=x.device)[None, None]
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel)

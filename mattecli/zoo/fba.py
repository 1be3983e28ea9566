"""FBA: F, B, Alpha Matting (Forte & Pitié 2020).

    input        11 planes: the image, six maps of the distance to known background and foreground, two known planes
    encoder      ResNet50 at 1/8 with group norm and weight standardisation
    decoder      pyramid pooling; up to 1/4, 1/2 and 1/1 with the encoder's maps and, last, the image
    fusion       alpha, foreground and background brought into line with the compositing equation (section 3.2)

All convolutions but the last three use their weights standardised: less their mean, divided by their standard
deviation, over each output filter. The authors' code does so in place whenever the network changes between training
and evaluation; here the weights stay as they are and are standardised on use, once for good by `fuse`. The fusion
of the background takes the foreground that is already fused, as theirs does.
"""

from __future__ import annotations

import copy
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mattecli.mixing.batch import Batch
from mattecli.zoo import losses
from mattecli.zoo import trimap as trimaps
from mattecli.zoo.encoders.imagenet import normalise
from mattecli.zoo.encoders.resnet import ResNet
from mattecli.zoo.spec import Prediction, Spec, check_sides, native

MULTIPLE = 8
DEVIATIONS = (0.02 * 320, 0.08 * 320, 0.16 * 320)
"""Pixels over which the distance maps fall off."""
SCALES = (1, 2, 3, 6)
"""Sides of the pyramid pooling's grids."""
CONFIDENCE = 0.1
"""λ: how much the fusion trusts the predicted alpha beside what the colours say."""
LEVELS = 5


class Standardise(nn.Module):
    """Each output filter of a weight with mean 0 and variance 1 (Qiao et al. 2019)."""

    def forward(self, weight: Tensor) -> Tensor:
        filters = weight.reshape(1, len(weight), -1)
        standard: Tensor = F.batch_norm(filters, None, None, training=True, eps=1e-5)
        return standard.view_as(weight)


class Conv(nn.Conv2d):
    """Convolution with standardised weights."""

    def __init__(self, inputs: int, outputs: int, kernel: int, **settings: int) -> None:
        super().__init__(inputs, outputs, kernel, **settings)  # type: ignore[arg-type]
        self.norm: nn.Module = Standardise()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._conv_forward(x, self.norm(self.weight), self.bias)
        return y


Norm = partial(nn.GroupNorm, 32)


def _conv_norm(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, ...]:
    return Conv(inputs, outputs, kernel, padding=kernel // 2), Norm(outputs), nn.LeakyReLU()


class Decoder(nn.Module):
    """Seven planes at full size from the encoder's maps and the image: alpha, foreground, background before fusion."""

    def __init__(self) -> None:
        super().__init__()
        self.ppm = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), *_conv_norm(2048, 256, 1)) for scale in SCALES
        )
        self.conv_up1 = nn.Sequential(*_conv_norm(2048 + 256 * len(SCALES), 256, 3), *_conv_norm(256, 256, 3))
        self.conv_up2 = nn.Sequential(*_conv_norm(256 + 256, 256, 3))
        self.conv_up3 = nn.Sequential(*_conv_norm(256 + 64, 64, 3))
        self.conv_up4 = nn.Sequential(
            nn.Conv2d(64 + 8, 32, 3, padding=1),
            nn.LeakyReLU(),
            nn.Conv2d(32, 16, 3, padding=1),
            nn.LeakyReLU(),
            nn.Conv2d(16, 7, 1),
        )
        # Alpha is clipped, so a fresh network that begins at 0 would learn nothing.
        nn.init.constant_(self.conv_up4[4].bias[:1], 0.5)  # type: ignore[index]

    def forward(self, maps: list[Tensor], full: Tensor) -> Tensor:
        """`maps` of the encoder and `full` `[N, 8, H, W]`: what the last layers see at full size."""
        stem, layer1, deep = maps[0], maps[1], maps[4]
        size = deep.shape[-2:]
        pooled = [F.interpolate(pool(deep), size, mode="bilinear", align_corners=False) for pool in self.ppm]
        x = self.conv_up1(torch.cat((deep, *pooled), 1))
        x = self.conv_up2(torch.cat((_double(x), layer1), 1))
        x = self.conv_up3(torch.cat((_double(x), stem), 1))
        y: Tensor = self.conv_up4(torch.cat((_double(x), full), 1))
        return y


class FBA(nn.Module):
    """See the module's docstring. Image sides must be multiples of 8."""

    spec = Spec(size=native(MULTIPLE), needs="trimap")

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ResNet(50, inputs=11, dilations=(1, 1, 2, 4), conv=Conv, norm=Norm)
        self.decoder = Decoder()

    def forward(
        self,
        image: Tensor,
        *,
        trimap: Tensor | None = None,
        background: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
    ) -> Prediction:
        """image `[N, 3, H, W]` in [0, 1] and trimap `[N, 1, H, W]` → alpha `[N, 1, H, W]`, the trimap where that knows,
        and foreground `[N, 3, H, W]`, the image where alpha is 1.

        Maps: `alpha`, `foreground` and `background` as fused, everywhere. Raises `UsageError` without a trimap, or for
        sides that are no multiples of 8.
        """
        trimap = trimaps.required(trimap, "FBA")
        check_sides(image, MULTIPLE, "FBA")
        regions = (trimap == 0, trimap == 1)
        near = torch.cat([trimaps.proximity(region, DEVIATIONS) for region in regions], 1)
        known = torch.cat(regions, 1).to(image.dtype)
        alpha, front, back = self.predict(image, known, normalise(image), near)
        exact = trimaps.keep_known(alpha, trimap)
        maps = {"alpha": alpha, "foreground": front, "background": back}
        return Prediction(exact, foreground=torch.where(exact == 1, image, front), maps=maps)

    def predict(self, image: Tensor, known: Tensor, colour: Tensor, near: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The authors' four inputs, `[N, C, H, W]` → fused alpha, foreground, background.

        `image` (3) in [0, 1]; `known` (2) 1 in background and in foreground; `colour` (3) the image normalised; `near`
        (6) Gaussians of the distance to background (3) and foreground (3), zero where there is none.
        """
        maps = self.encoder(torch.cat((colour, near, known), 1))
        planes = self.decoder(maps, torch.cat((colour, image, known), 1)).to(image.dtype)
        return fuse_colours(image, planes[:, :1].clamp(0, 1), planes[:, 1:4].sigmoid(), planes[:, 4:].sigmoid())

    def objective(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Equation 2 and table 1 where the label is known: four terms of alpha, and four of the colours at 0.25.

        `foreground` should reach over the whole image, also where alpha is 0. Raises `UsageError` without foreground
        and background.
        """
        foreground, background = trimaps.layers(batch, "FBA")
        alpha, front, back = (prediction.maps[name] for name in ("alpha", "foreground", "background"))
        known = batch.known
        edges = [_gradient(x) for x in (alpha, batch.alpha, front, back)]
        composed = alpha * foreground + (1 - alpha) * background
        recomposed = batch.alpha * front + (1 - batch.alpha) * back
        return {
            "alpha": losses.l1(alpha, batch.alpha, known),
            "composition": losses.l1(composed, batch.image, known),
            "gradient": losses.mean((edges[0] - edges[1]).abs().sum(1, keepdim=True), known),
            "laplacian": _laplacian(alpha, batch.alpha, known),
            "colours": 0.25 * (losses.l1(front, foreground, known) + losses.l1(back, background, known)),
            "colours_composition": 0.25 * losses.l1(recomposed, batch.image, known),
            "colours_exclusion": 0.25
            * losses.mean(edges[2].abs().sum(1, keepdim=True) * edges[3].abs().sum(1, keepdim=True), known),
            "colours_laplacian": 0.25 * (_laplacian(front, foreground, known) + _laplacian(back, background, known)),
        }

    def fuse(self) -> FBA:
        """A copy for inference: weights standardised once."""
        network = copy.deepcopy(self).eval()
        for module in network.modules():
            if isinstance(module, Conv):
                module.weight = nn.Parameter(module.norm(module.weight).detach())
                module.norm = nn.Identity()
        return network


def fuse_colours(image: Tensor, alpha: Tensor, front: Tensor, back: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Alpha, foreground and background moved towards image = alpha · foreground + (1 − alpha) · background."""
    front = alpha * image + (1 - alpha.square()) * front - alpha * (1 - alpha) * back
    back = (1 - alpha) * image + (2 * alpha - alpha.square()) * back - alpha * (1 - alpha) * front
    front, back = front.clamp(0, 1), back.clamp(0, 1)
    line = front - back
    along = ((image - back) * line).sum(1, keepdim=True)
    alpha = (alpha * CONFIDENCE + along) / (line.square().sum(1, keepdim=True) + CONFIDENCE)
    return alpha.clamp(0, 1), front, back


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _gradient(x: Tensor) -> Tensor:
    """Differences to the right and below, nought at the border: `[N, C, H, W]` → `[N, 2C, H, W]`."""
    return torch.cat((F.pad(x.diff(dim=3), (0, 1)), F.pad(x.diff(dim=2), (0, 0, 0, 1))), 1)


def _laplacian(prediction: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """The sum over the pyramid's levels, each colour as a map of its own."""
    weight = known.expand_as(target).flatten(0, 1)[:, None]
    one, other = (x.flatten(0, 1)[:, None] for x in (prediction, target))
    return LEVELS * losses.laplacian(one, other, weight, levels=LEVELS)

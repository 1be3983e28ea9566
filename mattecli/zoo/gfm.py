"""GFM: Bridging Composite and Real: Towards End-to-end Deep Image Matting (Li et al., IJCV 2022).

Glance and focus after section 3 of the paper, as released:

    glance   which pixels are background, transition or foreground: decoder with pooled context
    focus    alpha in the transition: decoder with the encoder's maps
    fusion   collaborative matting, after one of three representations of semantic and transition area (RoSTa)

    tt       glance tells background, transition, foreground; focus fills the transition
    ft       glance tells foreground from the rest; what focus sees is added
    bt       glance tells background from the rest; what focus sees is taken away
    rim      all three, each with its own heads, and a small network that joins them

Traps: the encoder sees raw RGB of 0 to 255; classes are counted from the background (PP-Matting's from the
foreground); what RIM joins is not bound to [0, 1]; the glance loss takes a softmax of what went through a sigmoid.
Files of ft and of bt have the same layout: take the network that the file's name tells.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mattecli.errors import UsageError
from mattecli.mixing.batch import Batch
from mattecli.zoo import losses
from mattecli.zoo import trimap as trimaps
from mattecli.zoo.gfm_parts import LAYOUTS, Focus, Glance, head
from mattecli.zoo.modnet import SEBlock
from mattecli.zoo.spec import Prediction, SizeRule, Spec, check_sides

Rosta = Literal["tt", "ft", "bt"]

CLASSES: dict[Rosta, int] = {"tt": 3, "ft": 2, "bt": 2}
MULTIPLE = 32
SHORTEST, LONGEST = 1080, 1600
"""The authors shrink a photo to this shorter side first, and show the network at most this of either side."""

GLANCE, FOCUS = 1 / 3, 1 / 2
"""The shares of the photo's sides at which the hybrid strategy glances and focuses."""

REACH = 50
"""Side in pixels of the ellipse by which ft's foreground is eroded and bt's background."""


def share_of(share: float) -> SizeRule:
    """The authors' rule: a `share` of a photo that was shrunk to a shorter side of 1080, cut to multiples of 32.

    `size` is the shorter side that the network sees instead, at most the photo's own.
    """

    def rule(height: int, width: int, size: int | None = None) -> tuple[int, int]:
        height, width = _shrunk(height, width, size or SHORTEST)
        if size is None:
            height, width = int(height * share), int(width * share)
        return _cut(height), _cut(width)

    return rule


def at_most_shortest(height: int, width: int, size: int | None = None) -> tuple[int, int]:
    """The authors' first step, which `hybrid` goes on from: a shorter side of at most 1080. A `size` below replaces it.

    Nothing is enlarged.
    """
    return _shrunk(height, width, min(size or SHORTEST, SHORTEST))


def _shrunk(height: int, width: int, shortest: int) -> tuple[int, int]:
    """A shorter side of at most `shortest`; of the longer, the authors keep whole pixels and drop the rest."""
    shorter = min(height, width)
    if shorter <= shortest:
        return height, width
    return height * shortest // shorter, width * shortest // shorter


def _cut(side: int) -> int:
    return max(MULTIPLE, min(LONGEST, side - side % MULTIPLE))


class GFM(nn.Module):
    """See the module's docstring. Image sides must be multiples of 32; inference runs tt, ft and bt by `hybrid`."""

    def __init__(
        self, encoder: Literal["r34", "r34_2b", "d121", "r101"], rosta: Literal["tt", "ft", "bt", "rim"]
    ) -> None:
        super().__init__()
        layout = LAYOUTS[encoder]
        self.layout, self.rosta = layout, rosta
        self.spec = Spec(size=share_of(GLANCE)) if rosta == "rim" else Spec(size=at_most_shortest, strategy=hybrid)
        self.represented: tuple[Rosta, ...] = ("tt", "ft", "bt") if rosta == "rim" else (rosta,)
        self.encoder = layout.build()
        self.glance, self.focus = Glance(layout), Focus(layout)
        self.glance_heads = nn.ModuleDict({name: head(layout, CLASSES[name]) for name in self.represented})
        self.focus_heads = nn.ModuleDict({name: head(layout, 1) for name in self.represented})
        self.rim = nn.Sequential(nn.Conv2d(3, 16, 1), SEBlock(16), nn.Conv2d(16, 1, 1)) if rosta == "rim" else None

    def own_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """An official file without the ImageNet classifier and what else is never called."""
        return {key: value for key, value in tensors.items() if not key.startswith(self.layout.unused)}

    def own_key(self, key: str) -> str:
        """Our name of an official key; the official file lists most of the encoder twice."""
        for official, own in self.layout.official.items():
            if key.startswith(official):
                return f"encoder.{own}{key.removeprefix(official)}"
        key = re.sub(r"^decoder0_g(?:_(tt|ft|bt))?\.", lambda m: f"glance_heads.{m[1] or self.rosta}.", key)
        key = re.sub(r"^decoder0_f(?:_(tt|ft|bt))?\.", lambda m: f"focus_heads.{m[1] or self.rosta}.", key)
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

        Maps: `glance` (`[N, 3, H, W]`: background, transition, foreground; of ft and bt `[N, 2, H, W]`: background,
        foreground), `focus` and `fusion` (`[N, 1, H, W]`), all in [0, 1]. Of rim `glance_tt`, `focus_tt`, `fusion_tt`,
        `glance_ft`, … and `fusion`, which alone may leave [0, 1]. Raises `UsageError` for other sides.
        """
        check_sides(image, MULTIPLE, "GFM")
        encoded = self.encoder(image * 255)
        glanced, focused = self.glance(encoded), self.focus(encoded)
        maps: dict[str, Tensor] = {}
        for name in self.represented:
            suffix = "" if self.rim is None else f"_{name}"
            glance = self.glance_heads[name](glanced).float().sigmoid()
            focus = self.focus_heads[name](focused).float().sigmoid()
            fusion = collaborate(name, _classified(glance), focus)
            maps |= {f"glance{suffix}": glance, f"focus{suffix}": focus, f"fusion{suffix}": fusion}
        if self.rim is not None:
            maps["fusion"] = self.rim(torch.cat([maps[f"fusion_{name}"] for name in self.represented], 1)).float()
        return Prediction(maps["fusion"].clamp(0, 1), maps=maps)

    def objective(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Section 3.3 with the released code's weights: a quarter of each term, of rim's branches the whole.

        `glance`: cross-entropy. `focus`: absolute error and Laplacian in the trimap's unknown region. `fusion`: both
        everywhere. `composition`: absolute error of the composite, only if the batch has foreground and background.
        Of rim each name carries its branch (`glance_tt` …), and the joined matte has `fusion` and `composition`. What
        ft and bt are to tell is made by OpenCV, on the CPU. Raises `UsageError` without a trimap.

        As in the paper, not as in the released code, ft learns the eroded foreground, bt the dilated one.
        """
        unknown = trimaps.unknown(batch, "GFM")
        maps, terms = prediction.maps, {}
        for name in self.represented:
            suffix = "" if self.rim is None else f"_{name}"
            classes, detail, known = _labels(name, batch)
            entropy = F.cross_entropy(maps[f"glance{suffix}"], classes[:, 0], reduction="none")[:, None]
            focus, inside = maps[f"focus{suffix}"], unknown * known
            error = _distance(focus * inside, detail * inside).sum() / (inside.sum() + 1)
            terms[f"glance{suffix}"] = losses.mean(entropy, known)
            terms[f"focus{suffix}"] = error + _laplacian(focus, detail, inside)
            terms |= {f"{term}{suffix}": loss for term, loss in _matte_terms(maps[f"fusion{suffix}"], batch).items()}
        if self.rim is not None:
            return terms | _matte_terms(maps["fusion"], batch)
        return {name: 0.25 * loss for name, loss in terms.items()}


_OFFICIAL = (
    (r"^psp_module\.", "glance.psp_module."),
    (r"^psp(\d)\.", r"glance.psp.\1."),
    (r"^decoder(\d)_g\.", r"glance.decoder.\1."),
    (r"^decoder(\d)_f\.", r"focus.decoder.\1."),
    (r"^bridge_block\.", "focus.bridge."),
)
"""Official keys of the decoders and ours."""


def collaborate(rosta: Rosta, glance: Tensor, focus: Tensor) -> Tensor:
    """Collaborative matting (section 3.2), of maps of one size in [0, 1].

    `glance` is 0 for background, 1 for foreground and, of tt, anything between for transition.
    """
    if rosta == "tt":
        # Interpolated, 0 and 1 are exact only up to rounding.
        sure = (glance < 1e-5) | (glance > 1 - 1e-5)
        return torch.where(sure, glance.round(), focus)
    return (glance + focus).clamp(max=1) if rosta == "ft" else (glance - focus).clamp(min=0)


def _classified(glance: Tensor) -> Tensor:
    """The likeliest class, from background 0 to foreground 1, `[N, 1, H, W]`."""
    return glance.argmax(1, keepdim=True) / (glance.shape[1] - 1)


def hybrid(network: GFM, image: Tensor) -> Prediction:
    """The authors' default way to a large photo: glance at a third of its sides, focus at half, fuse at full size.

    `image` `[N, 3, H, W]` in [0, 1] of any size → alpha `[N, 1, H, W]`. Maps, at full size: `glance` (`[N, 1, H, W]`:
    0 background, 1 foreground; what lies between is tt's transition, or an edge of the enlarged classes, which counts
    as one) and `focus`. Pictures are resized as skimage does it: a Gaussian against aliasing, then linearly.
    The authors' result is as large as the photo that was shrunk to a shorter side of 1080; this is as large as `image`.
    Raises `UsageError` for rim, of which a third alone was published: that is its `spec`'s size.
    """
    if network.rim is not None:
        raise UsageError("GFM's rim glances and focuses at one size; only tt, ft and bt do so at two.")
    full = (image.shape[-2], image.shape[-1])
    (rosta,) = network.represented
    glanced, focused = (network(resize(image, share_of(share)(*full, None))).maps for share in (GLANCE, FOCUS))
    glance = resize(_classified(glanced["glance"]), full)
    focus = resize(focused["focus"], full)
    return Prediction(collaborate(rosta, glance, focus), maps={"glance": glance, "focus": focus})


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """As skimage's: linear, where it shrinks by f after a Gaussian of σ = (f − 1) / 2."""
    for axis in (-2, -1):
        x = _blur(x, (x.shape[axis] / size[axis] - 1) / 2, axis)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _blur(x: Tensor, deviation: float, axis: int) -> Tensor:
    """Gaussian along one axis, cut at 4 σ, reflected at the edges."""
    reach = min(int(4 * deviation + 0.5), x.shape[axis] - 1)
    if deviation <= 0 or reach == 0:
        return x
    steps = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    line = torch.exp(-0.5 * (steps / deviation) ** 2)
    padding = (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach)
    kernel = (line / line.sum()).view((1, 1, 1, -1) if axis == -1 else (1, 1, -1, 1))
    channels = x.shape[1]
    return F.conv2d(F.pad(x, padding, mode="reflect"), kernel.repeat(channels, 1, 1, 1), groups=channels)


def _labels(rosta: Rosta, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Classes for glance, alpha or its difference from them for focus, and where both are known: `[N, 1, H, W]`."""
    assert batch.trimap is not None
    if rosta == "tt":
        return (2 * batch.trimap).round().long(), batch.alpha, batch.known
    known = _reach(batch.known == 1, cv2.MORPH_ERODE).to(batch.known)
    if rosta == "ft":
        glance = _reach(batch.alpha == 1, cv2.MORPH_ERODE).to(batch.alpha)
        return glance.long(), batch.alpha - glance, known
    glance = _reach(batch.alpha != 0, cv2.MORPH_DILATE).to(batch.alpha)
    return glance.long(), glance - batch.alpha, known


def _reach(mask: Tensor, operation: int) -> Tensor:
    """Erosion or dilation of boolean `[N, 1, H, W]` by the published ellipse; outside the picture changes nothing."""
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (REACH, REACH))
    planes = mask[:, 0].cpu().numpy().astype(np.uint8)
    return torch.from_numpy(np.stack([cv2.morphologyEx(plane, operation, ellipse) for plane in planes]))[:, None]


def _matte_terms(fusion: Tensor, batch: Batch) -> dict[str, Tensor]:
    error = losses.mean(_distance(fusion, batch.alpha), batch.known)
    terms = {"fusion": error + _laplacian(fusion, batch.alpha, batch.known)}
    if batch.foreground is not None and batch.background is not None:
        composite = fusion * batch.foreground + (1 - fusion) * batch.background
        terms["composition"] = 3 * losses.mean(_distance(composite, batch.image), batch.known)
    return terms


def _distance(x: Tensor, y: Tensor) -> Tensor:
    return ((x - y).square() + 1e-12).sqrt()


def _laplacian(prediction: Tensor, target: Tensor, weight: Tensor, levels: int = 5) -> Tensor:
    """Sum over the levels of the mean difference of "map less its 5×5 blur", and of what is left.

    The blur's weights are the sum, not the product, of two Gaussians along the axes; maps halve by averaging.
    """
    line = torch.tensor([math.exp(-(step**2)) for step in range(-2, 3)], dtype=target.dtype, device=target.device)
    kernel = (line[:, None] + line[None, :]).expand(len(target), 1, 5, 5)
    kernel = kernel / kernel[:1].sum()
    difference = ((prediction - target) * weight).transpose(0, 1)  # the batch as channels, as losses.blur
    loss = difference.new_zeros(())
    for _ in range(levels):
        blurred = F.conv2d(F.pad(difference, (2, 2, 2, 2), mode="replicate"), kernel, groups=len(target))
        loss = loss + (difference - blurred).abs().mean()
        difference = F.avg_pool2d(blurred, 2)
    return loss + difference.abs().mean()

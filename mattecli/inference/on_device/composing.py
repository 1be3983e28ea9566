"""From planes and the network's answer, both on a device, to the planes that are written: `inference.rendering` there.

The alpha's line is computed in float32: a slope may be steep, and 16 bits would be off by a level. All else is linear
in levels and stays in the planes' `number`; 8 bits are exact in float16.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mattecli.inference import spill
from mattecli.inference.background import DEFAULT_BLUR
from mattecli.inference.on_device.seeing import Answer, Eye, Planes
from mattecli.inference.on_device.tensors import (
    bilinear,
    enlarge,
    fill,
    fit_grey,
    gaussian,
    mean,
    pad,
    resize,
    shrink,
    subsample,
    whole,
)
from mattecli.inference.planes import Floats, Size, steps
from mattecli.inference.rendering import Kind
from mattecli.media.clips.planes.frame import Format


class Composer:
    """Makes frames of `kind`, in the format `made`, of those that `eye` sees; kinds and formats are `Renderer`'s.

    `blur` is the radius of the frame itself out of focus as its background (0: the default); None: another is given.
    """

    def __init__(self, kind: Kind, made: Format, eye: Eye, blur: float | None = None) -> None:
        self._kind, self._made, self._eye, self._form, self._number = kind, made, eye, eye.form, eye.number
        self._top = float((1 << eye.form.depth) - 1)
        self._one = torch.ones((), dtype=eye.number, device=eye.device)
        self._lines = torch.from_numpy(_to_lines(eye.form)).to(eye.device, torch.float32)
        self._blur = None if blur is None else OutOfFocus(eye.form, blur, eye.device)
        self._places: dict[torch.Size, list[Tensor]] = {}
        self._type = torch.uint8 if made.depth == 8 else torch.uint16

    def __call__(self, levels: Tensor, answer: Answer, behind: Tensor | None) -> Tensor:
        """Samples of the planes made, one plane behind the other (of an alpha matte luma alone), as whole levels.

        `levels` `[samples]` are the frame's, `behind` those of the background in the same format.
        """
        planes = self._eye.planes(levels)
        alpha = self._upsample(planes, answer)
        shown = alpha if planes.own is None else alpha * (planes.own / self._top)
        if self._kind == "alpha":
            black, span, _, _ = self._made.colour.levels(self._made.depth)
            parts = [black + span * shown]
        elif self._kind in ("cutout", "foreground"):
            parts = self._fronts(planes, alpha)
            if self._kind == "cutout":
                parts.append(self._top * shown)
        else:
            parts = self._composite(planes, alpha, shown, answer, behind)
        made = torch.empty(sum(part.numel() for part in parts), dtype=self._type, device=levels.device)
        for part, goal in zip(parts, torch.split(made, [part.numel() for part in parts]), strict=True):
            goal.copy_(part.round_().flatten())
        return made

    def _composite(
        self, planes: Planes, alpha: Tensor, shown: Tensor, answer: Answer, behind: Tensor | None
    ) -> list[Tensor]:
        fronts = self._fronts(planes, alpha)
        if behind is not None:
            backs = list(self._eye.planes(behind)[:2])
        else:
            assert self._blur is not None
            backs = [plane.to(self._number) for plane in self._blur(planes, answer.alpha)]
        shares = [shown, subsample(shown, self._form)]
        made = [torch.lerp(*three) for three in zip(backs, fronts, shares, strict=True)]
        if self._kind == "composite":
            return made
        luma, wide = planes.luma, (1, steps(self._form)[1])
        return [
            torch.cat((pad(luma, wide), pad(made[0], wide)), 3),
            torch.cat((planes.chroma, made[1]), 3),
        ]

    def _upsample(self, planes: Planes, answer: Answer) -> Tensor:
        """The alpha in [0, 1] at the frame's size: `rendering.upsample`."""
        lines = self._in_levels(planes, answer)
        size = planes.luma.shape[-2:]
        slope, rest = resize(lines[:, :2], *size).chunk(2, 1)
        if lines.shape[1] > 2:
            zero = self._form.colour.levels(self._form.depth)[2]
            tint = self._at_chroma(lines[:, 2:]) * (planes.chroma - zero)
            rest = rest + whole(tint.sum(1, keepdim=True), self._form)
        return torch.addcmul(rest, slope, planes.luma).to(self._number).clamp_(0, 1)

    def _at_chroma(self, lines: Tensor) -> Tensor:
        """Where chroma's samples lie, of which the last may stand for what lies outside the frame."""
        size = lines.shape[-2:]
        if size not in self._places:
            self._places[size] = [
                torch.from_numpy(bilinear(samples, places)).to(lines.device)
                for samples, places in zip(size, _chroma_places(self._form, *size), strict=True)
            ]
        rows, columns = self._places[size]
        return rows @ lines @ columns.T

    def _in_levels(self, planes: Planes, answer: Answer) -> Tensor:
        """`rendering.in_levels`: `[1, 4, h, w]`, the slope of Y, the rest, the slopes of Cb and Cr (not for HDR)."""
        if self._form.colour.hdr:
            slope, rest = fit_grey(self._eye.luma(planes.luma) / self._top, answer.alpha)
            return torch.cat((slope / self._top, rest), 1)
        rgb = torch.cat((answer.slope, answer.intercept), 1)
        return (self._lines @ rgb.flatten(2)).view_as(rgb)

    def _fronts(self, planes: Planes, alpha: Tensor) -> list[Tensor]:
        """The subject's own colours, F: `spill.remove`, everywhere. F is F̄ where alpha is 0 and I where it is 1."""
        block, (rows, columns) = 2, steps(self._form)
        while max(self._form.height, self._form.width) > spill.LONGEST * block:
            block *= 2
        square = spill.SQUARE
        return [
            self._front(planes.luma, alpha, (block, block), square),
            self._front(
                planes.chroma, subsample(alpha, self._form), (2 * block // rows, 2 * block // columns), square // 2
            ),
        ]

    def _front(self, levels: Tensor, alpha: Tensor, by: Size, square: int) -> Tensor:
        """F̄ + gain · (I − F̄ + (1 − α) · (F̄ − B̄)) of planes `[1, C, H, W]` with one `alpha`."""
        whole = by[0] * square, by[1] * square
        near, far = _means(shrink(pad(levels, whole), by).float(), shrink(pad(alpha, whole), by).float())
        around = torch.cat((near, near - far), 1).to(self._number)
        near, apart = enlarge(around, by, *levels.shape[-2:]).chunk(2, 1)
        rest = 1 - alpha
        gain = alpha / torch.addcmul(self._one, alpha, rest, value=-2)
        found = torch.addcmul(levels - near, rest, apart)
        return torch.addcmul(near, gain, found).clamp_(0, self._top)


def _chroma_places(form: Format, *size: int) -> list[Floats]:
    """Rows and columns of the chroma samples in a picture of `size`."""
    return [
        (step * np.arange(goal) + 0.5 + (at if step == 2 else 0)) * samples / pixels - 0.5
        for step, goal, at, samples, pixels in zip(
            steps(form), form.shapes[1], form.siting[::-1], size, form.shapes[0], strict=True
        )
    ]


def _to_lines(form: Format) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """`[4, 4]`: from slopes of R′, G′, B′ and the intercept to what `Composer._in_levels` gives."""
    matrix, offset = form.colour.to_rgb(form.depth)
    zero = np.array([0, 1, 1]) * form.colour.levels(form.depth)[2]
    luma, *chroma = np.hstack((matrix.T, np.zeros((3, 1))))
    return np.stack((luma, np.append(matrix @ zero + offset, 1), *chroma))


def _means(levels: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """F̄ and B̄ `[1, C, h, w]` of `levels`, in float32."""
    weight = torch.cat((share, 1 - share)).pow(8) * spill.ENOUGH + spill.NONE
    near, far = fill(mean(levels * weight, "reflect"), mean(weight, "reflect")).chunk(2)
    return near, far


class OutOfFocus:
    """The frame itself blurred, as `behind.blur` makes it; `radius` 0 is the default."""

    def __init__(self, form: Format, radius: float, device: torch.device) -> None:
        sigma = radius or DEFAULT_BLUR * max(form.height, form.width)
        high, wide = steps(form)
        factor = max(high, wide)
        while factor * 4 <= sigma:
            factor *= 2
        self._fine = max(high, wide, factor // 4)
        self._sizes, self._factor, self._shapes = [(1, 1), (high, wide)], factor, form.shapes[:2]
        sides = (-(-side // factor) for side in (form.height, form.width))
        self._blurs = [torch.from_numpy(gaussian(side, sigma / factor)).to(device) for side in sides]

    def __call__(self, planes: Planes, alpha: Tensor) -> list[Tensor]:
        """Luma and chroma behind the subject of `alpha` `[1, 1, h, w]`."""
        fine, factor = self._fine, self._factor
        both = zip((planes.luma, planes.chroma), self._sizes, strict=True)
        seen = torch.cat([shrink(plane, (fine // by[0], fine // by[1])).float() for plane, by in both], 1)
        weight = (1 - resize(alpha, *seen.shape[-2:])).pow(16) * spill.ENOUGH + spill.NONE
        parts = shrink(torch.cat((weight * seen, weight), 1), (factor // fine, factor // fine))
        soft = self._blurs[0] @ parts @ self._blurs[1].T
        filled = fill(soft[:, :3], soft[:, 3:])
        return [
            enlarge(plane, (factor // by[0], factor // by[1]), *shape)
            for plane, by, shape in zip((filled[:, :1], filled[:, 1:]), self._sizes, self._shapes, strict=True)
        ]

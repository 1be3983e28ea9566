"""From a frame and the network's answer to the frame that is written, in the clip's own planes.

The alpha at full size is slope · colour + intercept (`inference.guided`). Colour is linear in the levels of Y′CbCr, so
the slope is turned into their terms at the network's size, and what chroma adds is summed at chroma's own size:

    alpha = up(A_Y) · Y + up(up(A_Cb) · (Cb − zero) + up(A_Cr) · (Cr − zero)) + up(b)

(b by itself: at chroma's size its bends would be rounded off.) A slope speaks of what the network has seen. Of PQ and
HLG that is a tone-mapped picture, no linear function of the frame's levels: there the network's alpha is fitted to the
frame's own luma. On 24 photos with soft alpha in PQ, the alpha shrunk by 4, the mean absolute error (× 1000, whole
image / where soft) is 4.8 / 55, of a fit to all three planes 4.8 / 57 at 30 times the time, bilinear 6.8 / 84.

Levels pass bit for bit where alpha is 1 and those of the background where it is 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np

from mattecli.inference import spill
from mattecli.inference.behind import Behind, plain
from mattecli.inference.coarse import Coarse
from mattecli.inference.planes import Floats, bands, pad, shrink, steps, window
from mattecli.media.clips.planes.colour import spread, subsample
from mattecli.media.clips.planes.frame import Colour, Format, Frame, Plane

Kind = Literal["composite", "cutout", "alpha", "foreground", "side-by-side"]
RIDGE = np.float32(1e-3)
"""Squared intensity, of luma from 0 to 1; contrasts below 3 % count as noise."""


class Renderer:
    """Makes frames of one kind of the frames of one clip; for one thread.

    `composite`: over `behind`, which it needs. `cutout`: the subject's own colours, and its alpha as a fourth plane
    (straight, full range); where alpha is 0 the colours go on smoothly, so that nothing fringes when the cutout is
    scaled, and little is spent on what nobody sees. `foreground`: those colours alone. `alpha`: a grey BT.709 clip,
    4:2:0, limited range, 8 or 10 bits. `side-by-side`: the frame left and the composite right (over grey if there is
    no `behind`), of the same height.

    `format` is that of the frames made. The frame's own alpha, if it has one, multiplies the network's.
    """

    def __init__(self, kind: Kind, format: Format, behind: Behind | None = None) -> None:
        if kind == "composite" and behind is None:
            raise ValueError("a composite needs something behind")
        self.kind, self.behind = kind, behind or plain((128, 128, 128))
        self.format = replace(format, alpha=kind == "cutout")
        if kind == "side-by-side":
            self.format = replace(self.format, width=2 * (format.width + -format.width % steps(format)[1]))
        if kind == "alpha":
            self.format = replace(self.format, colour=Colour(), depth=min(format.depth, 10), chroma="420")
            zero = self.format.colour.levels(self.format.depth)[2]
            self._neutral = [np.full(shape, zero, self.format.dtype) for shape in self.format.shapes[1:]]

    def render(self, frame: Frame, coarse: Coarse) -> Frame:
        """The frame made of `frame`, which has the format this was made for; stamps and packets stay."""
        form = frame.format
        alpha = upsample(frame, in_levels(frame, coarse))
        shown = _times_own(alpha, frame) if form.alpha else alpha
        if self.kind == "alpha":
            planes = [_grey(shown, self.format), *self._neutral]
        elif self.kind in ("cutout", "foreground"):
            planes = spill.remove(frame.planes, form, of_planes(alpha, form), extend=True)
            if self.kind == "cutout":
                planes.append(_requantise(shown, form))
        else:
            planes = self._composite(frame, alpha, shown, coarse)
            if self.kind == "side-by-side":
                planes = _beside(frame.planes, planes, form)
        return replace(frame, format=self.format, planes=planes, view=None)

    def _composite(self, frame: Frame, alpha: Plane, shown: Plane, coarse: Coarse) -> list[Plane]:
        shares = alphas = of_planes(alpha, frame.format)
        if shown is not alpha:
            shares = of_planes(shown, frame.format)
        fronts = spill.remove(frame.planes, frame.format, alphas)
        backs = self.behind(frame, coarse.alpha)
        return [blend(*three) for three in zip(fronts, backs, shares, strict=True)]


@dataclass(frozen=True)
class Lines:
    """alpha in [0, 1] = `luma` · Y + `chroma` · (Cb − zero, Cr − zero) + `rest`, for levels; each `[h, w]`."""

    luma: Floats
    chroma: list[Floats]
    rest: Floats


def in_levels(frame: Frame, coarse: Coarse) -> Lines:
    """Slope and intercept of R′G′B′ as those of the frame's levels; for PQ and HLG, of luma alone, fitted."""
    form = frame.format
    if form.colour.hdr:
        return _fit_luma(frame.planes[0], (1 << form.depth) - 1, coarse.alpha)
    matrix, offset = form.colour.to_rgb(form.depth)
    zero = np.array([0, 1, 1]) * form.colour.levels(form.depth)[2]
    luma, *chroma = np.tensordot(matrix.T.astype(np.float32), coarse.slope, 1)
    neutral = np.tensordot((matrix @ zero + offset).astype(np.float32), coarse.slope, 1)
    return Lines(luma, chroma, coarse.intercept + neutral)


def _fit_luma(luma: Plane, top: int, alpha: Floats) -> Lines:
    """The guided filter with a grey guide (He et al. 2010, eqs. 5-8), windows of 3 × 3, the intercept not averaged."""
    height, width = alpha.shape
    halvings = min(luma.shape[0] // height, luma.shape[1] // width).bit_length() - 1
    near = shrink(luma, (1 << max(0, halvings),) * 2)
    guide = cv2.resize(near, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(top)

    def mean(plane: Floats) -> Floats:
        return np.asarray(cv2.blur(plane, (3, 3), borderType=cv2.BORDER_REFLECT))

    centre, target = mean(guide), mean(alpha)
    slope = mean((mean(guide * alpha) - centre * target) / (mean(guide * guide) - centre * centre + RIDGE))
    return Lines(slope / np.float32(top), [], alpha - slope * guide)


def upsample(frame: Frame, lines: Lines) -> Plane:
    """The alpha at the frame's size, whole levels of the planes' type (255 or 65535 is 1)."""
    form = frame.format
    (height, width), zero = frame.planes[0].shape, form.colour.levels(form.depth)[2]
    top = np.float32(np.iinfo(form.dtype).max)
    luma, rest = lines.luma * top, lines.rest * top
    tint: Floats = np.zeros(frame.planes[1].shape, np.float32)
    for plane, line in zip(frame.planes[1:3], lines.chroma, strict=False):
        cv2.accumulateProduct(plane - np.float32(zero), _at_chroma(line * top, form), tint)
    tint = spread(tint, form)
    by = -(-height // tint.shape[0]), -(-width // tint.shape[1])
    alpha = np.empty((height, width), form.dtype)
    for band in bands(height, len(rest)):
        level = band.resized(rest, width)
        cv2.accumulateProduct(frame.planes[0][band.rows].astype(np.float32), band.resized(luma, width), level)
        added: Any = window(tint, by, band.rows, width) if lines.chroma else 0.0
        cv2.add(level, added, dst=alpha[band.rows], dtype=cv2.CV_8U if form.depth == 8 else cv2.CV_16U)
    return alpha


def _at_chroma(line: Floats, form: Format) -> Floats:
    """Bilinearly where the chroma samples lie, of which the last may stand for what lies outside the frame."""
    places = np.zeros((2, 3))
    for axis, (step, at) in enumerate(zip(steps(form)[::-1], form.siting, strict=True)):
        scale = line.shape[1 - axis] / (form.width, form.height)[axis]
        places[axis, axis] = step * scale
        places[axis, 2] = (0.5 + (at if step == 2 else 0)) * scale - 0.5
    way = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(line, places, form.shapes[1][::-1], flags=way, borderMode=cv2.BORDER_REPLICATE))


def of_planes(alpha: Plane, form: Format) -> list[Plane]:
    """The alpha of the samples of Y, Cb and Cr."""
    averaged = subsample(alpha, form)
    return [alpha, averaged, averaged]


def blend(front: Plane, back: Plane, alpha: Plane) -> Plane:
    """α · `front` + (1 − α) · `back`, both terms rounded: within a level, and exact where alpha is 0 or 1."""
    scale = 1 / np.iinfo(alpha.dtype).max
    made = cv2.multiply(front, alpha, scale=scale)
    return np.asarray(cv2.add(made, cv2.multiply(back, cv2.bitwise_not(alpha), scale=scale), dst=made))


def _times_own(alpha: Plane, frame: Frame) -> Plane:
    return np.asarray(cv2.multiply(alpha, frame.planes[3], scale=1 / ((1 << frame.format.depth) - 1)))


def _requantise(alpha: Plane, form: Format) -> Plane:
    """From all of the type's range to the lowest bits."""
    if form.depth == 8:
        return alpha
    return np.rint(alpha * np.float32(((1 << form.depth) - 1) / 65535)).astype(np.uint16)


def _grey(alpha: Plane, form: Format) -> Plane:
    black, span, _, _ = form.colour.levels(form.depth)
    top = np.iinfo(alpha.dtype).max
    return np.asarray(cv2.addWeighted(alpha, span / top, alpha, 0, black))


def _beside(left: list[Plane], right: list[Plane], form: Format) -> list[Plane]:
    luma = [pad(both[0], (1, steps(form)[1])) for both in (left, right)]
    return [np.hstack(pair) for pair in (luma, *zip(left[1:3], right[1:3], strict=True))]

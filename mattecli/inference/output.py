"""What is made of a photo and its alpha: the alpha itself, a cutout, the foreground, a composite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.inference.background import Background, convert
from mattecli.inference.guided import Floats, Picture, strips
from mattecli.media.foreground import estimate_foreground
from mattecli.media.photos import Photo
from mattecli.mixing.composition import composite

if TYPE_CHECKING:
    from mattecli.inference.instances import Choice

Kind = Literal["alpha", "cutout", "foreground", "composite"]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, right and bottom exclusive."""

SOFT = 0.05, 0.95
"""An alpha between these is neither subject nor background."""
PRESENT = 0.1
"""A subject is where the alpha, averaged down to about 512 pixels, is above this."""


@dataclass(frozen=True)
class Rendered:
    """An image ready for `media.photos.encode`, and what travels with it.

    `subject` is the box of what is there, `box` what the image was cropped to; None where there is none. `shares` are
    those of the whole photo.
    """

    pixels: NDArray[Any]
    icc: bytes | None = None
    exif: bytes | None = None
    box: Box | None = None
    note: str | None = None
    subject: Box | None = None
    shares: Shares | None = None


@dataclass(frozen=True)
class Shares:
    """How much of a photo is `subject`, the mean of alpha, and how much `soft`, with an alpha between 0.05 and 0.95."""

    subject: float
    soft: float


@dataclass(frozen=True)
class Output:
    """What to write for each photo.

    `kind` `alpha` (grey), `cutout` (RGBA, straight), `foreground` (RGB) or `composite` (RGB over `background`);
    `bit_depth` 8 or 16; `margin` crops to the subject's box with this share of the box around it, None does not
    crop; `suffix` is the format where no file name tells it; `people` chooses those that are written one by one, None
    keeps all together.
    """

    kind: Kind = "alpha"
    background: Background | None = None
    bit_depth: int = 8
    margin: float | None = None
    suffix: str = ".png"
    people: Choice | None = None

    def render(self, photo: Photo, alpha: Floats) -> Rendered:
        """The image of `kind` of `photo` and `alpha` `HxW`, times the photo's own alpha if it has one."""
        alpha = with_own(photo, alpha)
        rgb, box, found, shares = photo.rgb, None, subject(alpha), shares_of(alpha)
        if found and self.margin is not None:
            box = _enlarge(found, self.margin, *alpha.shape)
            window = slice(box[1], box[3]), slice(box[0], box[2])
            rgb, alpha = rgb[window], alpha[window]
        pixels, note = self._pixels(rgb, alpha, photo.icc)
        if self.kind != "alpha":
            note = note or photo.note
        if not found:
            note = "no subject found"
        note = note and f"{photo.source}: {note}"
        if self.kind == "alpha":
            return Rendered(pixels, None, None, box, note, found, shares)
        return Rendered(pixels, photo.icc, photo.exif, box, note, found, shares)

    def _pixels(self, rgb: Picture, alpha: Floats, icc: bytes | None) -> tuple[NDArray[Any], str | None]:
        dtype = np.dtype(np.uint16 if self.bit_depth == 16 else np.uint8)
        if self.kind == "alpha":
            return quantise(alpha, dtype), None
        rgb = convert(rgb, dtype)
        if self.kind == "foreground":
            return foreground(rgb, alpha, (0, 0, alpha.shape[1], alpha.shape[0])), None
        colours = foreground(rgb, alpha)
        if self.kind == "cutout":
            return np.dstack((colours, quantise(alpha, dtype))), None
        if self.background is None:
            raise ValueError("a composite needs a background")
        behind, note = self.background(rgb, alpha, icc)
        return blend(alpha, colours, behind), note


def blend(alpha: Floats, front: Picture, back: Picture) -> Picture:
    """α·F + (1 − α)·B of two integer pictures, strip by strip."""
    out = np.empty_like(front)
    for rows in strips(*alpha.shape):
        mixed = composite(alpha[rows, :, None], front[rows].astype(np.float32), back[rows].astype(np.float32))
        out[rows] = np.rint(mixed)
    return out


def with_own(photo: Photo, alpha: Floats) -> Floats:
    """`alpha` `HxW` times the photo's own, if it has one."""
    if photo.alpha is None:
        return alpha
    return alpha * (photo.alpha / np.float32(np.iinfo(photo.alpha.dtype).max))


def shares_of(alpha: Floats) -> Shares:
    """Of `alpha` `HxW` in [0, 1]."""
    soft = sum(np.count_nonzero((alpha[rows] > SOFT[0]) & (alpha[rows] < SOFT[1])) for rows in strips(*alpha.shape))
    return Shares(round(float(alpha.mean(dtype=np.float64)), 5), round(soft / alpha.size, 5))


def quantise(alpha: Floats, dtype: np.dtype[Any]) -> NDArray[Any]:
    """`alpha` in [0, 1] as whole levels of an unsigned type, rounded."""
    out = np.empty(alpha.shape, dtype)
    for rows in strips(*alpha.shape):
        out[rows] = np.rint(alpha[rows] * np.iinfo(dtype).max)
    return out


def foreground(rgb: Picture, alpha: Floats, box: Box | None = None) -> Picture:
    """The subject's own colours `HxWx3` (multi-level estimation, Germer et al. 2020), of the photo's type.

    Estimated inside `box`, by default that of an alpha above half a level and a little more, and zero elsewhere.
    """
    left, top, right, bottom = box or _enlarge(_bounds(alpha > 0.002), 0.02, *alpha.shape)
    out, window = np.zeros_like(rgb), (slice(top, bottom), slice(left, right))
    if right > left:
        out[window] = estimate_foreground(rgb[window], alpha[window])
    return out


def subject(alpha: Floats) -> Box | None:
    """The box of what is there, None if nothing is; specks of a pixel or two do not count."""
    height, width = alpha.shape
    factor = max(1, max(height, width) // 512)
    small = max(1, width // factor), max(1, height // factor)
    left, top, right, bottom = _bounds(cv2.resize(alpha, small, interpolation=cv2.INTER_AREA) > PRESENT)
    if right == left:
        return None
    x, y = width / small[0], height / small[1]
    return int(left * x), int(top * y), min(width, int(np.ceil(right * x))), min(height, int(np.ceil(bottom * y)))


def _bounds(mask: NDArray[np.bool_]) -> Box:
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return left, top, left + width, top + height


def _enlarge(box: Box, margin: float, height: int, width: int) -> Box:
    x, y = round(margin * (box[2] - box[0])), round(margin * (box[3] - box[1]))
    return max(0, box[0] - x), max(0, box[1] - y), min(width, box[2] + x), min(height, box[3] + y)

"""What goes behind the subject: a colour, a picture, or the photo itself out of focus.

Colours are sRGB, and so are pictures without a profile. Both are converted to the photo's profile.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.errors import InputError, UsageError
from mattecli.inference.guided import Floats, Picture, resize, strips
from mattecli.media import profiles
from mattecli.media.photos import read_photo

Background = Callable[[Picture, Floats, bytes | None], tuple[Picture, str | None]]
"""`(rgb HxWx3, alpha HxW, icc) → HxWx3`, of the photo's type and with its profile, and why not that if it isn't."""

COLOURS = {
    "black": "000000", "white": "ffffff", "grey": "808080", "gray": "808080", "silver": "c0c0c0", "red": "ff0000",
    "green": "008000", "lime": "00ff00", "blue": "0000ff", "navy": "000080", "teal": "008080", "cyan": "00ffff",
    "magenta": "ff00ff", "purple": "800080", "yellow": "ffff00", "orange": "ffa500", "maroon": "800000",
}  # fmt: skip
DEFAULT_BLUR = 0.02
"""Of the photo's longer side."""


def parse(text: str) -> Background:
    """`#rgb`, `#rrggbb`, `r,g,b` or a name of `COLOURS`; `blur` or `blur:RADIUS`; else the path of a picture.

    RADIUS is the standard deviation in pixels of the photo. Raises UsageError for anything else.
    """
    if match := re.fullmatch(r"blur(?::(\d+(?:\.\d+)?))?", text):
        if match[1] and float(match[1]) == 0:
            raise UsageError(f"--bg {text} would leave the photo as it is; give a radius above 0.")
        radius = float(match[1]) if match[1] else None
        return lambda rgb, alpha, icc: (blur(rgb, alpha, radius or DEFAULT_BLUR * max(alpha.shape)), None)
    if (levels := named_colour(text)) is not None:
        return still(levels.reshape(1, 1, 3), None)
    if not Path(text).is_file():
        raise UsageError(
            f"--bg {text} is no file, no colour ('white', '#1e90ff', '30,144,255') and not 'blur[:RADIUS]'."
        )
    try:
        picture = read_photo(Path(text))
    except InputError as error:
        raise UsageError(f"--bg {error}") from error
    return still(picture.rgb, picture.icc)


def still(picture: Picture, own: bytes | None) -> Background:
    """A picture `hxwx3` whose profile is `own`: converted once for all photos of a profile, and made to cover each.

    Where the photo's profile is another, the picture has 8 bits a channel; it stays as it is where one of them is
    damaged.
    """

    @lru_cache(maxsize=2)
    def converted(icc: bytes | None) -> tuple[Picture, str | None]:
        try:
            return profiles.convert(picture, own, icc), None
        except InputError as error:
            return picture, f"the background isn't converted to the photo's colours: {error}"

    def behind(rgb: Picture, alpha: Floats, icc: bytes | None) -> tuple[Picture, str | None]:
        shown, note = converted(icc)
        return convert(cover(shown, *alpha.shape), rgb.dtype), note

    return behind


def named_colour(text: str) -> NDArray[np.uint8] | None:
    text = COLOURS.get(text.lower(), text)
    if re.fullmatch(r"#?[0-9a-fA-F]{6}", text):
        levels = list(bytes.fromhex(text[-6:]))
    elif re.fullmatch(r"#[0-9a-fA-F]{3}", text):
        levels = [17 * int(digit, 16) for digit in text[1:]]
    elif re.fullmatch(r"\d{1,3},\d{1,3},\d{1,3}", text) and max(map(int, text.split(","))) < 256:
        levels = [int(level) for level in text.split(",")]
    else:
        return None
    return np.array(levels, np.uint8)


def convert(picture: Picture, dtype: np.dtype[Any]) -> Picture:
    """Between 8 and 16 bits: 255 and 65535 are both white."""
    if picture.dtype == dtype:
        return picture
    if dtype == np.uint16:
        return np.multiply(picture, 257, dtype=np.uint16)
    return np.rint(picture / np.float32(257)).astype(np.uint8)


def cover(picture: Picture, height: int, width: int) -> Picture:
    """Scaled to fill `height` × `width` and cropped about its centre."""
    high, wide = picture.shape[:2]
    scale = max(height / high, width / wide)
    kept_high, kept_wide = (max(1, min(high, round(height / scale))), max(1, min(wide, round(width / scale))))
    top, left = (high - kept_high) // 2, (wide - kept_wide) // 2
    part = picture[top : top + kept_high, left : left + kept_wide]
    return resize(part, height, width)


def blur(rgb: Picture, alpha: Floats, radius: float) -> Picture:
    """The photo's background out of focus by a Gaussian of `radius` pixels, without a halo of the subject.

    A normalised blur: G(w · I) / G(w) with w = (1 − α)¹⁶, so that a pixel counts only as far as it is surely
    background. What lies deep behind the subject, where no background is near, comes from ever wider blurs.
    A blurred picture has no detail, so this is done at a size at which the Gaussian is some pixels wide.
    """
    height, width = alpha.shape
    factor = max(1.0, radius / 4)
    small = max(1, round(height / factor)), max(1, round(width / factor))
    weighted = _weighted(rgb, alpha, *small)
    weighted = cv2.GaussianBlur(weighted, (0, 0), radius / factor, borderType=cv2.BORDER_REFLECT)
    levels: Picture = np.rint(_pull_push(weighted).clip(0, np.iinfo(rgb.dtype).max)).astype(rgb.dtype)
    return cv2.resize(levels, (width, height), interpolation=cv2.INTER_LINEAR)


def _weighted(rgb: Picture, alpha: Floats, height: int, width: int) -> Floats:
    """`[height, width, 4]`: w · I and w, averaged by area; strip by strip, so that memory stays flat."""
    across = np.empty((rgb.shape[0], width, 4), np.float32)
    for rows in strips(*alpha.shape):
        weight = (1 - alpha[rows, :, None]) ** 16
        part = np.concatenate((rgb[rows] * weight, weight), 2)
        across[rows] = cv2.resize(part, (width, part.shape[0]), interpolation=cv2.INTER_AREA)
    return cv2.resize(across, (width, height), interpolation=cv2.INTER_AREA)


def _pull_push(weighted: Floats) -> Floats:
    """Σ w·I / Σ w, where weights are near zero filled from the next coarser level (Gortler et al. 1996)."""
    colour, weight = weighted[..., :3], weighted[..., 3:]
    known: Floats = colour / np.maximum(weight, 1e-6)
    height, width = weight.shape[:2]
    if max(height, width) == 1:
        return known
    half = (max(1, width // 2), max(1, height // 2))
    coarser = _pull_push(cv2.resize(weighted, half, interpolation=cv2.INTER_AREA))
    filled = cv2.resize(coarser, (width, height), interpolation=cv2.INTER_LINEAR).reshape(known.shape)
    blended: Floats = filled + np.minimum(1, weight * 20) * (known - filled)
    return blended

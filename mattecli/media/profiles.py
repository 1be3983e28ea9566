"""Colours from one ICC profile into another, by LittleCMS as it comes with Pillow."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from mattecli.errors import InputError, reason
from mattecli.media.photos import Pixels

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsProfile

_STRIP = 2**22
"""Pixels converted at a time."""


def convert(rgb: Pixels, source: bytes | None, target: bytes | None) -> Pixels:
    """The colours that `rgb` `[H, W, 3]` has in the profile `source`, as numbers of the profile `target`.

    None is sRGB. Relative colorimetric with black point compensation: white stays white, and what `target` can't show
    is clipped. Between equal profiles `rgb` comes back as it is, else as uint8, since Pillow gives LittleCMS 8 bits a
    channel. Raises InputError where a profile is damaged, isn't one for RGB, or can't be written to (a scanner's).
    """
    if source == target:
        return rgb
    from PIL import Image, ImageCms

    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    try:
        transform = ImageCms.buildTransform(_open(source), _open(target), "RGB", "RGB", intent, flags)
    except (ImageCms.PyCMSError, OSError) as error:
        raise InputError(f"LittleCMS finds no way between the colour profiles ({reason(error)}).") from error
    out = np.empty(rgb.shape, np.uint8)
    rows = max(1, _STRIP // rgb.shape[1])
    for top in range(0, rgb.shape[0], rows):
        strip = Image.fromarray(_as_bytes(rgb[top : top + rows]))
        ImageCms.applyTransform(strip, transform, inPlace=True)
        out[top : top + rows] = np.asarray(strip)
    return out


def _open(icc: bytes | None) -> ImageCmsProfile:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB") if icc is None else io.BytesIO(icc))


def _as_bytes(strip: Pixels) -> Pixels:
    return strip if strip.dtype == np.uint8 else np.rint(strip / np.float32(257)).astype(np.uint8)

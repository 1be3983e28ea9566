"""Colours from one ICC profile into another, by LittleCMS as it comes with Pillow, and from HDR into SDR."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from mattecli.errors import InputError, reason

if TYPE_CHECKING:
    from PIL._imagingcms import CmsTransform
    from PIL.ImageCms import ImageCmsProfile

    from mattecli.media.clips.planes.frame import Colour
    from mattecli.media.clips.planes.hdr import ToneMapper
    from mattecli.media.photos import Pixels

_STRIP = 2**22
"""Pixels converted at a time."""
_SQUARE = 512
"""Rows and columns of pixels tone-mapped at a time, since a mapper is made for a size."""


def convert(rgb: Pixels, source: bytes | None, target: bytes | None) -> Pixels:
    """The colours that `rgb` `[H, W, 3]` has in the profile `source`, as numbers of the profile `target`.

    None is sRGB. Relative colorimetric with black point compensation: white stays white, and what `target` can't show
    is clipped. Between equal profiles `rgb` comes back as it is, else as uint8, since Pillow gives LittleCMS 8 bits a
    channel. Raises InputError where a profile is damaged, isn't one for RGB, or can't be written to (a scanner's), and
    where Pillow lacks LittleCMS.
    """
    if source == target:
        return rgb
    transform = _transform(source, target, "RGB")
    from PIL import Image

    out = np.empty(rgb.shape, np.uint8)
    rows = max(1, _STRIP // rgb.shape[1])
    for top in range(0, rgb.shape[0], rows):
        strip = Image.fromarray(_as_bytes(rgb[top : top + rows]))
        transform.apply(strip.getim(), strip.getim())
        out[top : top + rows] = np.asarray(strip)
    return out


def of_lab_or_cmyk(data: bytes, icc: bytes | None) -> Pixels | None:
    """sRGB `[H, W, 3]` of a JPEG or TIFF file in Lab, or in CMYK with the profile `icc`; None if it is in neither.

    As OpenCV gives them: a JPEG as stored, a TIFF upright. Raises InputError as `convert` does, and where Pillow can't
    read the file.
    """
    from PIL import Image
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.TiffImagePlugin import TiffImageFile

    try:
        picture: Image.Image = (JpegImageFile if data.startswith(b"\xff\xd8") else TiffImageFile)(io.BytesIO(data))
        if picture.mode not in ("LAB", "CMYK"):
            return None
        picture.load()
        out = Image.new("RGB", picture.size)
        _transform(icc, None, picture.mode).apply(picture.getim(), out.getim())
        return np.asarray(out)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"Pillow can't read the picture ({reason(error)}).") from error


def to_sdr(rgb: Pixels, colour: Colour) -> Pixels:
    """`rgb` `[H, W, 3]` in PQ or HLG, tone-mapped as clips are."""
    from av.video.frame import VideoFrame

    mapper = _tone_mapper(colour)
    pixels, out = rgb.reshape(-1, 3), np.empty((rgb.size // 3, 3), rgb.dtype)
    square = np.zeros((_SQUARE**2, 3), np.uint16)
    for start in range(0, len(pixels), len(square)):
        part = pixels[start : start + len(square)]
        np.multiply(part, 65535 // np.iinfo(rgb.dtype).max, out=square[: len(part)], dtype=np.uint16)
        picture = VideoFrame.from_ndarray(square.reshape(_SQUARE, _SQUARE, 3), "gbrp16le")
        mapped = mapper(picture).to_ndarray().reshape(-1, 3)[: len(part)]
        out[start : start + len(part)] = mapped if rgb.dtype == np.uint16 else _as_bytes(mapped)
    return out.reshape(rgb.shape)


@lru_cache
def _tone_mapper(colour: Colour) -> ToneMapper:
    from mattecli.media.clips.planes.hdr import ToneMapper

    return ToneMapper(colour)


def _transform(source: bytes | None, target: bytes | None, mode: str) -> CmsTransform:
    """From `mode` to RGB. Pillow's own wrapper also writes the target out, which LittleCMS can't with all of them."""
    try:
        from PIL import ImageCms

        intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        return ImageCms.buildTransform(_open(source, mode), _open(target), mode, "RGB", intent, flags).transform
    except ImportError as error:
        raise InputError("This Pillow lacks LittleCMS; `pip install --force-reinstall pillow` brings it.") from error
    except (ImageCms.PyCMSError, OSError) as error:
        raise InputError(
            f"LittleCMS finds no way between the colour profiles ({reason(error)}); use pictures in sRGB."
        ) from error


def _open(icc: bytes | None, mode: str = "RGB") -> ImageCmsProfile:
    from PIL import ImageCms

    if icc is None or mode == "LAB":
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB" if mode == "LAB" else "sRGB"))
    return ImageCms.ImageCmsProfile(io.BytesIO(icc))


def _as_bytes(strip: Pixels) -> Pixels:
    return strip if strip.dtype == np.uint8 else np.rint(strip / np.float32(257)).astype(np.uint8)

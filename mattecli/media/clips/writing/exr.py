"""Frames as OpenEXR pictures, which hold light, not video levels."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from mattecli.media.clips.planes import hdr
from mattecli.media.clips.planes.colour import to_rgb
from mattecli.media.clips.planes.frame import Colour, Format, Plane

_SRGB, _LINEAR = 13, 8


def exr(planes: list[Plane], form: Format) -> bytes:
    """The file of a frame: half floats, linear light, BT.709 primaries, 1 being white; colours multiplied by alpha.

    Light is what a screen would show: by gamma 2.4 (BT.1886; sRGB or linear where `form` says so), or by PQ and HLG,
    whose white is 203 nits (BT.2408).
    """
    rgb = to_rgb(planes, form, 16).astype(np.float32) / np.float32(65535)
    red, green, blue = np.moveaxis(linear(rgb, form.colour), -1, 0)
    values = [green, blue, red]
    if form.alpha:
        alpha = planes[3].astype(np.float32) / ((1 << form.depth) - 1)
        values = [*(value * alpha for value in values), alpha]
    context = av.Codec("exr", "w").create("video")
    context.width, context.height, context.time_base = form.width, form.height, Fraction(1)
    context.pix_fmt = "gbrapf32le" if form.alpha else "gbrpf32le"
    context.options = {"compression": "zip16", "format": "half"}
    picture = VideoFrame(form.width, form.height, context.pix_fmt)
    for plane, value in zip(picture.planes, values, strict=True):
        rows: NDArray[Any] = np.frombuffer(plane, np.float32)  # type: ignore[call-overload]
        rows.reshape(plane.height, -1)[:, : plane.width] = value
    picture.pts, picture.time_base = 0, Fraction(1)
    return b"".join(bytes(packet) for packet in [*context.encode(picture), *context.encode(None)])


def linear(rgb: NDArray[np.float32], colour: Colour) -> NDArray[np.float32]:
    """Linear light `[..., 3]` with BT.709 primaries, white at 1, of R′G′B′ in [0, 1]."""
    if colour.hdr:
        light = hdr.light(rgb, colour.transfer) / hdr.WHITE
    elif colour.transfer == _LINEAR:
        light = rgb
    elif colour.transfer == _SRGB:
        light = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    else:
        light = rgb**2.4
    return np.asarray(light @ hdr._to_bt709(colour.primaries).T, np.float32)

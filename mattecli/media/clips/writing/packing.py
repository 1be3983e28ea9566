"""Planes into the frames that an encoder takes: one copy, and one conversion where it stores another format."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from mattecli.media.clips.planes.frame import Colour, Format, Plane
from mattecli.media.clips.planes.swscale import FULL, LIMITED, reformat
from mattecli.media.clips.writing.codecs import Encoding, pixel_name

_OPAQUE_10 = np.rint(np.arange(256) * (1023 / 255)).astype(np.uint16)


class Packer:
    """Makes encoder frames of planes in `source` format, as `made` wants them: padded, scaled or converted."""

    def __init__(self, source: Format, made: Encoding) -> None:
        self._made, self._reformatter = made, VideoReformatter()
        scaled = source.aspect != made.format.aspect
        size = source if scaled else made.format
        # FFmpeg has no 4:2:0 with alpha in 12 bits
        self._lifted = (source.chroma, source.depth, source.alpha) == ("420", 12, True)
        depth = 16 if self._lifted else source.depth
        self._canvas = replace(source, height=size.height, width=size.width, depth=depth)
        stored = pixel_name(self._canvas), self._canvas.height, self._canvas.width
        self._fits = stored == (made.pixels, made.format.height, made.format.width)
        self._fits = self._fits and source.colour == made.format.colour
        # swscale takes opaque of 8 bits to 1020 of 1023
        self._widens_alpha = source.alpha and not scaled and (source.depth, made.format.depth) == (8, 10)

    def __call__(self, planes: list[Plane]) -> VideoFrame:
        """A frame without stamps that shares no memory with `planes`."""
        picture = VideoFrame(self._canvas.width, self._canvas.height, pixel_name(self._canvas))
        if self._lifted:
            planes = [*(plane << 4 for plane in planes[:3]), planes[3] << 4 | planes[3] >> 8]
        for target, plane in zip(picture.planes, planes, strict=True):
            _fill(_levels(target, self._canvas.dtype), plane)
        if not self._fits:
            stored, colour = self._made.format, self._canvas.colour
            size = stored.width, stored.height
            picture = reformat(self._reformatter, picture, self._made.pixels, colour, stored.colour, size=size)
            if self._widens_alpha:
                _fill(_levels(picture.planes[3], np.dtype(np.uint16)), cv2.LUT(planes[3], _OPAQUE_10))
        tag(picture, self._made.format.colour)
        return picture


def tag(target: Any, colour: Colour) -> None:
    """Says on a frame or a codec context what its numbers mean; encoders read the one or the other."""
    target.colorspace, target.color_primaries = colour.matrix, colour.primaries
    target.color_trc, target.color_range = colour.transfer, FULL if colour.full else LIMITED


def _levels(plane: VideoPlane, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The plane's own memory, `[H, W]`."""
    rows: NDArray[Any] = np.frombuffer(plane, dtype)  # type: ignore[call-overload]
    return rows.reshape(plane.height, -1)[:, : plane.width]


def _fill(target: NDArray[Any], plane: Plane) -> None:
    """Copies; where `target` is larger, the last row and column are repeated."""
    height, width = plane.shape
    target[:height, :width] = plane
    target[:height, width:] = plane[:, -1:]
    target[height:] = target[height - 1]

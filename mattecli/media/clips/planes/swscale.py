"""FFmpeg's pixel conversions, always told matrix and range of both sides; and pictures as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from mattecli.media.clips.planes.frame import Colour, Plane

MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
"""swscale's code of each matrix of `frame.LUMA`."""
LIMITED, FULL = 1, 2
EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


def reformat(
    reformatter: VideoReformatter,
    picture: VideoFrame,
    name: str,
    source: Colour,
    goal: Colour,
    *,
    size: tuple[int, int] | None = None,
    way: Interpolation = Interpolation.BICUBIC,
) -> VideoFrame:
    """`picture` in pixel format `name` and `size` (width, height), from the matrix and range of `source` to `goal`'s.

    RGB has full range whatever its colour says, and so has grey. Within 2 levels of the exact value.
    """
    width, height = size or (None, None)
    return reformatter.reformat(
        picture,
        width,
        height,
        name,
        src_colorspace=MATRICES[source.matrix],
        src_color_range=FULL if source.full else LIMITED,
        dst_colorspace=MATRICES[goal.matrix],
        dst_color_range=FULL if goal.full else LIMITED,
        interpolation=way | EXACT,
        threads=1,
    )


def levels(picture: VideoFrame) -> list[Plane]:
    """The planes of a planar picture as read-only views, `[H, W]` uint8 or uint16."""
    planes = []
    for plane, rows in zip(picture.planes, _rows(picture), strict=True):
        rows.flags.writeable = False
        planes.append((rows if plane.line_size > 0 else rows[::-1])[:, : plane.width])
    return planes


def picture_of(planes: Iterable[Plane], name: str) -> VideoFrame:
    """A copy of `planes` as a planar picture in pixel format `name`."""
    planes = list(planes)
    height, width = planes[0].shape
    picture = VideoFrame(width, height, name)
    for plane, rows in zip(planes, _rows(picture), strict=True):
        rows[:, : plane.shape[1]] = plane
    return picture


def _rows(picture: VideoFrame) -> list[Plane]:
    """Each plane with its padding."""
    dtype = np.uint8 if max(part.bits for part in picture.format.components) <= 8 else np.uint16
    planes: tuple[Any, ...] = picture.planes
    return [np.frombuffer(plane, dtype).reshape(plane.height, -1) for plane in planes]

"""Between R′G′B′ pictures and planes, exactly: for backgrounds, cutouts and tests. Frames on their way need neither."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.media.clips.frame import Format, Plane

Picture = NDArray[Any]
"""`HxWx3` RGB, uint8 or uint16 (65535 is white)."""


def to_planes(rgb: Picture, format: Format) -> list[Plane]:
    """Y, Cb and Cr of `rgb` in `format`, whose size it must have; chroma averaged over its samples' area.

    No transfer or primaries are converted: the numbers of `rgb` are taken as R′G′B′ of the format's colour.
    """
    matrix, offset = format.colour.from_rgb(format.depth)
    matrix = matrix / np.iinfo(rgb.dtype).max
    image = rgb.astype(np.float32)
    top = (1 << format.depth) - 1
    planes = []
    for row, add, (height, width) in zip(matrix, offset, format.shapes, strict=False):
        plane = cv2.transform(image, row.astype(np.float32)[None])
        if plane.shape[:2] != (height, width):
            plane = _halve(plane, height, width)
        planes.append(np.rint(plane + np.float32(add)).clip(0, top).astype(format.dtype))
    return planes


def to_rgb(planes: list[Plane], format: Format, bits: int = 8) -> Picture:
    """`HxWx3` RGB of Y, Cb and Cr, in 8 or 16 bits; chroma upsampled bilinearly."""
    matrix, offset = format.colour.to_rgb(format.depth)
    top, size = (255 if bits == 8 else 65535), (format.width, format.height)
    full = [
        p if p.shape == planes[0].shape else cv2.resize(p, size, interpolation=cv2.INTER_LINEAR) for p in planes[:3]
    ]
    levels = cv2.merge([plane.astype(np.float32) for plane in full])
    image = cv2.transform(levels, (np.hstack((matrix, offset[:, None])) * top).astype(np.float32))
    return np.rint(image).clip(0, top).astype(np.uint8 if bits == 8 else np.uint16)


def _halve(plane: Plane, height: int, width: int) -> Plane:
    """Averaged over pairs; an odd last row or column counts twice."""
    padded = np.pad(
        plane, ((0, plane.shape[0] % 2 if height != plane.shape[0] else 0), (0, plane.shape[1] % 2)), "edge"
    )
    return cv2.resize(padded, (width, height), interpolation=cv2.INTER_AREA)

"""Between R′G′B′ pictures and planes, exactly: for backgrounds, cutouts and tests. Frames on their way need neither."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.media.clips.frame import Format, Plane, Siting

Picture = NDArray[Any]
"""`HxWx3` RGB, uint8 or uint16 (65535 is white)."""


def to_planes(rgb: Picture, format: Format) -> list[Plane]:
    """Y, Cb and Cr of `rgb` in `format`, whose size it must have; chroma averaged over the area about its samples.

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
            plane = _halve(plane, height, width, format.siting)
        planes.append(np.rint(plane + np.float32(add)).clip(0, top).astype(format.dtype))
    return planes


def to_rgb(planes: list[Plane], format: Format, bits: int = 8) -> Picture:
    """`HxWx3` RGB of Y, Cb and Cr, in 8 or 16 bits; chroma upsampled bilinearly from where its samples lie."""
    matrix, offset = format.colour.to_rgb(format.depth)
    top = 255 if bits == 8 else 65535
    full = (plane.astype(np.float32) for plane in planes[:3])
    shape = format.height, format.width
    levels = cv2.merge([plane if plane.shape == shape else _double(plane, *shape, format.siting) for plane in full])
    image = cv2.transform(levels, (np.hstack((matrix, offset[:, None])) * top).astype(np.float32))
    return np.rint(image).clip(0, top).astype(np.uint8 if bits == 8 else np.uint16)


def _halve(plane: Plane, height: int, width: int, siting: Siting) -> Plane:
    """Averaged over the two pixels, or rows, about each sample; the picture's edge is repeated."""
    across, down = (
        (place - 0.5) if now != goal else 0.0
        for place, now, goal in zip(siting, plane.shape[::-1], (width, height), strict=True)
    )
    high, wide = plane.shape[0] + plane.shape[0] % 2 * (height != plane.shape[0]), plane.shape[1] + plane.shape[1] % 2
    moved = _sample(plane, (1.0, across), (1.0, down), high, wide)
    return cv2.resize(moved, (width, height), interpolation=cv2.INTER_AREA)


def _double(plane: Plane, height: int, width: int, siting: Siting) -> Plane:
    (across, down), rows = siting, plane.shape[0] != height
    return _sample(plane, (0.5, -across / 2), (0.5, -down / 2) if rows else (1.0, 0.0), height, width)


def _sample(plane: Plane, x: tuple[float, float], y: tuple[float, float], height: int, width: int) -> Plane:
    """Bilinearly at step times its own column and row, and some more."""
    places = np.array([[x[0], 0, x[1]], [0, y[0], y[1]]])
    way = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(plane, places, (width, height), flags=way, borderMode=cv2.BORDER_REPLICATE)

"""How a picture is stored and how it is shown: the display matrix of containers, reduced to the eight orientations."""

from __future__ import annotations

from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray


class Turn(NamedTuple):
    """What makes a stored picture upright: transposed first, then mirrored left-right and flipped upside down."""

    transpose: bool = False
    mirror: bool = False
    flip: bool = False

    def __call__(self, plane: NDArray[Any]) -> NDArray[Any]:
        """`[H, W]` or `[H, W, C]`, upright; the array itself where nothing is to be done."""
        if self.transpose:
            plane = cv2.transpose(plane)
        if self.mirror or self.flip:
            plane = cv2.flip(plane, -1 if self.mirror and self.flip else 1 if self.mirror else 0)
        return plane


QUARTERS = (Turn(), Turn(True, flip=True), Turn(mirror=True, flip=True), Turn(True, mirror=True))
"""By quarters of a turn counter-clockwise."""


def turn_of(picture: av.VideoFrame) -> Turn:
    """From the picture's display matrix, to the nearest of the eight; none without a matrix.

    To the nearest of the four that mirror nothing where there is data beside the picture of a kind that PyAV doesn't
    know, so that it gives none of it: the EXIF of photos, the views of spatial video.
    """
    try:
        matrix: Any = picture.side_data.get("DISPLAYMATRIX")
    except ValueError:
        return QUARTERS[round(picture.rotation / 90) % 4]
    if matrix is None:
        return Turn()
    # Row vectors: x' = a x + c y, y' = b x + d y.
    (a, b), (c, d) = np.frombuffer(bytes(matrix), np.int32).astype(np.int64).reshape(3, 3)[:2, :2].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Turn(True, mirror=c < 0, flip=b < 0)
    return Turn(False, mirror=a < 0, flip=d < 0)

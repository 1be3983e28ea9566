"""Between R′G′B′ pictures and planes, exactly (frames on their way need neither), and between the sizes of planes."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.media.clips.planes.frame import Format, Plane

Picture = NDArray[Any]
"""`HxWx3` RGB, uint8 or uint16 (65535 is white)."""
FIRST = {None: (1,), 0.0: (0, 1), 0.5: (1,), 1.0: (1, 2)}
"""By place, where pairs of pixels begin whose means make up a sample, counted from the pixel before the first."""


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
            plane = subsample(plane, format)
        planes.append(np.rint(plane + np.float32(add)).clip(0, top).astype(format.dtype))
    return planes


def to_rgb(planes: list[Plane], format: Format, bits: int = 8) -> Picture:
    """`HxWx3` RGB of Y, Cb and Cr, in 8 or 16 bits; chroma upsampled bilinearly from where its samples lie."""
    matrix, offset = format.colour.to_rgb(format.depth)
    top = 255 if bits == 8 else 65535
    full = (plane.astype(np.float32) for plane in planes[:3])
    levels = cv2.merge([_enlarge(plane, format) for plane in full])
    image = cv2.transform(levels, (np.hstack((matrix, offset[:, None])) * top).astype(np.float32))
    return np.rint(image).clip(0, top).astype(np.uint8 if bits == 8 else np.uint16)


def subsample(plane: Plane, format: Format) -> Plane:
    """`plane`, of luma's size, where `format` has its chroma samples: averaged about each, in its own type.

    The picture's edge is repeated. Levels that are the same all about a sample stay as they are.
    """
    size = format.shapes[1]
    if plane.shape == size:
        return plane
    down, across = _places(format)
    rows, columns = (goal if at is None else 2 * goal for goal, at in zip(size, (down, across), strict=True))
    below, right = rows - plane.shape[0], columns - plane.shape[1]
    around = cv2.copyMakeBorder(plane, 1, below + 1, 1, right + 1, cv2.BORDER_REPLICATE)

    def averaged(top: int, left: int) -> Plane:
        part = around[top : top + rows, left : left + columns]
        return np.asarray(cv2.resize(part, size[::-1], interpolation=cv2.INTER_LINEAR)).reshape(size)

    return _mean([_mean([averaged(top, left) for left in FIRST[across]]) for top in FIRST[down]])


def spread(plane: Plane, format: Format) -> Plane:
    """A chroma `plane` with a sample a pixel on those axes of `format` on which its own lie on pixels: the mean of two
    for each other pixel. On axes on which they lie between pixels it stays as it is.
    """
    for axis, (at, pixels) in enumerate(zip(_places(format), (format.height, format.width), strict=True)):
        if at in (0.0, 1.0):
            plane = _interleave(plane, int(at), axis)
            plane = plane[:pixels] if axis == 0 else plane[:, :pixels]
    return plane


def _places(format: Format) -> tuple[float | None, float | None]:
    """Chroma's siting down and across; None where it has as many samples as luma."""
    (height, width), (high, wide), *_ = format.shapes
    across, down = format.siting
    return None if high == height else down, None if wide == width else across


def _mean(planes: list[Plane]) -> Plane:
    first, *others = planes
    return np.asarray(cv2.addWeighted(first, 0.5, others[0], 0.5, 0, dst=first)) if others else first


def _interleave(plane: Plane, at: int, axis: int) -> Plane:
    """Means of neighbours between the samples, which come first (`at` 0) or second (1) of each two."""
    edge = [(0, 0), (0, 0)]
    edge[axis] = (at, 1 - at)
    around = np.pad(plane, edge, "edge")
    before, after = (around[:-1], around[1:]) if axis == 0 else (around[:, :-1], around[:, 1:])
    pair = [plane, cv2.addWeighted(before, 0.5, after, 0.5, 0).reshape(plane.shape)]
    shape = (2 * plane.shape[0], plane.shape[1]) if axis == 0 else (plane.shape[0], 2 * plane.shape[1])
    return np.stack(pair[::-1] if at else pair, axis + 1).reshape(shape)


def _enlarge(plane: Plane, format: Format) -> Plane:
    if plane.shape == format.shapes[0]:
        return plane
    plane = spread(plane, format)
    rows, columns = (2 * now if now < goal else now for now, goal in zip(plane.shape, format.shapes[0], strict=True))
    large = cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large).reshape(rows, columns)[: format.height, : format.width]

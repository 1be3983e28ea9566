"""Labels made from mattes and masks. Maps are float32 `[H, W]` in [0, 1] unless said otherwise."""

from __future__ import annotations

from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
T = TypeVar("T", bound=Any)


def trimap(alpha: Map, dilate: int, erode: int | None = None) -> Map:
    """{0, 0.5, 1}: unknown where alpha is soft, `dilate` pixels outwards and `erode` (default the same) inwards.

    Foreground is what survives erosion of alpha > 0.95, background what dilation of alpha > 0.05 does not reach.
    """
    outer = cv2.dilate((alpha > 0.05).astype(np.uint8), _disc(dilate))
    inner = cv2.erode((alpha > 0.95).astype(np.uint8), _disc(dilate if erode is None else erode), borderValue=1)
    return ((outer + inner) * np.float32(0.5)).astype(np.float32)


def boundary(alpha: T) -> T:
    """1 where 0.05 < alpha < 0.95, else 0 (Matte Label Blending); of an array or a tensor of any shape."""
    label: T = 1.0 * ((alpha > 0.05) & (alpha < 0.95))
    return label


def interior(mask: Map, band: int) -> Map:
    """1 where a binary mask can be trusted: further than `band` pixels from its edge."""
    if band < 1:
        return np.ones_like(mask)
    inside = (mask > 0.5).astype(np.uint8)
    disc = _disc(band)
    sure = np.equal(cv2.dilate(inside, disc), cv2.erode(inside, disc, borderValue=1))
    return np.asarray(sure, dtype=np.float32)


def outside_boxes(shape: tuple[int, int], boxes: NDArray[np.float32], margin: float = 0.04) -> Map:
    """1 outside every box, 0 inside; the boxes are grown by `margin` of their size.

    `boxes` `[K, 4]`: x0, y0, x1, y1 as shares of the picture.
    """
    known = np.ones(shape, np.float32)
    for x0, y0, x1, y1 in boxes:
        dx, dy = margin * (x1 - x0), margin * (y1 - y0)
        left, right = int((x0 - dx) * shape[1]), int(np.ceil((x1 + dx) * shape[1]))
        top, bottom = int((y0 - dy) * shape[0]), int(np.ceil((y1 + dy) * shape[0]))
        known[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 0
    return known


def without_specks(mask: NDArray[np.bool_], share: float = 3e-4) -> NDArray[np.bool_]:
    """A mask with holes and islands smaller than `share` of the picture closed: slips of the pen, not labels."""
    clean = mask.astype(np.uint8)
    for value in (0, 1):
        _, parts, stats, _ = cv2.connectedComponentsWithStats((clean == value).astype(np.uint8), connectivity=4)
        small = stats[:, cv2.CC_STAT_AREA] < share * mask.size
        small[0] = False
        clean[small[parts]] = 1 - value
    return clean > 0


def _disc(radius: int) -> NDArray[np.uint8]:
    side = 2 * radius + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), dtype=np.uint8)

"""Holes in a picture filled from what surrounds them (push-pull, Gortler et al. 1996)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def extended(weighted: Floats, weight: Floats, gain: float = 1) -> Floats:
    """The picture I `[H, W, C]` (C > 1) of `weighted` w · I, whose weight w `[H, W]` in [0, 1] is 0 in its holes.

    It is w · I + (1 − w) · J; J comes from half the size, where w and w · I are means, and so on. A pixel of half the
    size counts `gain` times as much as its mean weight says, up to 1: at 1 what shows deep in a hole is the mean of
    far surroundings, above it of near ones. At the smallest size, of two pixels' side, what knows nothing is 0.
    """
    height, width = weight.shape
    if min(height, width) <= 2:
        return np.asarray(weighted / np.maximum(weight, 1e-6)[..., None], np.float32)
    half = ((width + 1) // 2, (height + 1) // 2)
    small, mean = (
        np.asarray(cv2.resize(x, half, interpolation=cv2.INTER_AREA), np.float32) for x in (weighted, weight)
    )
    if gain > 1:
        more = np.minimum(np.float32(gain), 1 / np.maximum(mean, 1e-6))
        small, mean = small * more[..., None], mean * more
    filled = cv2.resize(extended(small, mean, gain), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(weighted + (1 - weight)[..., None] * filled, np.float32)

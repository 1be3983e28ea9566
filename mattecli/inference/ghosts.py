"""Pieces of a matte that a network was not sure of: things in the background that shine through, half transparent."""

from __future__ import annotations

import cv2
import numpy as np

from mattecli.inference.coarse import Coarse
from mattecli.inference.guided import Floats

VISIBLE = 0.04
"""Alpha above which something is seen at all."""
APART = 1 / 32
"""Least gap between a piece and the next, as a share of the longer side: a wisp of hair is closer to its head."""
OPAQUE = (0.4, 0.5)
"""Mean alpha of a piece up to which it goes, and from which it stays as it is."""


def without_ghosts(coarse: Coarse) -> Coarse:
    """`coarse` without what stands apart and is hardly opaque; the piece that holds most alpha stays in any case."""
    alpha = coarse.alpha
    seen = (alpha > VISIBLE).astype(np.uint8)
    reach = max(1, round(APART / 2 * max(alpha.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    count, pieces = cv2.connectedComponents(cv2.dilate(seen, disc))
    if count <= 2:  # the background and one piece
        return coarse
    held = np.bincount(pieces.ravel(), (alpha * seen).ravel(), count)
    opaque = held / np.maximum(np.bincount(pieces.ravel(), seen.ravel(), count), 1)
    stays = np.clip((opaque - OPAQUE[0]) / (OPAQUE[1] - OPAQUE[0]), 0, 1)
    stays[0] = stays[1 + np.argmax(held[1:])] = 1
    share: Floats = stays.astype(np.float32)[pieces]
    return coarse if share.min() == 1 else coarse.times(share)

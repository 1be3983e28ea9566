"""A soft alpha and clean foreground colours from a photo and a binary mask.

A band around the mask's edge becomes unknown, wide on hair and narrow elsewhere, and closed-form matting solves it
with the mask as a weak prior: stronger far from the edge, and where colour can't tell subject from background.
What contradicts the mask is given back to it, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.errors import InputError
from mattecli.media.foreground import estimate_foreground
from mattecli.mixing import matting_laplacian
from mattecli.mixing.labels import without_specks
from mattecli.mixing.push_pull import extended

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]

# Reach of the unknown band (outwards, inwards) as shares of the subject's longer side.
HAIR_REACH = (0.026, 0.015)
EDGE_REACH = (0.004, 0.004)
UNLABELLED_REACH = (0.010, 0.007)

EPSILON = 1e-5
"""Larger than the paper's 1e-7: JPEG blocks would otherwise show as colour lines."""
TOLERANCE = 1e-6
TRUST = 0.05
"""How strongly the mask pulls at the band's far ends; it grows with the square of the distance to the edge."""
HAZE = 0.04
"""Alphas below this are 0, above 1 − this are 1, and what lies between is stretched."""
NEAR = 4.0
"""The `gain` with which colours are extended: those nearby count."""


@dataclass(frozen=True)
class Subject:
    """One photo: `rgb` uint8 `[H, W, 3]`, `mask` bool `[H, W]`, and `soft` bool `[H, W]`, its hair, if known."""

    rgb: Pixels
    mask: Mask
    soft: Mask | None = None


@dataclass(frozen=True)
class Band:
    """The unknown region. `depth` `[H, W]` runs from 0 at the mask's edge to 1 at the band's ends; `hair` bool."""

    unknown: Mask
    depth: Map
    hair: Mask


@dataclass(frozen=True)
class Checks:
    """What the solved alpha says about the mask; shares in [0, 1].

    `edge`: mean |alpha − mask| in the band outside hair. `contradiction`: share of the band's far half that
    changed sides. `flat`: share of the hair band where alpha is grey without structure. `islands`: share of the
    alpha that was not connected to the subject (removed). `restored`: share of the band that fell back to the mask.
    """

    edge: float
    contradiction: float
    flat: float
    islands: float
    restored: float

    def verdict(self) -> str:
        """Empty if the alpha may teach, else the reason why not."""
        # On full figures of 830 pixels, `edge` is 0.13-0.18 with good masks and 0.185-0.25 with misplaced ones.
        limits = {"edge": 0.185, "contradiction": 0.05, "flat": 0.15, "restored": 0.25}
        return ", ".join(name for name, limit in limits.items() if getattr(self, name) > limit)


def matte(subject: Subject) -> tuple[Map, Checks]:
    """Soft alpha float32 `[H, W]` in [0, 1] of a subject with a binary mask, and the numbers to judge it by.

    Raises InputError if the mask has no edge, UsageError without pymatting.
    """
    mask = without_specks(subject.mask)
    if not mask.any() or mask.all():
        raise InputError("the mask has no edge")
    band = unknown_band(mask, subject.soft)
    hard = mask.astype(np.float32)
    trimap = np.where(band.unknown, np.float32(0.5), hard)
    image = _unit(subject.rgb)
    doubt = 1 + 2 / separability(image, mask, band.unknown)
    try:
        alpha = matting_laplacian.solve(
            image,
            trimap,
            epsilon=EPSILON,
            tolerance=TOLERANCE,
            prior=hard,
            confidence=(TRUST * band.depth**2 * doubt).astype(np.float32),
        )
    except ValueError as error:
        raise InputError("the matting equations did not converge") from error
    solved = np.clip((alpha - HAZE) / (1 - 2 * HAZE), 0, 1)
    return _checked(solved, hard, band)


def unknown_band(mask: Mask, soft: Mask | None) -> Band:
    """The band around the edge of `mask`; its width follows the class of the nearest subject pixel."""
    to_subject, nearest = cv2.distanceTransformWithLabels(
        (~mask).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    to_background = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    if soft is None:
        hair = np.ones_like(mask)
    else:
        of_label = np.zeros(int(nearest.max()) + 1, bool)
        of_label[nearest[mask]] = soft[mask]
        hair = of_label[nearest]
    y, x = np.nonzero(mask)
    size = max(int(np.ptp(y)), int(np.ptp(x))) + 1
    wide = UNLABELLED_REACH if soft is None else HAIR_REACH
    outwards, inwards = (
        cv2.blur(np.where(hair, max(2.0, w * size), max(2.0, n * size)).astype(np.float32), (9, 9))
        for w, n in zip(wide, EDGE_REACH, strict=True)
    )
    depth = np.where(mask, to_background / inwards, to_subject / outwards).astype(np.float32)
    return Band(depth <= 1, np.minimum(depth, 1), hair if soft is not None else np.zeros_like(mask))


def separability(image: Map, mask: Mask, unknown: Mask) -> Map:
    """|μF − μB|² / (σF² + σB²) of the known colours nearby, `[H, W]`: how well colour tells the two apart.

    Below about 1 (dark hair before a dark wall, a busy street) an alpha solved from colour means little.
    """
    moments = np.dstack([image, (image**2).sum(axis=2)])
    known = ((side & ~unknown).astype(np.float32) for side in (mask, ~mask))
    ours, theirs = (extended(moments * weight[..., None], weight, NEAR) for weight in known)
    spread = sum(np.maximum(m[..., 3] - (m[..., :3] ** 2).sum(axis=2), 0) for m in (ours, theirs))
    distance = ((ours[..., :3] - theirs[..., :3]) ** 2).sum(axis=2)
    return np.asarray((distance + 1e-4) / (spread + 2e-3), dtype=np.float32)


def _checked(solved: Map, hard: Map, band: Band) -> tuple[Map, Checks]:
    """The alpha with bad places given back to the mask and islands removed, and the numbers."""
    gradient = np.hypot(cv2.Sobel(solved, -1, 1, 0, scale=1 / 8), cv2.Sobel(solved, -1, 0, 1, scale=1 / 8))
    flat = band.unknown & (solved > 0.1) & (solved < 0.9) & (gradient < 0.02)
    far = band.unknown & (band.depth > 0.5)
    wrong = far & (np.abs(solved - hard) > 0.5)

    side = 2 * round(0.01 * max(hard.shape)) + 1
    crowd = cv2.blur((flat | wrong).astype(np.float32), (side, side)) / np.maximum(
        cv2.blur(band.unknown.astype(np.float32), (side, side)), 1e-3
    )
    give_back = np.clip((crowd - 0.2) / 0.2, 0, 1).astype(np.float32)
    alpha = solved + give_back * (cv2.GaussianBlur(hard, (0, 0), 1.2) - solved)
    alpha = np.where(band.unknown, alpha, hard).astype(np.float32)
    connected = _connected(alpha, hard)
    checks = Checks(
        edge=_mean(np.abs(solved - hard), band.unknown & ~band.hair),
        contradiction=_mean(wrong, far),
        flat=_mean(flat, band.unknown & band.hair),
        islands=float((alpha - connected).sum() / alpha.sum()),
        restored=_mean(give_back, band.unknown),
    )
    return connected, checks


def _connected(alpha: Map, hard: Map) -> Map:
    """Alpha without what is above a tenth and yet touches no pixel of the mask at that level."""
    count, parts = cv2.connectedComponents((alpha > 0.1).astype(np.uint8), connectivity=8)
    anchored = np.zeros(count, bool)
    anchored[np.unique(parts[(hard > 0) & (alpha > 0.5)])] = True
    anchored[0] = True
    stray = cv2.dilate((~anchored[parts]).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return np.where(stray & (~anchored[parts] | (parts == 0)), 0, alpha).astype(np.float32)


def _mean(values: NDArray[np.float32] | Mask, where: Mask) -> float:
    return float(values[where].mean()) if where.any() else 0.0


def foreground(rgb: Pixels, alpha: Map) -> Pixels:
    """The subject's colours, uint8 `[H, W, 3]`: estimated where it is soft, the photo's own where it is opaque,
    extended outwards where there is none."""
    sure = (np.clip((alpha - 0.05) / 0.15, 0, 1) ** 2).astype(np.float32)
    colours = extended(estimate_foreground(_unit(rgb), alpha) * sure[..., None], sure, NEAR)
    estimated = np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8)
    return np.where((alpha >= 1)[..., None], rgb, estimated)


def _unit(rgb: Pixels) -> Map:
    return np.asarray(rgb, dtype=np.float32) / np.float32(255)

"""A background plate held by hand brought into register with the picture, by a homography.

SIFT features, the ratio test and MAGSAC find it in spite of the subject: its matches are outliers, as it is not in the
plate. Then it maximises the enhanced correlation coefficient (Evangelidis & Psarakis 2008), which takes no notice of
exposure, over what looks alike in both. A homography is exact for a camera that turns in place, and for a scene that is
far away or flat; near things seen from another place stay displaced.

Measured on 3 x 14 pairs of views of flat scenes (CC0 photos, with noise, JPEG and another exposure, a person on one):
mean distance of the corners from where they belong, in pixels at 1920 x 1080, median and worst.

                                             as held     features    refined
    turned by up to 6°, shifted by 7 %      65    115    0.7    6.9  0.2   1.5
    twice as far                           155    277    0.3    3.6  0.1   0.5
    as the first, the person a third        96    136    0.5  140.5  0.1   2.0

With the gain, what is behind the person differs by 1.7 levels from what is laid there, without it by 10.4.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.errors import InputError
from mattecli.inference.guided import Picture, resize

Homography = NDArray[np.float64]
"""3x3, from the plate to the picture, both in shares of their sides: it holds whatever their sizes."""
Mask = NDArray[np.bool_]

LONGEST, FOLLOWED, COMPARED = 640, 480, 320
"""Pixels of the longer side at which a plate is registered, followed from frame to frame, and compared."""
FEATURES, RATIO, INLIER = 1500, 0.75, 2.0
ROUNDS, STEPS = 3, 30
BLUR, TIMES, LEVELS = 3.0, 3.0, 4.0
"""Alike is what differs, after such a blur, by at most so many times the median and so many levels more."""
WINDOW, TEXTURE, SAME, AGREEING = (15, 15), 3.0, 0.7, 0.15
"""Two views agree where so many of the windows with texture (a standard deviation, in levels) correlate so well.
Measured: at least 0.35 of them for the same scene, at most 0.06 for another."""
COVERED = 0.2
"""Share of the picture that the plate must show."""
GAIN = 2.0
"""The most that the plate's exposure is changed by, and one over it the least."""


def register(plate: Picture, picture: Picture) -> Homography:
    """The homography from `plate` to `picture`, `[H, W, 3]` of any sizes.

    Raises InputError where they have too little in common; the sentence doesn't say which they are.
    """
    small, seen = _grey(plate, LONGEST), _grey(picture, LONGEST)
    found = _by_features(small, seen)
    for _ in range(ROUNDS):
        found = found if found is None else _refined(small, seen, found)
    if found is None or not _agree(small, seen, found):
        raise InputError("the plate shows another scene, or too little texture to be aligned by.")
    return _in_shares(found, small, seen)


def follow(plate: Picture, picture: Picture, last: Homography) -> Homography | None:
    """The same for the next frame, from what it was for the `last`; None where they have too little in common."""
    small, seen = _grey(plate, FOLLOWED), _grey(picture, FOLLOWED)
    found = _refined(small, seen, _in_pixels(last, small, seen))
    return _in_shares(found, small, seen) if _agree(small, seen, found) else None


def lay(plate: Picture, picture: Picture, homography: Homography) -> Picture:
    """The plate as `picture` `[H, W, 3]` sees the scene: of its size and type and, by a gain a colour, its exposure.

    What the plate doesn't show is filled from the picture, and so counts as background, as in the authors' code of
    Background Matting V2; but where the plate ends on the subject its edge goes on instead, or the subject would be
    cut off there.
    """
    small, seen = _small(plate, COMPARED), _small(picture, COMPARED)
    gain, goes_on = _compare(small, seen, _in_pixels(homography, small, seen))
    plate = _shrunk(plate, picture)
    matrix, (height, width) = _in_pixels(homography, plate, picture), picture.shape[:2]
    laid = cv2.warpPerspective(plate, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    depth = np.iinfo(picture.dtype).max / np.iinfo(plate.dtype).max
    scales, deep = np.append(gain * depth, 0), cv2.CV_8U if picture.dtype == np.uint8 else cv2.CV_16U
    laid = cv2.multiply(laid, scales, dtype=deep)
    filled = ~_covered(plate, picture, matrix)
    filled &= cv2.resize(goes_on, (width, height), interpolation=cv2.INTER_NEAREST) == 0
    return cv2.copyTo(picture, filled.astype(np.uint8), laid)


def _compare(plate: Picture, seen: Picture, matrix: Homography) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Of small uint8 pictures: the gain `[3]` from plate to picture, and where the plate's edge goes on, 1."""
    alike, covered = _alike(_as_grey(plate), _as_grey(seen), matrix)
    here, there = _warp(plate, matrix, seen)[alike], seen[alike]
    gain = np.ones(3)
    if len(here):
        gain = np.median((there + 1.0) / (here + 1.0), axis=0).clip(1 / GAIN, GAIN)
    subject = cv2.dilate((covered & ~alike).astype(np.uint8), np.ones((5, 5), np.uint8))
    height, width = plate.shape[:2]
    on_plate = cv2.warpPerspective(subject, matrix, (width, height), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    nearest, size = cv2.INTER_NEAREST, (seen.shape[1], seen.shape[0])
    goes_on = cv2.warpPerspective(on_plate, matrix, size, flags=nearest, borderMode=cv2.BORDER_REPLICATE)
    return gain, np.asarray(goes_on, np.uint8)


def _by_features(plate: NDArray[Any], seen: NDArray[Any]) -> Homography | None:
    """In pixels of the two grey pictures; None where too few features match."""
    sift = cv2.SIFT.create(FEATURES)
    (points, described), (goals, wanted) = (sift.detectAndCompute(grey, None) for grey in (plate, seen))
    if min(len(points), len(goals)) < 4:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(described, wanted, 2)
    matches = [best for best, second in pairs if best.distance < RATIO * second.distance]
    if len(matches) < 4:
        return None
    start = np.array([points[match.queryIdx].pt for match in matches], np.float32)
    end = np.array([goals[match.trainIdx].pt for match in matches], np.float32)
    found, _ = cv2.findHomography(start, end, cv2.USAC_MAGSAC, INLIER, maxIters=5000, confidence=0.9999)
    return None if found is None else np.asarray(found, np.float64)


def _refined(plate: NDArray[Any], seen: NDArray[Any], matrix: Homography) -> Homography:
    """`matrix` itself where the correlation finds no better one."""
    alike = _alike(plate, seen, matrix)[0].astype(np.uint8)
    start, steps = (matrix / matrix[2, 2]).astype(np.float32), (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS)
    try:
        _, found = cv2.findTransformECC(plate, seen, start, cv2.MOTION_HOMOGRAPHY, (steps, STEPS, 1e-5), alike, 5)
    except cv2.error:  # it leaves the picture, or there is nothing to correlate
        return matrix
    return np.asarray(found, np.float64)


def _alike(plate: NDArray[Any], seen: NDArray[Any], matrix: Homography) -> tuple[Mask, Mask]:
    """Where the picture shows what the plate does, and where the plate shows anything, of grey uint8 pictures."""
    covered = _covered(plate, seen, matrix)
    if not covered.any():
        return covered, covered
    both = _warp(plate, matrix, seen), seen  # nothing of what only one of them shows may be blurred into the rest
    laid, blurred = (cv2.GaussianBlur(x * covered, (0, 0), BLUR).astype(np.float32) for x in both)
    alike = covered
    for _ in range(2):  # the gain of all, then of the half that fits best
        gain = float(np.median((blurred[alike] + 1) / (laid[alike] + 1)))
        difference = np.abs(blurred - gain * laid)
        median = float(np.median(difference[covered]))
        alike = covered & (difference <= median)
    return covered & (difference <= TIMES * median + LEVELS), covered


def _agree(plate: NDArray[Any], seen: NDArray[Any], matrix: Homography) -> bool:
    """Whether two grey pictures show one scene: local correlation, since a poor fit too finds something alike."""
    covered = _covered(plate, seen, matrix)
    if covered.mean() < COVERED:
        return False
    laid, seen = (grey.astype(np.float32) for grey in (_warp(plate, matrix, seen), seen))

    def covariance(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(cv2.blur(x * y, WINDOW) - cv2.blur(x, WINDOW) * cv2.blur(y, WINDOW))

    own, other = covariance(seen, seen), covariance(laid, laid)
    textured = covered & (own > TEXTURE**2)
    same = covariance(laid, seen) > SAME * np.sqrt(np.maximum(own, 0) * np.maximum(other, TEXTURE**2))
    return bool(np.count_nonzero(same & textured) > AGREEING * np.count_nonzero(textured))


def _warp(plate: NDArray[Any], matrix: Homography, like: NDArray[Any]) -> NDArray[Any]:
    return cv2.warpPerspective(plate, matrix, (like.shape[1], like.shape[0]))


def _covered(plate: NDArray[Any], seen: NDArray[Any], matrix: Homography) -> Mask:
    """Where the plate shows what is behind, less the rim that is mixed with what it doesn't."""
    return np.asarray(_warp(np.full(plate.shape[:2], 255, np.uint8), matrix, seen) == 255)


def _grey(picture: Picture, longest: int) -> NDArray[Any]:
    return _as_grey(_small(picture, longest))


def _as_grey(rgb: Picture) -> NDArray[Any]:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))


def _small(picture: Picture, longest: int) -> Picture:
    """uint8, its longer side at most `longest`."""
    height, width = picture.shape[:2]
    scale = min(1.0, longest / max(height, width))
    small = resize(picture, max(1, round(height * scale)), max(1, round(width * scale)))
    return small if small.dtype == np.uint8 else cv2.convertScaleAbs(small, alpha=1 / 257)


def _shrunk(plate: Picture, picture: Picture) -> Picture:
    """The plate no finer than the picture, so that no pixel is skipped."""
    scale = max(side / own for side, own in zip(picture.shape[:2], plate.shape[:2], strict=True))
    height, width = (round(side * min(1.0, scale)) for side in plate.shape[:2])
    return resize(plate, height, width)


def _in_shares(matrix: Homography, plate: NDArray[Any], picture: NDArray[Any]) -> Homography:
    return np.asarray(_shares_of(picture) @ matrix @ np.linalg.inv(_shares_of(plate)))


def _in_pixels(homography: Homography, plate: NDArray[Any], picture: NDArray[Any]) -> Homography:
    return np.asarray(np.linalg.inv(_shares_of(picture)) @ homography @ _shares_of(plate))


def _shares_of(picture: NDArray[Any]) -> Homography:
    """From its pixels, whose centres are at whole numbers, to shares of its sides."""
    height, width = picture.shape[:2]
    return np.array([[1 / width, 0, 0.5 / width], [0, 1 / height, 0.5 / height], [0, 0, 1]])

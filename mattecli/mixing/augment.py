"""Augmentation for people in the wild: where the camera stands, the light, and what the camera does to a picture.

Pictures are uint8 RGB `[H, W, 3]`; every choice comes from the generator given, so a seed fixes the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.mixing.push_pull import extended
from mattecli.mixing.sources import Pixels

Matrix = NDArray[np.float64]
Generator = np.random.Generator


def view(
    photo: tuple[int, int],
    canvas: tuple[int, int],
    box: tuple[float, float, float, float] | None,
    rng: Generator,
    closeup: float,
    tilt: float,
) -> Matrix:
    """A window of the photo as a 2 × 3 matrix from photo to canvas pixels.

    `photo` and `canvas` are (height, width); `box` the subject (x0, y0, x1, y1) in pixels. With probability
    `closeup` the window is a bust, a face or another detail, else as much of the photo as the canvas holds.
    """
    cover = max(canvas[0] / photo[0], canvas[1] / photo[1])
    scale, centre = cover * rng.uniform(1.0, 1.25), None
    if box is not None and rng.random() < closeup:
        scale = cover * float(np.exp(rng.uniform(np.log(1.2), np.log(4.0))))
        x0, y0, x1, y1 = box
        at_head = rng.random() < 0.6
        down = rng.uniform(0.0, 0.3) if at_head else rng.uniform(0.1, 0.95)
        centre = (x0 + rng.uniform(0.25, 0.75) * (x1 - x0), y0 + down * (y1 - y0))
    half = (canvas[1] / scale / 2, canvas[0] / scale / 2)
    if centre is None:
        centre = (rng.uniform(0, photo[1]), rng.uniform(0, photo[0]))
    middle = [_inside(c, h, side) for c, h, side in zip(centre, half, (photo[1], photo[0]), strict=True)]
    return similarity(middle, canvas, scale, rng.normal(0, tilt), rng.random() < 0.5)


def _inside(centre: float, half: float, side: int) -> float:
    return side / 2 if 2 * half >= side else float(np.clip(centre, half, side - half))


def placement(
    photo: tuple[int, int],
    canvas: tuple[int, int],
    box: tuple[float, float, float, float],
    rng: Generator,
    tilt: float,
) -> Matrix:
    """Where a subject stands on a canvas of its own: from a small full figure to a face that fills the frame.

    A subject that its photo cuts off at the bottom is cut off by the canvas too.
    """
    x0, y0, x1, y1 = box
    height = max(y1 - y0, 1.0)
    scale = canvas[0] / height * float(np.exp(rng.uniform(np.log(0.5), np.log(3.0))))
    top = rng.uniform(0.02, 0.3) * canvas[0]
    if y1 > photo[0] - 4:
        top = max(top, canvas[0] - scale * height)
    left = rng.uniform(0.2, 0.8) * canvas[1] - scale * (x1 - x0) / 2
    middle = (x0 + (canvas[1] / 2 - left) / scale, y0 + (canvas[0] / 2 - top) / scale)
    return similarity(middle, canvas, scale, rng.normal(0, tilt), rng.random() < 0.5)


def similarity(
    centre: tuple[float, float] | list[float],
    canvas: tuple[int, int],
    scale: float,
    degrees: float,
    flip: bool,
) -> Matrix:
    """Scale, turn and perhaps mirror the photo so that `centre` comes to the middle of the canvas."""
    turn = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), degrees, scale)
    matrix = np.asarray(turn, dtype=np.float64)
    matrix[:, 2] += np.array([canvas[1] / 2 - centre[0], canvas[0] / 2 - centre[1]])
    if flip:
        matrix[0] = -matrix[0]
        matrix[0, 2] += canvas[1] - 1
    return matrix


def warp(picture: Pixels, matrix: Matrix, canvas: tuple[int, int], border: int = cv2.BORDER_REFLECT_101) -> Pixels:
    """The picture (`[H, W]` or `[H, W, C]`) seen through `matrix`; halved first as often as the scale allows."""
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    matrix = matrix.copy()
    while scale <= 0.5:
        size = (max(1, picture.shape[1] // 2), max(1, picture.shape[0] // 2))
        matrix[:, 0] *= picture.shape[1] / size[0]
        matrix[:, 1] *= picture.shape[0] / size[1]
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        scale *= 2
    warped = cv2.warpAffine(picture, matrix, (canvas[1], canvas[0]), flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(warped, dtype=np.uint8)


def relight(rgb: Pixels, rng: Generator, strength: float = 1.0) -> Pixels:
    """Exposure, contrast, gamma and colour temperature, in one table a channel; sometimes paler, sometimes grey."""
    x = np.linspace(0, 1, 256, dtype=np.float32)
    gamma = np.exp(rng.normal(0, 0.25 * strength))
    gain, lift = np.exp(rng.normal(0, 0.12 * strength)), rng.normal(0, 0.04 * strength)
    warmth = rng.normal(0, 0.08 * strength)
    tint = rng.normal(0, 0.03 * strength)
    channels = [np.exp(warmth), np.exp(tint), np.exp(-warmth)]
    table = np.stack([np.clip((x**gamma - 0.5) * gain * c + 0.5 + lift, 0, 1) for c in channels], axis=-1)
    rgb = np.asarray(cv2.LUT(rgb, np.rint(table * 255).astype(np.uint8)[None]), dtype=np.uint8)
    if rng.random() < 0.35 * strength:
        keep = 0.0 if rng.random() < 0.35 else rng.uniform(0.2, 1.3)
        grey = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        rgb = np.asarray(cv2.addWeighted(rgb, keep, grey, 1 - keep, 0), dtype=np.uint8)
    return rgb


def defocus(rgb: Pixels, rng: Generator) -> Pixels:
    """What lies behind a portrait: often blurred, now and then a studio backdrop (the picture's four mean colours)."""
    height, width = rgb.shape[:2]
    draw = rng.random()
    if draw < 0.1:
        corners = cv2.resize(rgb, (2, 2), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(corners, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    if draw < 0.4:
        return np.asarray(cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.003, 0.03) * min(height, width)), dtype=np.uint8)
    return rgb


@dataclass(frozen=True)
class Damage:
    """What lens, sensor and file do to each picture of a clip alike: blur, lost resolution, noise, JPEG.

    `blur` is a standard deviation in pixels, `resolution` a share of the size, `noise` one of white, `quality`
    JPEG's; None: not at all.
    """

    blur: float | None
    resolution: float | None
    noise: float | None
    quality: int | None

    @staticmethod
    def draw(rng: Generator) -> Damage:
        return Damage(
            blur=rng.uniform(0.4, 1.6) if rng.random() < 0.12 else None,
            resolution=rng.uniform(0.4, 0.9) if rng.random() < 0.1 else None,
            noise=rng.uniform(0.005, 0.05) if rng.random() < 0.2 else None,
            quality=int(rng.integers(25, 90)) if rng.random() < 0.25 else None,
        )

    def apply(self, rgb: Pixels, rng: Generator) -> Pixels:
        height, width = rgb.shape[:2]
        if self.blur is not None:
            rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), self.blur), dtype=np.uint8)
        if self.resolution is not None:
            size = (int(width * self.resolution), int(height * self.resolution))
            small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
            rgb = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
        if self.noise is not None:
            noise = rng.standard_normal(rgb.shape, dtype=np.float32) * (255 * self.noise)
            rgb = np.clip(rgb + noise, 0, 255).astype(np.uint8)
        if self.quality is not None:
            coded = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1]
            rgb = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)
        return rgb


def paint_out(rgb: Pixels, hide: NDArray[np.float32]) -> Pixels:
    """The picture with the pixels where `hide` > 0 filled from what surrounds them."""
    keep = (hide <= 0).astype(np.float32)
    filled = extended(rgb.astype(np.float32) * keep[..., None], keep)
    return np.where(keep[..., None] > 0, rgb, np.rint(np.clip(filled, 0, 255)).astype(np.uint8))

"""Background plates: the scenery of a composed sample, photographed once more without the subject.

As Background Matting V2 is trained (section 4.3 of the paper, and as released): the camera has moved a little, the
light is another, lens, sensor and file do their own damage, and the subject may cast a soft shadow on the scenery that
the plate does not show.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.mixing import motion
from mattecli.mixing.augment import Damage, Matrix
from mattecli.mixing.sources import Pixels

Floats = NDArray[np.float32]
Generator = np.random.Generator

MOVED, RELIT, SHADED = 0.3, 0.8, 0.3
"""Shares of the samples whose camera has moved, whose light has changed, whose subject casts a shadow."""
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Plate:
    """What tells a plate from the scenery in the picture, for all frames of a clip alike.

    `moved` is a 3 × 3 matrix in canvas pixels, `light` a 3 × 4 matrix of colours in 0…255.
    """

    moved: Matrix
    light: Matrix
    damage: Damage
    shadow: Shadow | None

    @staticmethod
    def draw(canvas: tuple[int, int], rng: Generator) -> Plate:
        return Plate(
            moved=_affine(canvas, rng, 1.0, 0.01, (0.99, 1.01)) if rng.random() < MOVED else np.eye(3),
            light=_light(rng) if rng.random() < RELIT else np.eye(3, 4),
            damage=Damage.draw(rng),
            shadow=Shadow.draw(canvas, rng) if rng.random() < SHADED else None,
        )

    def take(self, scenery: Pixels, rng: Generator) -> Pixels:
        """The plate of `scenery`, which is seen through `moved` already."""
        return self.damage.apply(np.asarray(cv2.transform(scenery, self.light), dtype=np.uint8), rng)


@dataclass(frozen=True)
class Shadow:
    """The subject's shape somewhere near it, blurred, at most `depth` dark, a share of white."""

    moved: Matrix
    blur: int
    depth: float

    @staticmethod
    def draw(canvas: tuple[int, int], rng: Generator) -> Shadow:
        return Shadow(
            moved=_affine(canvas, rng, 5.0, 0.2, (0.5, 1.5)),
            blur=max(1, round(rng.uniform(0.04, 0.08) * max(canvas))),
            depth=rng.uniform(0, 0.3),
        )

    def cast(self, scenery: Floats, alpha: Floats) -> Floats:
        """`scenery` `[H, W, 3]` in 0…255 under the shadow of `alpha` `[H, W]`."""
        shape = (np.clip(alpha, 0, 1) * 255).astype(np.uint8)
        shade = cv2.blur(motion.move(shape, self.moved, cv2.BORDER_CONSTANT), (self.blur, self.blur))
        return np.maximum(scenery - np.float32(self.depth) * shade[..., None], np.float32(0))


def _affine(canvas: tuple[int, int], rng: Generator, degrees: float, shift: float, zoom: tuple[float, float]) -> Matrix:
    """A turn of up to `degrees`, a `zoom` and a shift of up to that share of the canvas, about its centre."""
    height, width = canvas
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-degrees, degrees), rng.uniform(*zoom))
    matrix = np.vstack((np.asarray(turn, np.float64), [0.0, 0.0, 1.0]))
    matrix[:2, 2] += rng.uniform(-shift, shift, 2) * (width, height)
    return matrix


def _light(rng: Generator) -> Matrix:
    """Brightness, contrast and saturation up to 18 percent more or less, and a little of another colour temperature."""
    brightness, contrast, saturation = rng.uniform(0.82, 1.18, 3)
    warmth = np.exp(rng.normal(0, 0.03))
    gains = brightness * np.array([[warmth], [1.0], [1 / warmth]])
    colours = contrast * (saturation * np.eye(3) + (1 - saturation) * LUMA)
    return np.asarray(gains * np.hstack((colours, np.full((3, 1), 127.5 * (1 - contrast)))))

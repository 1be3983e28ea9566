"""What a sample shows, drawn frame by frame: a subject in its own photo, or subjects before another background.

A photo is a clip of one frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.mixing import augment, labels, motion
from mattecli.mixing.augment import Matrix
from mattecli.mixing.batch import Label
from mattecli.mixing.composition import composite
from mattecli.mixing.plate import Plate
from mattecli.mixing.sources import Picture, Pixels

MASK_BAND = 0.006
"""Half-width of the band along a mask's edge that teaches nothing, as a share of the canvas's shorter side."""
OCCLUDED = 0.2
"""Share of the composed clips in which something passes in front."""

HARDLY = np.float32(1e-4)
"""How much of a subject's colours is seen where the subject is not."""

Floats = NDArray[np.float32]
Background = Literal["none", "layer", "plate"]
Shot = tuple[NDArray[Any], ...]
"""The picture `[H, W, 3]`, its alpha `[H, W]` and where that is known `[H, W]`; with a background, also the subjects'
colours and that background, uint8 `[H, W, 3]`."""


@dataclass(frozen=True)
class Stage:
    """Where a sample is drawn: `canvas` (height, width), so many `frames`, all choices from `rng`.

    `background` is what shots of composed samples tell of it; `motion` scales all speeds.
    """

    canvas: tuple[int, int]
    frames: int
    rng: np.random.Generator
    background: Background = "none"
    motion: float = 1.0

    def paths(self, strength: float = 1.0) -> list[Matrix]:
        return motion.paths(self.canvas, self.frames, self.rng, strength * self.motion)

    def camera(self) -> list[Matrix]:
        return motion.camera(self.canvas, self.frames, self.rng, self.motion)


@dataclass(frozen=True)
class Layer:
    """A subject on its way: its colours and alpha in its photo's pixels, and a matrix to the canvas a frame."""

    rgb: Pixels
    alpha: Pixels
    label: Label
    matrices: list[Matrix]


def in_place(picture: Picture, matrix: Matrix, stage: Stage) -> Iterator[Shot]:
    """The subject in its own photo, seen through `matrix` by a camera that may move."""
    canvas, label = stage.canvas, picture.label
    lit = augment.relight(picture.rgb, stage.rng)
    plane = picture.alpha
    if plane is None and label == Label.BOXES:
        plane = (labels.outside_boxes(picture.rgb.shape[:2], picture.boxes) * 255).astype(np.uint8)
    for moved, gain in zip(_follow(matrix, stage.camera()), _gains(stage), strict=True):
        rgb = _exposed(augment.warp(lit, moved, canvas), gain)
        nothing = np.zeros(canvas, np.float32)
        if plane is None:
            yield rgb, nothing, nothing
        elif picture.alpha is None:
            yield rgb, nothing, (augment.warp(plane, moved, canvas) == 255).astype(np.float32)
        else:
            alpha = unit(augment.warp(plane, moved, canvas))
            yield rgb, alpha, _known(alpha, label)


def layer(picture: Picture, matrix: Matrix, stage: Stage) -> Layer:
    """`picture`'s subject, placed by `matrix`, in its own light and with a motion of its own."""
    assert picture.alpha is not None
    colours = picture.rgb if picture.foreground is None else picture.foreground
    lit = augment.relight(colours, stage.rng, 0.6)
    return Layer(lit, picture.alpha, picture.label, _follow(matrix, stage.paths()))


def composed(layers: list[Layer], behind: Pixels, stage: Stage) -> Iterator[Shot]:
    """α·F + (1 − α)·B, one subject after the other; `behind` is at least as large as the canvas, about its centre.

    With a `layer` as background the shot's two layers compose its picture, with a `plate` so would the foreground and
    the scenery under the subjects' shadow, which the plate does not show.
    """
    canvas, rng = stage.canvas, stage.rng
    camera = stage.camera()
    scenery = _follow(_centred(behind, canvas), stage.paths(0.3))
    mask = motion.occluder(canvas, rng) if stage.frames > 1 and rng.random() < OCCLUDED else None
    passing = stage.paths(2.0)
    cover = behind[: canvas[0], : canvas[1]][::-1]
    light = int(rng.integers(1 << 31))
    plate = Plate.draw(canvas, rng) if stage.background == "plate" else None
    for t, gain in enumerate(_gains(stage)):
        seen = camera[t] @ _square(scenery[t])
        image = back = augment.warp(behind, seen[:2], canvas).astype(np.float32)
        alpha, known = np.zeros(canvas, np.float32), np.ones(canvas, np.float32)
        fore: Floats = np.zeros_like(image)
        there: Floats = np.full((*canvas, 1), 1e-9, np.float32)
        for item in layers:
            front, own = _seen(item, (camera[t] @ _square(item.matrices[t]))[:2], canvas)
            image = composite(own[..., None], front, image)
            alpha = alpha + own - alpha * own
            known = np.minimum(known, _known(own, item.label))
            if stage.background != "none":
                share: Floats = np.maximum(own, HARDLY)[..., None]
                fore, there = composite(share, front, fore), there + share * (1 - there)
        if plate is not None and plate.shadow is not None:
            back = plate.shadow.cast(back, alpha)
        if mask is not None:
            hides = unit(motion.move(mask, camera[t] @ passing[t], cv2.BORDER_CONSTANT))
            image = composite(hides[..., None], cover.astype(np.float32), image)
            alpha = alpha * (1 - hides)
            over = np.asarray(hides / np.maximum(1 - alpha, HARDLY), np.float32)
            back = composite(over[..., None], cover.astype(np.float32), back)
        if stage.background == "none":
            yield _lit(image, light, gain), alpha, known
            continue
        foreground, background = _lit(fore / there, light, gain), _lit(back, light, gain)
        rgb = composite(alpha[..., None], foreground.astype(np.float32), background.astype(np.float32))
        if plate is not None:
            apart = augment.warp(behind, (plate.moved @ seen)[:2], canvas).astype(np.float32)
            background = plate.take(_lit(apart, light, gain), rng)
        yield np.rint(rgb).astype(np.uint8), alpha, known, foreground, background


def _seen(item: Layer, matrix: Matrix, canvas: tuple[int, int]) -> tuple[Floats, Floats]:
    """A subject's colours in 0…255 and its alpha, seen through `matrix`."""
    own = augment.warp(item.alpha, matrix, canvas, cv2.BORDER_CONSTANT)
    if item.label == Label.MASK:
        own = np.asarray(cv2.GaussianBlur(own, (3, 3), 0), dtype=np.uint8)
    return augment.warp(item.rgb, matrix, canvas).astype(np.float32), unit(own)


def unit(pixels: Pixels) -> Floats:
    return pixels.astype(np.float32) / np.float32(255)


def _follow(matrix: Matrix, path: list[Matrix]) -> list[Matrix]:
    return [(step @ _square(matrix))[:2] for step in path]


def _square(matrix: Matrix) -> Matrix:
    return np.vstack((matrix, [0.0, 0.0, 1.0]))


def _centred(picture: Pixels, canvas: tuple[int, int]) -> Matrix:
    dy, dx = (canvas[axis] - picture.shape[axis] for axis in (0, 1))
    return np.array([[1.0, 0.0, dx / 2], [0.0, 1.0, dy / 2]])


def _gains(stage: Stage) -> list[float]:
    return motion.exposure(stage.frames, stage.rng)


def _lit(colours: Floats, light: int, gain: float) -> Pixels:
    """Colours in 0…255, in the light that the seed `light` draws."""
    lit = augment.relight(np.rint(colours).astype(np.uint8), np.random.default_rng(light), 0.6)
    return _exposed(lit, gain)


def _exposed(rgb: Pixels, gain: float) -> Pixels:
    return rgb if gain == 1 else np.asarray(cv2.convertScaleAbs(rgb, alpha=gain), dtype=np.uint8)


def _known(alpha: Floats, label: Label) -> Floats:
    if label == Label.MATTE:
        return np.ones_like(alpha)
    sure = (alpha < 0.02) | (alpha > 0.98)
    return labels.interior(alpha, max(1, round(MASK_BAND * min(alpha.shape)))) * sure

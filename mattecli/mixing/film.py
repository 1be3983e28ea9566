"""Samples shown as films are: in shades of grey, and between black bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.mixing.sources import Pixels

Generator = np.random.Generator

WIDEST = 0.18
"""Of a bar, as a share of the canvas: 4:3 between the bars of a 16:9 clip has two of 0.125."""


@dataclass(frozen=True)
class Film:
    """What the pictures of a clip have in common.

    `grey` holds the weights of the colours in its greys and the table of their shades, None: it is in colour. `bars`
    are the shares of the height and of the width that each black bar takes, of brightness `black`.
    """

    grey: tuple[NDArray[np.float32], Pixels] | None
    bars: tuple[float, float]
    black: int

    @staticmethod
    def draw(rng: Generator) -> Film:
        """Grey, barred, or both."""
        kind = rng.integers(3)
        grey = None
        if kind != 0:
            x = np.linspace(0, 1, 256)
            shades = np.clip((x ** np.exp(rng.normal(0, 0.3)) - 0.5) * np.exp(rng.normal(0.15, 0.25)) + 0.5, 0, 1)
            grey = rng.dirichlet((3, 6, 2)).astype(np.float32), np.rint(shades * 255).astype(np.uint8)
        bar = rng.uniform(0.03, WIDEST) if kind != 1 else 0.0
        return Film(grey, (bar, 0.0) if rng.random() < 0.5 else (0.0, bar), int(rng.integers(0, 20)))

    def show(self, rgb: Pixels, *planes: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """`rgb` `[H, W, 3]` as the film shows it, and the `planes` alpha and known: nobody stands on its bars."""
        if self.grey is not None:
            weights, table = self.grey
            rgb = np.asarray(cv2.merge([cv2.LUT(cv2.transform(rgb, weights[None]), table)] * 3), np.uint8)
        height, width = rgb.shape[:2]
        rows, columns = round(self.bars[0] * height), round(self.bars[1] * width)
        bars = np.ones((height, width), bool)
        bars[rows : height - rows, columns : width - columns] = False
        black = np.where(bars[..., None], np.uint8(self.black), rgb)
        return black, *(np.where(bars, plane.dtype.type(of), plane) for plane, of in zip(planes, (0, 1), strict=True))

"""One picture of a clip as planes of luma and chroma, and what their numbers mean.

Frames stay in the clip's own planes from the decoder to the encoder: nothing is converted to RGB at full size
unless a step needs it, and what no step touches keeps its bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[Any]
"""`[H, W]` uint8, or uint16 whose lowest `depth` bits count."""

LUMA = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
"""K_R and K_B by matrix code (ITU-T H.273, table 4; FFmpeg's AVColorSpace has the same codes)."""
BT709, BT601, BT2020 = 1, 6, 9
PQ, HLG = 16, 18


@dataclass(frozen=True)
class Colour:
    """What Y′CbCr values stand for: H.273 codes of matrix, primaries and transfer; full or limited range."""

    matrix: int = BT709
    primaries: int = 1
    transfer: int = 1
    full: bool = False

    @property
    def hdr(self) -> bool:
        return self.transfer in (PQ, HLG)

    def levels(self, depth: int) -> tuple[float, float, float, float]:
        """Luma's black and span, chroma's zero and span, in levels of `depth` bits (H.273, 8.3)."""
        scale = float(1 << (depth - 8))
        if self.full:
            top = float((1 << depth) - 1)
            return 0.0, top, 128 * scale, top
        return 16 * scale, 219 * scale, 128 * scale, 224 * scale

    def to_rgb(self, depth: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`(matrix 3x3, offset 3)`: R′G′B′ in [0, 1] = matrix · (Y, Cb, Cr levels) + offset."""
        matrix = np.linalg.inv(_encoding(self.matrix))
        black, span, zero, wide = self.levels(depth)
        matrix = matrix / np.array([span, wide, wide])
        return matrix, -matrix @ np.array([black, zero, zero])

    def from_rgb(self, depth: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`(matrix 3x3, offset 3)`: (Y, Cb, Cr) levels, not yet rounded, = matrix · R′G′B′ + offset."""
        black, span, zero, wide = self.levels(depth)
        matrix = _encoding(self.matrix) * np.array([[span], [wide], [wide]])
        return matrix, np.array([black, zero, zero])


def _encoding(code: int) -> NDArray[np.float64]:
    """R′G′B′ → Y′ in [0, 1], Cb and Cr in [−½, ½] (H.273, eqs. 38-43)."""
    red, blue = LUMA[code]
    luma = np.array([red, 1 - red - blue, blue])
    cb = (np.array([0, 0, 1]) - luma) / (2 * (1 - blue))
    cr = (np.array([1, 0, 0]) - luma) / (2 * (1 - red))
    return np.stack((luma, cb, cr))


ROUNDED = Fraction(1, 1000)
"""Seconds to which many containers round times: clips of one rate may seem so far apart, and even ones uneven."""
Chroma = Literal["420", "422", "444"]
Siting = tuple[float, float]
LEFT, CENTRE, TOP_LEFT = (0.0, 0.5), (0.5, 0.5), (0.0, 0.0)
"""Where a chroma sample lies among its pixels, across and down: on the first (0), between (½), or on the second (1)."""


@dataclass(frozen=True)
class Format:
    """Shape and meaning of a frame's planes. `depth` is 8, 10, 12 or 16 bits; alpha, if there, has full range."""

    height: int
    width: int
    colour: Colour = Colour()
    depth: int = 8
    chroma: Chroma = "420"
    alpha: bool = False
    aspect: Fraction = Fraction(1)
    """Width of a pixel over its height (sample aspect ratio)."""
    siting: Siting = field(default=CENTRE, compare=False)
    """Of chroma, as far as it is subsampled. Formats that differ in it alone are taken for equal: half a pixel."""

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """`(height, width)` of Y, Cb, Cr and, if there is one, alpha."""
        high = -(-self.height // 2) if self.chroma == "420" else self.height
        wide = self.width if self.chroma == "444" else -(-self.width // 2)
        full = (self.height, self.width)
        return [full, (high, wide), (high, wide), *([full] if self.alpha else [])]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self.depth == 8 else np.uint16)


@dataclass
class Frame:
    """`planes` Y, Cb, Cr (and alpha) as `format` says, upright, shown from `pts` on for `duration` (in `time_base`).

    `passing` holds the packets of sound and subtitles that begin before it ends, with the last picture all others.
    `view(h, w)` is the picture as the network wants it: `[h, w, 3]` uint8 RGB, SDR, averaged by area.
    """

    format: Format
    planes: list[Plane]
    pts: int
    duration: int
    time_base: Fraction
    view: Callable[[int, int], NDArray[np.uint8]] | None = None
    passing: list[Any] = field(default_factory=list)
    key: bool = False

    @property
    def time(self) -> float:
        """Seconds."""
        return float(self.pts * self.time_base)

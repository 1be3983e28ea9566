"""The people of one frame of a clip, told apart in a small picture, and their colours."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.inference.coarse import Coarse
from mattecli.inference.guided import Floats, resize
from mattecli.inference.instances import Apart, shares
from mattecli.inference.output import PRESENT

LARGEST = 256
"""The longer side of that picture: people take a small part of what the network takes."""
BITS = (3, 5, 5)
"""Of L, a and b, that tell colours from each other."""
RARE, SURE = 1e-3, 2.0
"""A share of colours that is as good as none, and the logarithm of odds beyond which a colour says no more."""

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class Sighting:
    """Those whom `coarse` shows, the answer for a frame of `size` (height, width), the largest first, counted from 1.

    `now` `[h, w]` is whose each point is, 0 nobody's; `areas` how many points are whose; `grey` the picture.
    """

    def __init__(self, coarse: Coarse, size: tuple[int, int]) -> None:
        self._coarse = coarse
        self.people = Apart(coarse, coarse.alpha, size, LARGEST)
        self.planes = self.people.planes
        self._whole = self.planes.sum(0)
        self.now: Labels = np.where(self._whole > PRESENT, self.planes.argmax(0), 0).astype(np.uint8)
        self.areas = np.bincount(self.now.ravel(), minlength=len(self.planes))
        self._rgb = resize(coarse.seen, *self.now.shape)
        self.grey: Labels = np.asarray(cv2.cvtColor(self._rgb, cv2.COLOR_RGB2GRAY), np.uint8)
        lab = cv2.split(cv2.cvtColor(self._rgb, cv2.COLOR_RGB2LAB))
        self._colour = np.zeros(self.now.shape, np.int32)
        for plane, bits in zip(lab, BITS, strict=True):
            self._colour = self._colour << bits | plane.astype(np.int32) >> (8 - bits)

    def __len__(self) -> int:
        return len(self.people)

    def colours(self, region: Mask) -> Floats:
        """How large a share of `region` each colour has."""
        counts = np.bincount(self._colour[region], minlength=1 << sum(BITS))
        return np.asarray(counts / max(1, counts.sum()), np.float32)

    def likeness(self, number: int, colours: Floats) -> float:
        """Of somebody's colours and others, in [0, 1] (Bhattacharyya's coefficient)."""
        return float(np.sqrt(self.colours(self.now == number) * colours).sum())

    def odds(self, colours: Floats, others: Floats) -> Floats:
        """For each point, whether its colour is rather one of `colours` (up to 1) or of `others` (down to -1)."""
        odds = np.log((colours + RARE) / (others + RARE)) / SURE
        return np.asarray(odds.clip(-1, 1)[self._colour], np.float32)

    def distance(self, number: int, x: float, y: float) -> float:
        """Of a point from somebody."""
        rows, columns = np.nonzero(self.now == number)
        return float(np.hypot(columns - x, rows - y).min())

    def kept(self, own: Floats, touching: bool) -> Coarse:
        """`own` `[h, w]` of the answer. Only between people who are `touching` an edge is looked for in the picture."""
        if np.array_equal(own, self._whole):
            return self._coarse
        share = shares(np.stack((self._whole - own, own)))[1]
        return self._coarse.times(Coarse(share, self._rgb).at(self._coarse.seen) if touching else share)

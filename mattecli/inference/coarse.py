"""A network's answer at the size it saw, and how it becomes the alpha of the whole picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from mattecli.inference import guided
from mattecli.inference.guided import Floats, Picture


@dataclass(frozen=True)
class Coarse:
    """A network's answer for one picture: `alpha` `[h, w]` in [0, 1], `seen` `[h, w, 3]` what it was shown.

    `linear` is slope `[3, k, l]` and intercept `[k, l]` of networks that give them, often smaller than `alpha`; for
    the others they are fitted when they are first asked for. `instances` `[K, k, l]` are the alphas of those that the
    network told apart, all zeros where it found nobody, `scores` `[K]` how sure it is; None if not asked for.
    """

    alpha: Floats
    seen: Picture
    linear: tuple[Floats, Floats] | None = None
    instances: Floats | None = None
    scores: Floats | None = None

    @property
    def slope(self) -> Floats:
        """Of `guided.apply`, on colours in [0, 1]."""
        return self._lines[0]

    @property
    def intercept(self) -> Floats:
        """Of `guided.apply`."""
        return self._lines[1]

    @cached_property
    def _lines(self) -> tuple[Floats, Floats]:
        if self.linear is not None:
            return self.linear
        return guided.fit(self.seen.astype(np.float32) / np.iinfo(self.seen.dtype).max, self.alpha)

    def at(self, rgb: Picture) -> Floats:
        """The alpha `HxW` of the picture `HxWx3` itself; what a network saw at that size already is not refined."""
        if self._is_all(*rgb.shape[:2]):
            return self.alpha
        return guided.apply(rgb, self.slope, self.intercept)

    def refined_for(self, height: int, width: int) -> Coarse:
        """The same, with the slope and intercept that `at` goes by for a picture of that size."""
        return self.unrefined() if self._is_all(height, width) else self

    def unrefined(self) -> Coarse:
        """The same, but at any size its alpha is only enlarged."""
        return replace(self, linear=(np.zeros((3, *self.alpha.shape), np.float32), self.alpha))

    def times(self, share: Floats) -> Coarse:
        """As much of it as `share` `[k, l]` in [0, 1] says of each point."""

        def kept(planes: Floats) -> Floats:
            return planes * resized(share, *planes.shape[-2:])

        linear = kept(self.slope), kept(self.intercept)
        instances = None if self.instances is None else np.stack([kept(plane) for plane in self.instances])
        return Coarse(kept(self.alpha), self.seen, linear, instances, self.scores)

    def _is_all(self, height: int, width: int) -> bool:
        """Whether alpha is that of a picture of this size, as it is."""
        return self.linear is None and self.alpha.shape == (height, width)


def resized(plane: Floats, height: int, width: int) -> Floats:
    """`plane` `[h, w]` at that size: every point the mean of what it covers, or bilinear."""
    smaller = height * width < plane.size
    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)

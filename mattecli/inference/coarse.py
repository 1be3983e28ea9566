"""A network's answer at the size it saw, and how it becomes the alpha of the whole picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
        if self.linear is None and self.alpha.shape == rgb.shape[:2]:
            return self.alpha
        return guided.apply(rgb, self.slope, self.intercept)

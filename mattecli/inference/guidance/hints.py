"""What a network is told beside the picture: a trimap, the scene without its subject, where the subject may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from mattecli.inference.guided import Floats, Picture, resize, strips


@dataclass(frozen=True)
class Hints:
    """All of one picture, at its size; None where there is none.

    `trimap` `[H, W]` float32: 0 background, 0.5 unknown, 1 foreground. `background` `[H, W, 3]`, uint8 or uint16 RGB:
    the scene without its subject. `region` `[H, W]` float32 in [0, 1]: 0 where no subject can be.
    """

    trimap: Floats | None = None
    background: Picture | None = None
    region: Floats | None = None

    def at(self, height: int, width: int) -> Hints:
        """Of the picture at another size. What is partly known there is unknown."""
        trimap, background = self.trimap, self.background
        if trimap is not None and trimap.shape != (height, width):
            trimap = cv2.resize(trimap, (width, height), interpolation=cv2.INTER_AREA)
            trimap[(trimap > 0) & (trimap < 1)] = 0.5
        return Hints(trimap, None if background is None else resize(background, height, width))

    def inputs(self) -> Mapping[str, Picture]:
        """What goes into `forward` beside the image, by its keyword, `[H, W, C]`."""
        given = {"trimap": None if self.trimap is None else self.trimap[..., None], "background": self.background}
        return {name: picture for name, picture in given.items() if picture is not None}

    def settle(self, alpha: Floats) -> Floats:
        """`alpha` `[H, W]`, exact where the trimap knows and nothing outside the region."""
        if self.trimap is None and self.region is None:
            return alpha
        out = np.empty_like(alpha)
        for rows in strips(*alpha.shape):
            out[rows] = alpha[rows]
            if self.trimap is not None:
                known = self.trimap[rows]
                np.copyto(out[rows], known, where=(known == 0) | (known == 1))
            if self.region is not None:
                out[rows] *= self.region[rows]
        return out


NOTHING = Hints()

"""One training batch, whatever its samples know."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Label(IntEnum):
    """How much a sample knows of its alpha."""

    NONE = 0
    BOXES = 1
    """Boxes round every person: all outside them is background, inside is unknown."""
    MASK = 2
    """A binary mask: right inside and outside, unknown in a band along its edge."""
    MATTE = 3
    """A true (or solved) alpha, right everywhere."""


@dataclass
class Batch:
    """N samples of one size; samples of different label kinds may share a batch.

    `image` `[N, 3, H, W]` RGB in [0, 1]. `alpha` `[N, 1, H, W]` in [0, 1] is the target, and `known`
    `[N, 1, H, W]` in {0, 1} says where it may teach: a box knows only that all outside it is background.
    `label` `[N]` holds `Label` values. `mask` `[N, 1, H, W]` in {0, 1} is the coarse segmentation (MASK and
    MATTE); `trimap` `[N, 1, H, W]` in {0, 0.5, 1}. `foreground` and `background` `[N, 3, H, W]` in [0, 1] are for
    networks that learn or are given them: the layers that composed `image` before blur, noise and JPEG, or, for those
    that are given a plate, the foreground and the plate. `instances` `[N, K, H, W]` are the alphas of K people, all
    zeros where a sample has fewer. A batch of clips has `[N, T, …]` in every field.
    """

    image: Tensor
    alpha: Tensor
    known: Tensor
    label: Tensor
    mask: Tensor | None = None
    trimap: Tensor | None = None
    foreground: Tensor | None = None
    background: Tensor | None = None
    instances: Tensor | None = None

    @property
    def frames(self) -> int:
        """T of clips, 1 of photos."""
        return self.image.shape[1] if self.image.ndim == 5 else 1

    def flat(self) -> Batch:
        """Clips as T·N pictures, all first frames first; photos as they are."""
        if self.image.ndim == 4:
            return self
        return replace(self, **{name: value.transpose(0, 1).flatten(0, 1) for name, value in self.given().items()})

    def given(self) -> dict[str, Tensor]:
        """What the batch has, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

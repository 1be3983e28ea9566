"""Networks made ready, photos and clips through them. The public door is `mattecli.matte` and `mattecli.Matter`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from torch import nn

from mattecli.inference.coarse import Coarse
from mattecli.inference.frames import follow
from mattecli.inference.guidance.hints import Hints
from mattecli.inference.guided import Floats, Picture
from mattecli.inference.network import Matter

__all__ = ["Coarse", "Hints", "Matter", "follow", "matte"]


def matte(
    image: Picture,
    model: str | nn.Module = "realtime",
    device: str = "auto",
    precision: str = "auto",
    *,
    size: int | None = None,
    weights: Path | str | None = None,
) -> Floats:
    """The alpha `HxW` float32 in [0, 1] of `image` `HxWx3` RGB (uint8, or uint16 with 65535 as white).

    >>> alpha = mattecli.matte(cv2.imread("photo.jpg")[..., ::-1])

    The arguments are those of `Matter`; the last network is kept for the next call. Raises `UsageError`.
    """
    return _ready(model, device, precision, size, weights).matte(image)


@lru_cache(maxsize=1)
def _ready(model: str | nn.Module, device: str, precision: str, size: int | None, weights: Path | str | None) -> Matter:
    return Matter(model, device, precision, size=size, weights=weights)

"""The compositing equation (Porter & Duff 1984), the one place it is written."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T", bound=Any)


def composite(alpha: T, foreground: T, background: T) -> T:
    """I = α·F + (1 − α)·B, written B + α·(F − B).

    Torch tensors (`[N, 1, H, W]` with `[N, 3, H, W]`) or numpy arrays (`[H, W, 1]` with `[H, W, 3]`), floats in
    [0, 1], straight foreground; anything that broadcasts.
    """
    image: T = background + alpha * (foreground - background)
    return image

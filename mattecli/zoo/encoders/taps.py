"""An encoder's maps on the way to its last."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def tapped(layers: nn.Sequential, x: Tensor, taps: Sequence[int]) -> list[Tensor]:
    """What the layers numbered `taps` give of `x`, in the order of `taps`."""
    found = {}
    for index, layer in enumerate(layers):
        x = layer(x)
        if index in taps:
            found[index] = x
    return [found[tap] for tap in taps]

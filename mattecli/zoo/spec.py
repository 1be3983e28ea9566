"""What every network of the zoo says of itself and gives back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from mattecli.errors import UsageError

SizeRule = Callable[[int, int, int | None], tuple[int, int]]
"""`(height, width, size) -> (height, width)`: the size a network wants to see a picture of that size at.
`size` replaces the published reference length (`--size`); None keeps it."""


@dataclass(frozen=True)
class Spec:
    """The contract of one network with whoever feeds it.

    `needs` is what `forward` takes beside the image; `size` the published size rule; `recurrent` says that
    `Prediction.state` goes into the next frame's `forward` (zeros are the start of a clip, as None is), and that
    `forward(..., frames=T)` takes T frames of N clips, all first frames first; `instances` that people are told apart;
    `half` that its alpha was measured to stay within 2/255 of fp32 when it runs in 16 bits (autocast). `strategy` is
    how inference runs it on a picture of that size where that isn't one `forward`: `(network, image) -> Prediction`.
    """

    size: SizeRule
    needs: Literal["image", "trimap", "background"] = "image"
    recurrent: bool = False
    instances: bool = False
    half: bool = False
    strategy: Callable[[Any, Tensor], Prediction] | None = None


@dataclass
class Prediction:
    """What `forward` returns. All maps are `[N, C, H, W]`.

    `alpha` in [0, 1] at the size of the image given. `instances` has the alpha of each of K people, all zeros where a
    network that tells up to K apart found fewer. `maps` holds the intermediate outputs under their
    names in the paper; training and parity tests read them. `frames` is what `forward` was told.
    """

    alpha: Tensor
    foreground: Tensor | None = None
    state: tuple[Tensor, ...] | None = None
    instances: Tensor | None = None
    boundary: Tensor | None = None
    maps: dict[str, Tensor] = field(default_factory=dict)
    frames: int = 1


def infer(network: nn.Module, image: Tensor, **given: Any) -> Prediction:
    """What inference takes for `network`'s answer: its `spec`'s strategy's, or that of `forward`."""
    spec: Any = network.spec
    prediction: Prediction = spec.strategy(network, image) if spec.strategy else network(image, **given)
    return prediction


def stays_exact(network: nn.Module, name: str) -> bool:
    """Whether the module `name` of `network` is in one that its `exact` names: fp32 where the rest has 16 bits."""
    return f"{name}.".startswith(tuple(f"{kept}." for kept in getattr(network, "exact", None) or ()))


def native(multiple: int = 1) -> SizeRule:
    """The picture's own size, or the longer side scaled to `size`; each side rounded up to a multiple of `multiple`."""

    def rule(height: int, width: int, size: int | None = None) -> tuple[int, int]:
        scale = size / max(height, width) if size else 1
        height, width = (max(1, math.ceil(round(side * scale) / multiple)) * multiple for side in (height, width))
        return height, width

    return rule


def long_side(reference: int, multiple: int) -> SizeRule:
    """Scale so that the longer side is `reference`, each side rounded to a multiple of `multiple`."""

    def rule(height: int, width: int, size: int | None = None) -> tuple[int, int]:
        scale = (size or reference) / max(height, width)
        return _round(height * scale, multiple), _round(width * scale, multiple)

    return rule


def check_sides(image: Tensor, multiple: int, name: str) -> None:
    """Raise `UsageError` unless the sides of `image` `[N, C, H, W]` are multiples of what the network `name` takes."""
    height, width = image.shape[-2:]
    if height % multiple or width % multiple:
        raise UsageError(f"{name} takes sides that are multiples of {multiple}, not {height}x{width}.")


def _round(length: float, multiple: int) -> int:
    return max(multiple, round(length / multiple) * multiple)

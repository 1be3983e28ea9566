"""Every network of the field behind one door.

    >>> from mattecli import zoo
    >>> zoo.names()[:2]
    ('realtime', 'modnet')
    >>> zoo.card("modnet").paper
    'MODNet: Real-Time Trimap-Free Portrait Matting via Objective Decomposition'
    >>> network = zoo.load("modnet", weights="modnet_photographic_portrait_matting.ckpt")  # doctest: +SKIP

`names` and `card` import no torch; `create` and `load` do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mattecli.errors import UsageError
from mattecli.zoo import cache
from mattecli.zoo.registry import Card, card, names

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Card", "card", "create", "load", "names"]


def create(name: str) -> nn.Module:
    """The network called `name` with fresh weights, in training mode. `UsageError` if there is none."""
    return card(name).build()


def load(name: str, weights: str | Path | None = None, device: str | torch.device = "cpu") -> nn.Module:
    """The network called `name` with its weights, in eval mode on `device`.

    `weights` is a file of ours (safetensors) or the official one; its layout is recognised by its keys and
    no code in it is run. None takes the weights shipped with the package, else what `mattecli models pull` or
    `import` put in the cache. Raises `UsageError`, saying how to bring them, where there are none, and where the file
    belongs to another network; `InputError` for a file that cannot be read. What is solved, not learned
    (`closed-form`, `knn`), needs none.
    """
    from mattecli.zoo import checkpoints

    about = card(name)
    if weights is None:
        weights = cache.find(about)
    if weights is None and about.parameters:
        raise UsageError(f"There are no weights of {name} here: {cache.remedy(about)}.")
    network = about.build() if weights is None else checkpoints.load(name, Path(weights))
    return network.to(device).eval()

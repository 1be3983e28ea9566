"""Every network of the field behind one door.

    >>> from mattecli import zoo
    >>> zoo.names()
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
    no code in it is run. None takes the weights shipped with the package. Raises `UsageError` where there are
    none or the file belongs to another network, `InputError` for a file that cannot be read. What is solved, not
    learned (`closed-form`, `knn`), needs none.
    """
    from mattecli.zoo import checkpoints

    about = card(name)
    if weights is None and not about.parameters:
        return about.build().to(device).eval()
    if weights is None:
        if about.shipped is None or not about.shipped.is_file():
            raise UsageError(
                f"No weights of {name} come with mattecli: pass --weights FILE "
                f"(`mattecli models show {name}` says where they are published)."
            )
        weights = about.shipped
    network = about.build()
    checkpoints.fit(network, checkpoints.read(Path(weights)), name=name, source=str(weights))
    return network.to(device).eval()

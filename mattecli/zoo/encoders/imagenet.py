"""What encoders trained on ImageNet ask for: its colour statistics, and their weights from a local file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mattecli.errors import UsageError

Colour = tuple[float, float, float]
MEAN: Colour = (0.485, 0.456, 0.406)
STD: Colour = (0.229, 0.224, 0.225)


def normalise(image: Tensor, mean: Colour = MEAN, std: Colour = STD) -> Tensor:
    """RGB `[N, 3, H, W]` in [0, 1] less a mean, divided by a standard deviation, by default ImageNet's.

    The colours are made on the image's device: a CUDA graph can't hold a copy from the host.
    """
    less, by = (torch.cat([image.new_full((1, 1, 1), share) for share in colour]) for colour in (mean, std))
    return (image - less) / by


def start(encoder: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy ImageNet weights (a state_dict in torchvision's layout) into `encoder`.

    What the encoder lacks, such as the classifier, is left out. A first convolution with more inputs than RGB takes
    the colours' kernels and zeros for the rest. Where published files have other names, the encoder's `own_key`
    translates them. Raises `UsageError` where the weights are of another encoder.
    """
    own_key = getattr(encoder, "own_key", str)
    tensors = {own_key(key): value for key, value in tensors.items()}
    own = encoder.state_dict()
    found = {}
    for key, value in own.items():
        given = tensors.get(key, value if key.endswith("num_batches_tracked") else None)
        if given is not None and given.ndim == 4 and given.shape[1] == 3 and given.shape != value.shape:
            given = torch.cat((given, given.new_zeros(len(given), value.shape[1] - 3, *given.shape[2:])), 1)
        if given is None or given.shape != value.shape:
            fault = "lack" if given is None else "have another shape of"
            raise UsageError(f"These are no ImageNet weights of this {type(encoder).__name__}: they {fault} {key}.")
        found[key] = given
    refuse_larger(encoder, tensors)
    encoder.load_state_dict(found)


def refuse_larger(encoder: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Raise `UsageError` where `tensors`, by the encoder's own keys, have more in a stage before its last part.

    So a ResNet-101's, which hold all of a ResNet-50's, are told from them. The last part may be cut short.
    """
    own = encoder.state_dict()
    stages = [name for name, _ in encoder.named_children()][:-1]
    for key in tensors:
        if key not in own and key.split(".")[0] in stages and key.endswith((".weight", ".running_mean")):
            raise UsageError(f"These are no ImageNet weights of this {type(encoder).__name__}: they also have {key}.")

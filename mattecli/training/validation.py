"""Validation on held-out photos: the averaged weights, at 512 on the long side.

A network that is given a trimap gets that of the true alpha, as in training; one that is given a background plate gets
the plate of the sample, which `Mixture.validation` has composed then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from mattecli.evaluation import metrics
from mattecli.mixing.sampling import Sample, trimap
from mattecli.mixing.sources import Pixels
from mattecli.zoo.spec import Spec

LONG_SIDE = 512
METRICS = {"iou": metrics.iou, "mad": metrics.mad, "mse": metrics.mse}


@dataclass(frozen=True)
class Held:
    """A held-out photo, 512 on its long side: `image` and `background` `[1, 3, H, W]`, `alpha` `[H, W]`, in [0, 1]."""

    image: torch.Tensor
    alpha: NDArray[np.float32]
    name: str
    background: torch.Tensor | None = None


def hold(samples: Iterable[Sample]) -> list[Held]:
    """Scale the samples once, for every validation to come."""
    return [_scaled(sample) for sample in samples]


def predict(
    network: nn.Module, held: Iterable[Held], device: torch.device, bf16: bool
) -> Iterator[tuple[Held, NDArray[np.float32]]]:
    """Pair each photo with the network's alpha at the photo's size; the network sees its own size."""
    for photo in held:
        height, width = photo.alpha.shape
        spec = cast(Spec, network.spec)
        size = spec.size(height, width, None)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            beside = {name: plane.to(device) for name, plane in _beside(photo, spec.needs, size).items()}
            alpha = _at(network(_at(photo.image.to(device), size), **beside).alpha.float(), (height, width))
        yield photo, alpha[0, 0].clamp(0, 1).cpu().numpy()


def _beside(photo: Held, needs: str, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """What a network of such `needs` is given with the photo at `size`."""
    if needs == "trimap":
        alpha = np.asarray(cv2.resize(photo.alpha, size[::-1], interpolation=cv2.INTER_AREA), np.float32)
        return {"trimap": torch.from_numpy(trimap(alpha))[None, None]}
    if needs == "background" and photo.background is not None:
        return {"background": _at(photo.background, size)}
    return {}


def _at(plane: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if plane.shape[-2:] == size:
        return plane
    return F.interpolate(plane, size, mode="bilinear", antialias=True).clamp(0, 1)


def measure(pairs: Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> dict[str, float]:
    """Mean IoU (at 0.5), MAD and MSE over pairs of (alpha, truth)."""
    rows = [[metric(alpha, truth) for metric in METRICS.values()] for alpha, truth in pairs]
    return dict(zip(METRICS, map(float, np.mean(rows, axis=0)), strict=True))


def strip(photo: Held, alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Image, alpha and target side by side, uint8 `[H, 3 W, 3]`."""
    image = photo.image[0].permute(1, 2, 0).numpy()
    planes = [np.repeat(plane[..., None], 3, axis=2) for plane in (alpha, photo.alpha)]
    return np.round(np.concatenate([image, *planes], axis=1) * 255).astype(np.uint8)


def _scaled(sample: Sample) -> Held:
    height, width = sample.alpha.shape
    scale = LONG_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    alpha = np.asarray(cv2.resize(sample.alpha, size, interpolation=how), np.float32)

    def shrunk(rgb: Pixels) -> torch.Tensor:
        pixels = cv2.resize(rgb, size, interpolation=how).astype(np.float32)
        return torch.from_numpy(pixels / 255).permute(2, 0, 1)[None].contiguous()

    background = None if sample.background is None else shrunk(sample.background)
    return Held(shrunk(sample.image), alpha, sample.name, background)

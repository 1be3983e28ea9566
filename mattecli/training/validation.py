"""Validation on held-out photos: the averaged weights, at 512 on the long side."""

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
from mattecli.mixing.sampling import Sample
from mattecli.zoo.spec import Spec

LONG_SIDE = 512
METRICS = {"iou": metrics.iou, "mad": metrics.mad, "mse": metrics.mse}


@dataclass(frozen=True)
class Held:
    """A held-out photo, 512 on its long side: `image` `[1, 3, H, W]`, `alpha` `[H, W]`, in [0, 1]."""

    image: torch.Tensor
    alpha: NDArray[np.float32]
    name: str


def hold(samples: Iterable[Sample]) -> list[Held]:
    """Scale the samples once, for every validation to come."""
    return [_scaled(sample) for sample in samples]


def predict(
    network: nn.Module, held: Iterable[Held], device: torch.device, bf16: bool
) -> Iterator[tuple[Held, NDArray[np.float32]]]:
    """Pair each photo with the network's alpha at the photo's size; the network sees its own size."""
    for photo in held:
        height, width = photo.alpha.shape
        image = photo.image.to(device)
        size = cast(Spec, network.spec).size(height, width, None)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            if size != (height, width):
                image = F.interpolate(image, size, mode="bilinear", antialias=True).clamp(0, 1)
            alpha = network(image).alpha.float()
            if size != (height, width):
                alpha = F.interpolate(alpha, (height, width), mode="bilinear", antialias=True)
        yield photo, alpha[0, 0].clamp(0, 1).cpu().numpy()


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
    image = cv2.resize(sample.image, size, interpolation=how)
    alpha = np.asarray(cv2.resize(sample.alpha, size, interpolation=how), np.float32)
    tensor = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()
    return Held(tensor, alpha, sample.name)

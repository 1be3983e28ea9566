"""What networks guided by a trimap share. A trimap is `[N, 1, H, W]`: 0 background, 0.5 unknown, 1 foreground."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from mattecli.errors import UsageError
from mattecli.mixing.batch import Batch


def required(trimap: Tensor | None, name: str) -> Tensor:
    """`trimap` itself. Raises `UsageError` without one."""
    if trimap is None:
        raise UsageError(f"{name} needs a trimap beside the image.")
    return trimap


def keep_known(alpha: Tensor, trimap: Tensor) -> Tensor:
    """`alpha` in the unknown region, the trimap where it is 0 or 1."""
    return torch.where((trimap > 0) & (trimap < 1), alpha, trimap)


def proximity(region: Tensor, deviations: Sequence[float]) -> Tensor:
    """Gaussians of the Euclidean distance to `region`, boolean `[N, 1, H, W]` → `[N, K, H, W]`, zero without a region.

    `deviations` are K standard deviations in pixels. OpenCV finds the distances, on the CPU and without gradients.
    """
    count, _, height, width = region.shape
    maps = np.zeros((count, len(deviations), height, width), np.float32)
    for planes, inside in zip(maps, region[:, 0].cpu().numpy(), strict=True):
        if inside.any():
            outside = (~inside).astype(np.uint8)
            # whole numbers; OpenCV's last digit depends on where in memory the picture lies
            squared = np.rint(cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) ** 2)
            planes[:] = [np.exp(-squared / (2 * deviation**2)) for deviation in deviations]
    return torch.from_numpy(maps).to(region.device)


def unknown(batch: Batch, name: str) -> Tensor:
    """1 in the trimap's unknown region where the label is known, else 0. Raises `UsageError` without a trimap."""
    if batch.trimap is None:
        raise UsageError(f"{name} learns from mattes with trimaps; this batch has no trimap.")
    return ((batch.trimap > 0) & (batch.trimap < 1)).to(batch.alpha.dtype) * batch.known


def layers(batch: Batch, name: str) -> tuple[Tensor, Tensor]:
    """Foreground and background of a batch. Raises `UsageError` where it has not both."""
    if batch.foreground is None or batch.background is None:
        raise UsageError(f"{name} learns from composites; this batch has no foreground or no background.")
    return batch.foreground, batch.background

"""The field's image metrics, as the official MATLAB code of composition-1k computes them (Xu et al. 2017).

Every function takes two mattes `[H, W]` of one size: floating point in [0, 1], or uint8 / uint16, which count as
value/255 and value/65535. `region` `[H, W]` bool limits what is summed (for composition-1k the unknown region of the
trimap, see `unknown`); None is the whole image. Filters and components always see the whole image, and nothing
outside the region is overwritten.

As in the official code, SAD, Grad and Conn are sums divided by 1000, MSE is a mean, mattes are single precision,
Grad stretches each matte to [0, 1] first, and Conn never takes the background for a component. MAD and IoU are not
in that code; MAD is a mean.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Plane: TypeAlias = NDArray[Any]
Region: TypeAlias = NDArray[np.bool_] | None

METRICS = ("sad", "mse", "mad", "grad", "conn", "iou")
UNKNOWN = 128
"""The value of the unknown region in an 8-bit trimap."""

CONN_STEP = 0.1
CONN_TOLERANCE = 0.15
GRAD_SIGMA = 1.4


def measure(prediction: Plane, truth: Plane, region: Region = None) -> dict[str, float]:
    """All of `METRICS` by name."""
    p, g, r = _planes(prediction, truth, region)
    return {
        "sad": sad(p, g, r),
        "mse": mse(p, g, r),
        "mad": mad(p, g, r),
        "grad": grad(p, g, r),
        "conn": conn(p, g, r),
        "iou": iou(p, g, r),
    }


def unknown(trimap: Plane) -> NDArray[np.bool_]:
    """The unknown region of an 8-bit trimap `[H, W]`: where it is exactly 128."""
    region: NDArray[np.bool_] = trimap == UNKNOWN
    return region


def as_float(plane: Plane) -> NDArray[np.float32]:
    """A matte in [0, 1], single precision, of floating point, uint8 or uint16."""
    if plane.dtype.kind == "u":
        return plane.astype(np.float32) / np.float32(np.iinfo(plane.dtype).max)
    return plane.astype(np.float32, copy=False)


def sad(prediction: Plane, truth: Plane, region: Region = None) -> float:
    """Sum of absolute differences / 1000."""
    p, g, r = _planes(prediction, truth, region)
    return _total(np.abs(p - g), r) / 1000


def mse(prediction: Plane, truth: Plane, region: Region = None) -> float:
    """Mean squared error; NaN if the region is empty."""
    p, g, r = _planes(prediction, truth, region)
    return _mean(np.square(p - g), r)


def mad(prediction: Plane, truth: Plane, region: Region = None) -> float:
    """Mean absolute difference; NaN if the region is empty."""
    p, g, r = _planes(prediction, truth, region)
    return _mean(np.abs(p - g), r)


def grad(prediction: Plane, truth: Plane, region: Region = None) -> float:
    """Gradient error / 1000 (Rhemann et al. 2009): squared differences of Gaussian-derivative magnitudes, σ 1.4."""
    p, g, r = _planes(prediction, truth, region)
    return _total(np.square(_magnitude(p) - _magnitude(g)), r) / 1000


def conn(prediction: Plane, truth: Plane, region: Region = None) -> float:
    """Connectivity error / 1000 (Rhemann et al. 2009), thresholds 0.1 … 1, 4-connected."""
    p, g, r = _planes(prediction, truth, region)
    level = _connected_level(np.minimum(p, g))
    return _total(np.abs(_connectivity(p, level) - _connectivity(g, level)), r) / 1000


def iou(prediction: Plane, truth: Plane, region: Region = None) -> float:
    """Intersection over union of alpha > 0.5; 1 if neither has such a pixel."""
    p, g, r = _planes(prediction, truth, region)
    p, g = p > 0.5, g > 0.5
    union = _total(p | g, r)
    return _total(p & g, r) / union if union else 1.0


def _planes(prediction: Plane, truth: Plane, region: Region) -> tuple[Plane, Plane, Region]:
    if prediction.ndim != 2 or prediction.shape != truth.shape:
        raise ValueError(f"two mattes [H, W] of one size are needed, not {prediction.shape} and {truth.shape}")
    if region is not None and (region.shape != truth.shape or region.dtype != np.bool_):
        raise ValueError(f"a boolean region of size {truth.shape} is needed, not {region.dtype} {region.shape}")
    return as_float(prediction), as_float(truth), region


def _total(values: Plane, region: Region) -> float:
    return float((values if region is None else values[region]).sum(dtype=np.float64))


def _mean(values: Plane, region: Region) -> float:
    count = values.size if region is None else np.count_nonzero(region)
    return _total(values, region) / count if count else math.nan


def _magnitude(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gradient magnitude of the matte stretched to [0, 1]; 0 everywhere if it is constant."""
    low, high = float(plane.min()), float(plane.max())
    if low == high:
        return np.zeros_like(plane)
    stretched = (plane - np.float32(low)) / np.float32(high - low)
    smooth, slope = _kernels()
    # The filter is odd, so correlation differs from convolution by a sign that the magnitude drops.
    along_x = cv2.sepFilter2D(stretched, cv2.CV_32F, slope, smooth, borderType=cv2.BORDER_REPLICATE)
    along_y = cv2.sepFilter2D(stretched, cv2.CV_32F, smooth, slope, borderType=cv2.BORDER_REPLICATE)
    return cv2.magnitude(along_x, along_y).astype(np.float32, copy=False)


def _kernels() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A Gaussian and its derivative; their outer product is the official filter of L2 norm 1."""
    half = math.ceil(GRAD_SIGMA * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * GRAD_SIGMA * 0.01)))
    x = np.arange(-half, half + 1, dtype=np.float64)
    smooth = np.exp(-(x**2) / (2 * GRAD_SIGMA**2))
    slope = x * smooth
    return smooth / np.linalg.norm(smooth), slope / np.linalg.norm(slope)


def _connected_level(shared: NDArray[np.float32]) -> NDArray[np.float32]:
    """Per pixel, the last threshold at which it lay in the largest component of `shared` ≥ threshold."""
    steps = np.arange(round(1 / CONN_STEP) + 1) / round(1 / CONN_STEP)
    level = np.ones_like(shared)
    staying = np.ones(shared.shape, np.bool_)
    for below, threshold in itertools.pairwise(steps):
        largest = _largest_component(shared >= np.float32(threshold))
        level[staying & ~largest] = below
        staying &= largest
        if not staying.any():
            break
    return level


def _largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    return labels == 1 + int(areas.argmax()) if areas.size else np.zeros_like(mask)


def _connectivity(plane: NDArray[np.float32], level: NDArray[np.float32]) -> NDArray[np.float32]:
    distance = plane - level
    return 1 - np.where(distance >= np.float32(CONN_TOLERANCE), distance, np.float32(0))

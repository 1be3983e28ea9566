"""The field's image metrics, as the official MATLAB code of composition-1k computes them (Xu et al. 2017).

Every function takes two mattes `[H, W]` of one size: floating point in [0, 1], or uint8 / uint16, which count as
value/255 and value/65535. `region` `[H, W]` bool limits what is summed (for composition-1k the unknown region of the
trimap, see `unknown`); None is the whole image. Filters and components always see the whole image, and nothing
outside the region is overwritten.

As in the official code, SAD, Grad and Conn (Rhemann et al. 2009) are sums divided by 1000, MSE is a mean, mattes are
single precision, Grad stretches each matte to [0, 1] first, and Conn (thresholds 0.1 … 1, 4-connected) never takes the
background for a component. MAD and IoU are not in that code; MAD is a mean. Of an empty region means are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Plane: TypeAlias = NDArray[Any]
Region: TypeAlias = NDArray[np.bool_] | None
Pixel: TypeAlias = tuple[int, int]
"""Column and row."""

METRICS = ("sad", "mse", "mad", "grad", "conn", "iou")
UNKNOWN = 128
"""The value of the unknown region in an 8-bit trimap."""

FILLED = 2
"""What marks the pixels of a mask (0 and 1) that a fill has reached."""
CONN_STEP = 0.1
CONN_TOLERANCE = 0.15
GRAD_SIGMA = 1.4


def measure(prediction: Plane, truth: Plane, region: Region = None) -> dict[str, float]:
    """All of `METRICS` by name."""
    return measure_regions(prediction, truth, {"": region})[""]


def measure_regions(prediction: Plane, truth: Plane, regions: Mapping[str, Region]) -> dict[str, dict[str, float]]:
    """All of `METRICS` by name, for each of `regions` by its name; filters and components are done once for all."""
    for region in regions.values():
        p, g = _planes(prediction, truth, region)
    difference, steepness, connectivity = np.abs(p - g), _steepness_error(p, g), _connectivity_error(p, g)
    square = np.square(difference)
    return {
        name: {
            "sad": _total(difference, region) / 1000,
            "mse": _mean(square, region),
            "mad": _mean(difference, region),
            "grad": _total(steepness, region) / 1000,
            "conn": _total(connectivity, region) / 1000,
            "iou": iou(p, g, region),
        }
        for name, region in regions.items()
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


def mse(prediction: Plane, truth: Plane) -> float:
    """Mean squared error."""
    p, g = _planes(prediction, truth)
    return _mean(np.square(p - g))


def mad(prediction: Plane, truth: Plane) -> float:
    """Mean absolute difference."""
    p, g = _planes(prediction, truth)
    return _mean(np.abs(p - g))


def iou(prediction: Plane, truth: Plane, region: Region = None) -> float:
    """Intersection over union of alpha > 0.5; 1 if neither has such a pixel."""
    p, g = (plane > 0.5 for plane in _planes(prediction, truth, region))
    union = _count(p | g, region)
    return _count(p & g, region) / union if union else 1.0


def _planes(prediction: Plane, truth: Plane, region: Region = None) -> tuple[Plane, Plane]:
    if prediction.ndim != 2 or prediction.shape != truth.shape:
        raise ValueError(f"two mattes [H, W] of one size are needed, not {prediction.shape} and {truth.shape}")
    if region is not None and (region.shape != truth.shape or region.dtype != np.bool_):
        raise ValueError(f"a boolean region of size {truth.shape} is needed, not {region.dtype} {region.shape}")
    return as_float(prediction), as_float(truth)


def _total(values: Plane, region: Region = None) -> float:
    return float((values if region is None else values[region]).sum(dtype=np.float64))


def _count(values: NDArray[np.bool_], region: Region) -> int:
    return int(np.count_nonzero(values if region is None else values & region))


def _mean(values: Plane, region: Region = None) -> float:
    count = values.size if region is None else np.count_nonzero(region)
    return _total(values, region) / count if count else math.nan


def _steepness_error(p: NDArray[np.float32], g: NDArray[np.float32]) -> NDArray[np.float32]:
    """What Grad adds up, per pixel: squared differences of Gaussian-derivative magnitudes, σ 1.4."""
    error: NDArray[np.float32] = np.square(_magnitude(p) - _magnitude(g))
    return error


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


def _connectivity_error(p: NDArray[np.float32], g: NDArray[np.float32]) -> NDArray[np.float32]:
    """What Conn adds up, per pixel."""
    level = _connected_level(np.minimum(p, g))
    error: NDArray[np.float32] = np.abs(_connectivity(p, level) - _connectivity(g, level))
    return error


def _connected_level(shared: NDArray[np.float32]) -> NDArray[np.float32]:
    """Per pixel, the last threshold up to which it lay in the largest component of `shared` ≥ threshold.

    The thresholds come from the highest to the lowest, so that each set of pixels holds the one before.
    """
    steps = (np.arange(round(1 / CONN_STEP) + 1) / round(1 / CONN_STEP)).astype(np.float32)
    survived = np.zeros(shared.shape, np.uint8)
    seed = None
    for threshold in steps[:0:-1]:
        largest, seed = _largest_component(shared >= threshold, seed)
        survived += 1
        survived *= largest
    return steps[survived]


def _largest_component(mask: NDArray[np.bool_], seed: Pixel | None) -> tuple[NDArray[np.bool_], Pixel | None]:
    """The largest component, and a pixel of it; `seed` is one of `mask` that is likely to be in there.

    Filling from the seed is ten times as fast as labelling, and enough where it fills more than half of the mask.
    """
    if seed is not None:
        filled = mask.astype(np.uint8)
        area, *_ = cv2.floodFill(filled, None, seed, FILLED, flags=4)
        if 2 * area > np.count_nonzero(mask):
            return filled == FILLED, seed
    count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=4)
    if count == 1:
        return mask, None
    largest = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    row, column = divmod(int(largest.argmax()), mask.shape[1])
    return largest, (column, row)


def _connectivity(plane: NDArray[np.float32], level: NDArray[np.float32]) -> NDArray[np.float32]:
    distance = plane - level
    distance *= distance >= np.float32(CONN_TOLERANCE)
    connectivity: NDArray[np.float32] = 1 - distance
    return connectivity

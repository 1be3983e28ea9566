"""Closed-form matting (Levin, Lischinski, Weiss: "A Closed-Form Solution to Natural Image Matting", PAMI 2008).

Only the unknown pixels of a trimap are solved for, with the matting Laplacian of only those windows that touch
them: a thin band in a large photo costs what the band costs, in time and in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.errors import UsageError

Map = NDArray[np.float32]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_WINDOW = 9
_CHUNK = 1 << 15
"""Windows, or pixels, worked on at once."""
_NEAR = np.array([(y, x) for y in range(-2, 3) for x in range(-2, 3)])
"""(down, across) of the 25 pixels that share a window with one, row by row."""
_STEPS = np.array([5 * y + x for y in range(3) for x in range(3)])
_PLACE = len(_NEAR) // 2 + _STEPS - _STEPS[:, None]
"""Which of the 25 pixel j of a window is to pixel i: `[9, 9]`."""


def solve(
    image: Map,
    trimap: Map,
    *,
    epsilon: float = 1e-7,
    tolerance: float = 1e-5,
    prior: Map | None = None,
    confidence: Map | None = None,
) -> Map:
    """The alpha, float32 `[H, W]` in [0, 1], that minimises αᵀLα + Σ confidence·(α − prior)² (section 4 of the paper).

    `image` float32 RGB `[H, W, 3]` in [0, 1]. `trimap` `[H, W]`: 0 background, 1 foreground, anything between unknown;
    known pixels keep their value exactly. `prior` and `confidence` `[H, W]`, optional, pull unknown pixels softly
    towards a guess. `epsilon` regularises the colour lines of the 3 × 3 windows (equation 12). Conjugate gradients
    with an incomplete Cholesky factor run until the residual is `tolerance` of the right-hand side.

    Raises UsageError without pymatting, and ValueError if the system does not converge.
    """
    unknown = (trimap > 0) & (trimap < 1)
    alpha = np.where(unknown, 0, trimap).astype(np.float32)
    if not unknown.any():
        return alpha
    matrix, right = system(image, alpha, unknown, epsilon)
    if prior is not None and confidence is not None:
        weight = confidence[unknown].astype(np.float64)
        matrix.setdiag(matrix.diagonal() + weight)
        right += weight * prior[unknown]
    if not right.any():  # with background alone
        return alpha
    alpha[unknown] = np.clip(_solve_positive_definite(matrix, right, tolerance), 0, 1)
    return alpha


def system(image: Map, alpha: Map, unknown: NDArray[np.bool_], epsilon: float) -> tuple[Any, Floats]:
    """(L_UU as a scipy CSC matrix, −L_UK α_K): the matting Laplacian with the known pixels eliminated.

    Unknown pixels are numbered row by row. Windows that would leave the picture don't exist, as in the paper's code.
    """
    pixels = np.flatnonzero(unknown)
    number = np.full(unknown.size, -1, np.int32)
    number[pixels] = np.arange(len(pixels))
    colours, alpha = image.reshape(-1, 3), alpha.ravel()
    weights, right = np.zeros((len(pixels), len(_NEAR))), np.zeros(len(pixels))
    for window in _windows(unknown):
        laplacian = _window_laplacians(colours[window].astype(np.float64), epsilon)
        rows = number[window]
        inside = rows >= 0
        flow = np.einsum("wij,wj->wi", laplacian, np.where(inside, 0, alpha[window]))
        for i in range(_WINDOW):  # no pixel is the i-th of two windows, so that += adds all
            right[rows[inside[:, i], i]] -= flow[inside[:, i], i]
            for j in range(_WINDOW):
                both = inside[:, i] & inside[:, j]
                weights[rows[both, i], _PLACE[i, j]] += laplacian[both, i, j]
    return _matrix(weights, pixels, number, unknown.shape[1]), right


def _matrix(weights: Floats, pixels: Integers, number: NDArray[np.int32], width: int) -> Any:
    """From `weights` `[pixels, 25]` of each pixel's neighbours; it is symmetric, so its rows are its columns."""
    there = weights != 0
    ends = np.concatenate(([0], np.cumsum(np.count_nonzero(there, axis=1))))
    weights = weights[there]
    columns = np.empty(len(weights), np.int32)
    for part in range(0, len(pixels), _CHUNK):
        some = slice(part, part + _CHUNK)
        near = pixels[some, None] + _NEAR @ (width, 1)
        columns[ends[part] : ends[min(part + _CHUNK, len(pixels))]] = number[near[there[some]]]
    return _optional("scipy.sparse").csc_matrix((weights, columns, ends), (len(pixels), len(pixels)))


def _windows(unknown: NDArray[np.bool_]) -> Iterator[Integers]:
    """Flat pixel numbers `[windows, 9]` of the 3 × 3 windows that lie in the picture and touch an unknown pixel, some
    at a time: what a window takes while it is worked on is ten times what it leaves behind."""
    height, width = unknown.shape
    touching = cv2.dilate(unknown.astype(np.uint8), np.ones((3, 3), np.uint8))
    y, x = np.nonzero(touching[1 : height - 1, 1 : width - 1])
    corner = (y * width + x).astype(np.int64)
    offsets = (np.arange(3)[:, None] * width + np.arange(3)).ravel()
    for part in range(0, len(corner), _CHUNK):
        yield np.asarray(corner[part : part + _CHUNK, None] + offsets, dtype=np.int64)


def _window_laplacians(colours: Floats, epsilon: float) -> Floats:
    """δ_ij − (1 + (I_i − μ)ᵀ(Σ + ε/9)⁻¹(I_j − μ)) / 9 (equation 12): `[windows, 9, 9]` from `[windows, 9, 3]`."""
    centred = colours - colours.mean(axis=1, keepdims=True)
    transposed = centred.transpose(0, 2, 1)
    covariance = (transposed @ centred + epsilon * np.eye(3)) / _WINDOW
    affinity = centred @ np.linalg.inv(covariance) @ transposed
    return np.asarray(np.eye(_WINDOW) - (1 + affinity) / _WINDOW)


def _solve_positive_definite(matrix: Any, right: Floats, tolerance: float) -> Floats:
    pymatting = _optional("pymatting")
    factor = pymatting.ichol(matrix, discard_threshold=1e-4, max_nnz=200 * matrix.shape[0])
    return np.asarray(pymatting.cg(matrix.T, right, M=factor, rtol=tolerance, maxiter=2000))


def _optional(module: str) -> Any:
    """A module of the `train` extra. Raises UsageError if it isn't installed."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            f"Solving mattes needs {module}, which isn't installed: pip install 'mattecli[train]'."
        ) from error

"""Planes padded, shrunk and enlarged by whole factors, and the squares they fall into.

A sample of a shrunken plane stands for a whole rectangle of samples; past the last row or column they repeat.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattecli.media.clips.planes.frame import Format, Plane

Floats = NDArray[Any]
"""float32."""
Size = tuple[int, int]
"""Rows and columns."""
ROWS = 160
"""Of a picture worked on at once in float32: few enough for the cache, enough that calls cost nothing."""
BATCH = 512
"""Squares worked on at once."""


def steps(form: Format) -> Size:
    """Rows and columns of luma that a chroma sample stands for."""
    return (2 if form.chroma == "420" else 1), (1 if form.chroma == "444" else 2)


def shrink(plane: Plane, by: Size) -> Plane:
    """Averaged over `by` samples, powers of 2."""
    rows, columns = by
    while rows > 1 or columns > 1:
        plane = _halve(plane, min(rows, 2), min(columns, 2))
        rows, columns = max(1, rows // 2), max(1, columns // 2)
    return plane


def _halve(plane: Plane, rows: int, columns: int) -> Plane:
    plane = pad(plane, (rows, columns))
    height, width = plane.shape[0] // rows, plane.shape[1] // columns
    # half way between two samples, linear interpolation is their mean, and a quick one
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)).reshape(height, width)


def pad(plane: Plane, to: Size) -> Plane:
    """As it is, or with its last row and column repeated until they are multiples of `to`."""
    rows, columns = -plane.shape[0] % to[0], -plane.shape[1] % to[1]
    if not rows and not columns:
        return plane
    return np.asarray(cv2.copyMakeBorder(plane, 0, rows, 0, columns, cv2.BORDER_REPLICATE))


def enlarge(plane: Plane, by: Size, height: int, width: int) -> Plane:
    """Bilinearly, and cut to `height` × `width`."""
    high, wide = plane.shape[0] * by[0], plane.shape[1] * by[1]
    return np.asarray(cv2.resize(plane, (wide, high), interpolation=cv2.INTER_LINEAR))[:height, :width]


def window(plane: Floats, by: Size, rows: slice, width: int) -> Floats:
    """The `rows` of `plane` enlarged bilinearly, cut to `width`."""
    first, end = max(0, rows.start // by[0] - 1), -(-rows.stop // by[0]) + 1
    near = plane[first:end]
    return enlarge(near, by, *near.shape * np.array(by))[rows.start - first * by[0] : rows.stop - first * by[0], :width]


@dataclass(frozen=True)
class Band:
    """Rows of a picture that begin and end with rows of a smaller one: `period` there are `small` here."""

    rows: slice
    period: int
    small: int

    def resized(self, plane: Floats, width: int) -> Floats:
        """These rows of the smaller `plane` resized bilinearly to the picture's size; as of the whole of it."""
        first = max(0, self.rows.start // self.period - 1)
        near = plane[first * self.small : (-(-self.rows.stop // self.period) + 1) * self.small]
        high = len(near) // self.small * self.period
        large = np.asarray(cv2.resize(near, (width, high), interpolation=cv2.INTER_LINEAR)).reshape(high, width)
        return large[self.rows.start - first * self.period : self.rows.stop - first * self.period]


def bands(height: int, small: int) -> Iterator[Band]:
    """Bands of about `ROWS` rows, or of more where rows of the two sizes seldom begin together."""
    shared = math.gcd(height, small)
    period = height // shared
    rows = max(1, ROWS // period) * period
    return (Band(slice(top, min(top + rows, height)), period, small // shared) for top in range(0, height, rows))


@dataclass(frozen=True)
class Squares:
    """Some of the squares of planes that are padded to whole ones, all in one array `[N, rows, columns]`."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]

    def batches(self) -> Iterator[Squares]:
        for first in range(0, len(self.rows), BATCH):
            part = slice(first, first + BATCH)
            yield Squares(self.rows[part], self.columns[part])

    def take(self, plane: Plane, size: Size) -> Plane:
        """The squares of `plane`, of `size` each there."""
        return np.asarray(_squares(plane, size)[self.rows, self.columns])

    def put(self, plane: Plane, size: Size, values: Plane) -> None:
        _squares(plane, size)[self.rows, self.columns] = values

    def enlarged(self, shrunken: Floats, by: Size, size: Size) -> Floats:
        """The squares, of `size` there, of `shrunken` enlarged bilinearly `by`; it has a sample more on each side."""
        high, wide = size[0] // by[0], size[1] // by[1]
        near = np.lib.stride_tricks.sliding_window_view(shrunken, (high + 2, wide + 2))
        squares = near[self.rows * high, self.columns * wide]
        found: Floats = _bilinear(high, by[0]).T @ (squares @ _bilinear(wide, by[1]))
        return found


def _squares(plane: Plane, size: Size) -> Plane:
    high, wide = size
    return plane.reshape(plane.shape[0] // high, high, plane.shape[1] // wide, wide).swapaxes(1, 2)


def _bilinear(samples: int, by: int) -> Floats:
    """Weights `[samples + 2, samples · by]` of the samples of a square and the two beside it."""
    place = (np.arange(samples * by) + 0.5) / by + 0.5
    weights: Floats = np.maximum(0, 1 - np.abs(place - np.arange(samples + 2)[:, None])).astype(np.float32)
    return weights


def extremes(plane: Plane, size: Size) -> tuple[NDArray[Any], NDArray[Any]]:
    """The smallest and the largest level of each square."""
    rows = plane.reshape(-1, size[0], plane.shape[1])
    across = (len(rows), -1, size[1])
    return rows.min(1).reshape(across).min(2), rows.max(1).reshape(across).max(2)
